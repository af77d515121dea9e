"""The report is ordered, compares with sdekit's own time, and needs nothing but the JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks import report


def bench(script: str, group: str, contender: str, median: float) -> dict[str, Any]:
    return {
        "fullname": f"benchmarks/{script}.py::test_it[{contender}]",
        "group": group,
        "stats": {"median": median, "iqr": median / 10, "min": median / 2, "rounds": 7},
        "extra_info": {
            "contender": contender,
            "error": 1.5,
            "limit": 5.0,
            "what": "mean [s.e.]",
            "work": 3.0,
            "unit": "things",
            "note": "",
        },
    }


DATA = {
    "datetime": "2030-01-02T03:04:05",
    "machine_info": {
        "cpu": {"brand_raw": "Some(R) Chip CPU @ 2.0GHz"},
        "cores": 2,
        "python_version": "3.11.0",
        "versions": {"torch": "2.13.0"},
    },
    "benchmarks": [
        bench("bench_trajectory", "paths", "eager torch", 0.4),
        bench("bench_trajectory", "paths", "sdekit", 0.1),
        bench("bench_noise", "normal", "torch.randn", 2e-6),
        bench("bench_noise", "normal", "sdekit", 4e-6),
    ],
}


def test_rows_are_ordered_and_compared_with_sdekit() -> None:
    rows = report.rows(DATA)
    order = [(row["script"], row["contender"]) for row in rows]
    assert order == [
        ("bench_noise", "sdekit"),
        ("bench_noise", "torch.randn"),
        ("bench_trajectory", "sdekit"),
        ("bench_trajectory", "eager torch"),
    ]
    assert [row["times"] for row in rows] == [1.0, 0.5, 1.0, 4.0]


def test_files_are_named_after_the_machine_and_do_not_change(tmp_path: Path) -> None:
    source = tmp_path / "in.json"
    source.write_text(json.dumps(DATA))
    first = report.write(source, tmp_path / "out")
    assert first.name == "some-chip-2-cores.md"
    before = first.read_text()
    assert "| eager torch | 400 ms | 10% | 4.00 | 7.5 | 1.5 (5) | mean [s.e.] |  |" in before
    assert "- torch: 2.13.0" in before
    assert report.write(source, tmp_path / "out").read_text() == before
    assert json.loads(first.with_suffix(".json").read_text())["machine"]["date"] == "2030-01-02"


def test_what_did_not_run_is_kept_with_its_date(tmp_path: Path) -> None:
    source = tmp_path / "in.json"
    source.write_text(json.dumps({**DATA, "likelihood": [], "precision": []}))
    report.write(source, tmp_path / "out")
    later = bench("bench_noise", "normal", "sdekit", 1e-6)
    source.write_text(json.dumps({**DATA, "datetime": "2030-05-06", "benchmarks": [later]}))
    text = report.write(source, tmp_path / "out").read_text()
    assert "torch.randn" not in text and "1 us" in text
    assert "eager torch" in text and "Measured on 2030-01-02." in text
    assert text.count("Measured on") == 1
    assert text.index("## Normals") < text.index("## An ensemble of paths")


def cell(contender: str, at: int, median: float, **more: Any) -> dict[str, Any]:
    row = bench("bench_systems", "Lorenz", contender, median)
    row["extra_info"] |= {"sweep": "paths", "at": at, "memory": 3 << 20, **more}
    return row


def test_sweeps_are_matrices_and_say_what_was_left_out(tmp_path: Path) -> None:
    place = {"group": "Lorenz", "sweep": "paths", "fullname": "benchmarks/bench_systems.py::x"}
    data = DATA | {
        "benchmarks": [
            cell("eager torch", 100, 0.5),
            cell("sdekit", 100, 0.25, note="in one kernel"),
            cell("sdekit", 1000, 1.5),
        ],
        "skipped": [
            {**place, "contender": "eager torch", "at": 1000, "skipped": "would take ~9 s"},
            {**place, "contender": "diffrax", "at": 100, "skipped": "not installed"},
            {**place, "contender": "diffrax", "at": 1000, "skipped": "not installed"},
            {
                "fullname": "benchmarks/bench_trajectory.py::x",
                "group": "paths",
                "contender": "C++ loop",
                "skipped": "no compiler",
            },
        ],
    }
    source = tmp_path / "in.json"
    source.write_text(json.dumps(data))
    text = report.write(source, tmp_path).read_text().splitlines()
    assert "| things / s (times), by paths | 100 | 1 000 |" in text
    assert "| sdekit | 12 | 2 |" in text
    assert "| eager torch | 6 (2) | would take ~9 s |" in text
    assert "| diffrax: not installed |" in text
    assert "| sdekit | 3.0 | 3.0 |" in text
    assert "| eager torch | 1.5 (5) |  |" in text
    assert "- sdekit: in one kernel" in text
    assert "- error of sdekit; eager torch: mean [s.e.]" in text
    assert "| C++ loop | | | | | | skipped: no compiler | |" in text
    rows = json.loads((tmp_path / "some-chip-2-cores.json").read_text())["rows"]
    assert len(rows) == 7 and sum("skipped" in row for row in rows) == 4
