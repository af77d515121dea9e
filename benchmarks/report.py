"""From pytest-benchmark's JSON to ``MACHINE.md`` and ``MACHINE.json``.

    python -m benchmarks.report benchmark.json FOLDER

Ordered by script and case, sdekit first, so that two reports can be compared line by line. What an
earlier report of the same machine says of other scripts is kept, with its date. Curves of error
against work come last; ``benchmarks.precision.picture`` and
``benchmarks.likelihood.picture`` draw them from the JSON.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.likelihood.table import markdown as likelihood_lines
from benchmarks.precision.table import markdown as precision_lines

QUESTIONS = {
    "bench_noise": "Normals",
    "bench_steps": "One fused step",
    "bench_trajectory": "An ensemble of paths",
    "bench_systems": "Six equations, by the number of paths",
    "bench_components": "Cost by the number of components",
    "bench_compile": "The first call",
    "bench_sampler": "The sampler's loop",
    "bench_schedulers": "A sampler's step besides the network",
    "bench_likelihood": "The parts of a log-likelihood",
    "bench_bridge": "A half-step of a Schrödinger bridge",
    "bench_precision": "Error against work",
}


def rows(data: dict[str, Any]) -> list[dict[str, Any]]:
    """One a measurement, in seconds; ``times`` is the rival's median over sdekit's.

    What was left out has a row too, with its reason in ``skipped`` and no time.
    """
    found = []
    for bench in data["benchmarks"]:
        stats, extra = bench["stats"], bench["extra_info"]
        found.append(
            {
                "script": _script(bench),
                "group": bench["group"],
                **extra,
                "median": stats["median"],
                "iqr": stats["iqr"],
                "fastest": stats["min"],
                "rounds": stats["rounds"],
                "rate": extra["work"] / stats["median"],
            }
        )
    ours = {_place(row): row["median"] for row in found if row["contender"] == "sdekit"}
    for row in found:
        own = ours.get(_place(row))
        row["times"] = None if own is None else row["median"] / own
    for bench in data.get("skipped", []):
        found.append({"script": _script(bench), **bench})
        del found[-1]["fullname"]
    scripts = [*QUESTIONS, *sorted({row["script"] for row in found} - set(QUESTIONS))]
    groups = list(dict.fromkeys(row["group"] for row in found))
    places = list(dict.fromkeys(row.get("at") for row in found))
    contenders = list(dict.fromkeys(row["contender"] for row in found))
    found.sort(
        key=lambda row: (
            scripts.index(row["script"]),
            groups.index(row["group"]),
            row["contender"] != "sdekit",
            contenders.index(row["contender"]) if "at" in row else 0,
            row["contender"],
            places.index(row.get("at")),
        )
    )
    return found


def _script(bench: dict[str, Any]) -> str:
    return Path(bench["fullname"].split("::")[0]).stem


def _place(row: dict[str, Any]) -> tuple[Any, ...]:
    """What is compared with what: one case, or one cell of a sweep."""
    return row["group"], row.get("at")


def machine(data: dict[str, Any]) -> dict[str, Any]:
    """What the numbers depend on."""
    info = data["machine_info"]
    return {
        "cpu": _cpu_name(info),
        "cores": info.get("cores"),
        "threads": info.get("torch_threads"),
        "openmp": info.get("openmp"),
        "load before": info.get("load_before"),
        "system": f"{info.get('system')} {info.get('release')}",
        "python": info.get("python_version"),
        **info.get("versions", {}),
        "date": data["datetime"][:10],
    }


def _cpu_name(info: dict[str, Any]) -> str:
    cpu = info.get("cpu") or {}
    name = cpu.get("brand_raw") or cpu.get("brand") or info.get("processor") or info.get("machine")
    return " ".join(str(name).split())


def file_name(about: dict[str, Any]) -> str:
    """From "AMD EPYC" with 2 cores make "amd-epyc-2-cores"."""
    plain = re.sub(r"\((r|tm)\)|processor|cpu|@.*", " ", str(about["cpu"]).lower())
    plain = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
    return f"{plain or 'machine'}-{about['cores']}-cores"


def markdown(about: dict[str, Any], table: list[dict[str, Any]]) -> str:
    """The report that people read."""
    lines = [
        f"# {about['cpu']}, {about['cores']} cores",
        "",
        "Written by `make bench`. Each answer was checked before the clock ran; its error stands "
        "beside its limit. All contenders of a table ran in one process with the same torch "
        "threads. Time: median of the rounds, and the interquartile range in parts of it. times: "
        "how often sdekit's time goes into the contender's. Peak memory: what the process had "
        "resident at the most during one call, less what it had before it (inputs do not count, "
        "results do).",
        "",
        *(f"- {key}: {value}" for key, value in about.items() if value is not None),
    ]
    script = None
    for (name, group), members in groupby(table, key=lambda row: (row["script"], row["group"])):
        if name != script:
            script = name
            lines += ["", f"## {QUESTIONS.get(name, name)}"]
            dates = {row.get("date") for row in table if row["script"] == name} - {None}
            if dates and dates != {about["date"]}:
                lines += ["", f"Measured on {', '.join(sorted(dates))}."]
        lines += ["", f"**{group}**", ""]
        own = list(members)
        lines += _sweep(own) if "at" in own[0] else [*_header(own), *map(_line, own)]
    return "\n".join(lines) + "\n"


def _header(table: list[dict[str, Any]]) -> list[str]:
    unit = next((row["unit"] for row in table if "unit" in row), "work")
    names = ["", "time", "spread", "times", f"{unit} / s", "error (limit)", "", ""]
    return ["| " + " | ".join(names) + " |", "| --- |" + " ---: |" * 5 + " --- | --- |"]


def _line(row: dict[str, Any]) -> str:
    if "skipped" in row:
        return f"| {row['contender']} | | | | | | skipped: {row['skipped']} | |"
    times = "" if row["times"] is None else f"{row['times']:.2f}"
    cells = [
        row["contender"],
        _seconds(row["median"]),
        f"{row['iqr'] / row['median']:.0%}",
        times,
        f"{row['rate']:.4g}",
        f"{row['error']:.2g} ({row['limit']:.2g})",
        row["what"],
        row["note"],
    ]
    return "| " + " | ".join(cells) + " |"


def _sweep(table: list[dict[str, Any]]) -> list[str]:
    """A line a contender, a column a value of what is varied: rate, memory and error apart."""
    measured = [row for row in table if "skipped" not in row]
    if not measured:
        lines = [f"- {row['contender']}: skipped: {row['skipped']}" for row in table]
        return list(dict.fromkeys(lines))
    by_time = measured[0]["unit"] == "calls"
    shown = "time" if by_time else f"{measured[0]['unit']} / s (times)"
    lines = _matrix(shown, table, _time_cell if by_time else _rate_cell)
    if any("memory" in row for row in measured):
        lines += ["", *_matrix("peak memory [MiB]", table, _memory_cell)]
    lines += ["", *_matrix("error (limit)", table, _error_cell), ""]
    notes = {row["contender"]: row["note"] for row in measured if row["note"]}
    lines += [f"- {contender}: {note}" for contender, note in notes.items()]
    for what in dict.fromkeys(row["what"] for row in measured):
        who = dict.fromkeys(row["contender"] for row in measured if row["what"] == what)
        lines.append(f"- error of {'; '.join(who)}: {what}")
    return lines


def _matrix(
    title: str, table: list[dict[str, Any]], cell: Callable[[dict[str, Any]], str]
) -> list[str]:
    values = list(dict.fromkeys(row["at"] for row in table))
    if all(isinstance(value, int) for value in values):
        values.sort()
    names = [
        f"{value:,}".replace(",", " ") if isinstance(value, int) else value for value in values
    ]
    head = [f"{title}, by {table[0]['sweep']}", *names]
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * len(values)]
    for contender, members in groupby(table, key=lambda row: row["contender"]):
        cells = {row["at"]: row for row in members}
        if (
            all("skipped" in row for row in cells.values())
            and len({row["skipped"] for row in cells.values()}) == 1
        ):
            lines.append(f"| {contender}: {next(iter(cells.values()))['skipped']} |")
            continue
        shown = [cell(cells[value]) if value in cells else "" for value in values]
        lines.append("| " + " | ".join([contender, *shown]) + " |")
    return lines


def _time_cell(row: dict[str, Any]) -> str:
    return row["skipped"] if "skipped" in row else _seconds(row["median"])


def _rate_cell(row: dict[str, Any]) -> str:
    if "skipped" in row:
        return str(row["skipped"])
    times = "" if row["times"] in (None, 1.0) else f" ({row['times']:.3g})"
    return f"{row['rate']:.4g}{times}"


def _memory_cell(row: dict[str, Any]) -> str:
    if "skipped" in row:
        return ""
    memory = row.get("memory")
    return "not counted here" if memory is None else f"{memory / 2**20:.1f}"


def _error_cell(row: dict[str, Any]) -> str:
    return "" if "skipped" in row else f"{row['error']:.2g} ({row['limit']:.2g})"


def _seconds(value: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if value * scale >= 1.0:
            return f"{value * scale:.4g} {unit}"
    return f"{value * 1e9:.4g} ns"


def write(source: Path, folder: Path) -> Path:
    """Write both files into ``folder`` and return the Markdown's path."""
    data = json.loads(source.read_text(encoding="utf-8"))
    about, table = machine(data), rows(data)
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{file_name(about)}.md"
    kept = _kept(target.with_suffix(".json"), table)
    table = _ordered([{**row, "date": about["date"]} for row in table] + kept["rows"])
    curves = data.get("precision") or kept["precision"]
    likelihoods = data.get("likelihood") or kept["likelihood"]
    lines = [
        *precision_lines(curves),
        *likelihood_lines(likelihoods, "Log-likelihood: the time to a given error"),
    ]
    text = markdown(about, table) + "".join(f"{line}\n" for line in lines)
    target.write_text(text, encoding="utf-8")
    whole = {
        "machine": about,
        "rows": table,
        "precision": curves,
        "likelihood": likelihoods,
    }
    target.with_suffix(".json").write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    return target


def _kept(target: Path, table: list[dict[str, Any]]) -> dict[str, Any]:
    """What an earlier report of this machine says of scripts that did not run this time."""
    empty: dict[str, Any] = {"rows": [], "precision": [], "likelihood": []}
    if not target.is_file():
        return empty
    old = {**empty, **json.loads(target.read_text(encoding="utf-8"))}
    fresh = {row["script"] for row in table}
    before = old.get("machine", {}).get("date")
    rows = [{"date": before, **row} for row in old["rows"] if row["script"] not in fresh]
    return {**old, "rows": rows}


def _ordered(table: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Script by script, in the order of the questions; within a script as it was."""
    known = [*QUESTIONS, *sorted({row["script"] for row in table} - set(QUESTIONS))]
    return sorted(table, key=lambda row: known.index(row["script"]))


def main() -> int:
    """Two arguments: the JSON, and the folder."""
    if len(sys.argv) != 3:
        print("usage: python -m benchmarks.report benchmark.json FOLDER", file=sys.stderr)
        return 2
    print(f"wrote {write(Path(sys.argv[1]), Path(sys.argv[2]))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
