"""The command of the study; see the package."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import torch

from benchmarks.quality_vs_cost.report import plot, table
from benchmarks.quality_vs_cost.study import FIXED, measure, steps_for
from sdekit.data import load
from sdekit.files import write_atomically
from sdekit.quality import digit_features
from sdekit.sample import SAMPLERS
from sdekit.train import load_checkpoint

HERE = Path(__file__).resolve().parent


def main() -> None:
    """Measure what is missing, then write table, plot and JSON."""
    parser = argparse.ArgumentParser(description="Fréchet distance against network evaluations")
    parser.add_argument("--model", type=Path, required=True, help="a checkpoint, or its folder")
    parser.add_argument("--samplers", nargs="+", choices=list(SAMPLERS), default=list(SAMPLERS))
    parser.add_argument("--evaluations", nargs="+", type=int, default=[10, 20, 50, 100])
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--out", type=Path, default=HERE.parent / "results")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    checkpoint = load_checkpoint(arguments.model)
    data = load(checkpoint.info["data"])
    features = digit_features(data)
    target = arguments.out / f"quality_vs_cost-{data.name}.json"
    about: dict[str, Any] = {
        "data": data.name,
        "model": checkpoint.info["recipe"]["model"],
        "sde": checkpoint.info["recipe"]["sde"],
        "steps": checkpoint.info["steps"],
        "n": min(arguments.samples, len(data.test)),
        "machine": f"{len(os.sched_getaffinity(0))} cores, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
    }
    rows = _found(target, about)
    done = {(row["sampler"], row["budget"]) for row in rows}
    for budget in arguments.evaluations:
        for name in arguments.samplers:
            key = (name, None if name in FIXED else budget)
            steps = steps_for(name, budget)
            if key in done or steps is None:
                continue
            done.add(key)
            row = measure(
                checkpoint,
                data,
                features,
                name,
                steps,
                samples=about["n"],
                batch=arguments.batch,
            )
            rows.append({"budget": key[1], **row})
            found = row["samples"]
            print(
                f"{name:18} {row['evaluations']:7g} evaluations {row['seconds']:7.1f} s  Fréchet "
                + (row.get("refused", "lost") if found is None else f"{found['frechet']:.3f}"),
                flush=True,
            )
            _write(target, about, rows)
    _write(target, about, rows)
    print(f"wrote {target.with_suffix('.md')}, .png, .json")


def _found(target: Path, about: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of an earlier run of the same study."""
    if not target.is_file():
        return []
    kept = json.loads(target.read_text(encoding="utf-8"))
    return list(kept["rows"]) if kept["about"] == about else []


def _write(target: Path, about: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    order = list(SAMPLERS)
    rows = sorted(rows, key=lambda row: (order.index(row["sampler"]), row["evaluations"]))
    text = json.dumps({"about": about, "rows": rows}, indent=1) + "\n"
    write_atomically(target, text.encode())
    write_atomically(target.with_suffix(".md"), table(about, rows).encode())
    plot(target.with_suffix(".png"), rows)


if __name__ == "__main__":
    main()
