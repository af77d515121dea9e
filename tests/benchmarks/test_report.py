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
        bench("bench_ou", "paths", "eager torch", 0.4),
        bench("bench_ou", "paths", "sdekit", 0.1),
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
        ("bench_ou", "sdekit"),
        ("bench_ou", "eager torch"),
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
