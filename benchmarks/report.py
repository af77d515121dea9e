"""From pytest-benchmark's JSON to ``MACHINE.md`` and ``MACHINE.json``.

    python -m benchmarks.report benchmark.json FOLDER

Ordered by script and case, sdekit first, so that two reports can be compared line by line.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

QUESTIONS = {
    "bench_noise": "Normals",
    "bench_steps": "One fused step",
    "bench_ou": "An ensemble of paths",
    "bench_sampler": "The sampler's loop",
    "bench_likelihood": "Log-likelihood",
}


def rows(data: dict[str, Any]) -> list[dict[str, Any]]:
    """One a measurement, in seconds; ``times`` is the rival's median over sdekit's."""
    found = []
    for bench in data["benchmarks"]:
        stats, extra = bench["stats"], bench["extra_info"]
        found.append(
            {
                "script": Path(bench["fullname"].split("::")[0]).stem,
                "group": bench["group"],
                **extra,
                "median": stats["median"],
                "iqr": stats["iqr"],
                "fastest": stats["min"],
                "rounds": stats["rounds"],
                "rate": extra["work"] / stats["median"],
            }
        )
    ours = {row["group"]: row["median"] for row in found if row["contender"] == "sdekit"}
    for row in found:
        own = ours.get(row["group"])
        row["times"] = None if own is None else row["median"] / own
    scripts = [*QUESTIONS, *sorted({row["script"] for row in found} - set(QUESTIONS))]
    groups = list(dict.fromkeys(row["group"] for row in found))
    found.sort(
        key=lambda row: (
            scripts.index(row["script"]),
            groups.index(row["group"]),
            row["contender"] != "sdekit",
            row["contender"],
        )
    )
    return found


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
        "how often sdekit's time goes into the contender's.",
        "",
        *(f"- {key}: {value}" for key, value in about.items() if value is not None),
    ]
    script = group = None
    for row in table:
        if row["script"] != script:
            script = row["script"]
            lines += ["", f"## {QUESTIONS.get(script, script)}"]
        if row["group"] != group:
            group = row["group"]
            lines += ["", f"**{group}**", "", *_header(row)]
        lines.append(_line(row))
    return "\n".join(lines) + "\n"


def _header(row: dict[str, Any]) -> list[str]:
    names = ["", "time", "spread", "times", f"{row['unit']} / s", "error (limit)", "", ""]
    return ["| " + " | ".join(names) + " |", "| --- |" + " ---: |" * 5 + " --- | --- |"]


def _line(row: dict[str, Any]) -> str:
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
    target.write_text(markdown(about, table), encoding="utf-8")
    whole = {"machine": about, "rows": table}
    target.with_suffix(".json").write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    return target


def main() -> int:
    """Two arguments: the JSON, and the folder."""
    if len(sys.argv) != 3:
        print("usage: python -m benchmarks.report benchmark.json FOLDER", file=sys.stderr)
        return 2
    print(f"wrote {write(Path(sys.argv[1]), Path(sys.argv[2]))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
