"""The command of both studies; see the package."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import torch

from benchmarks.bridges import gaussians, plane
from benchmarks.bridges.report import TABLES
from benchmarks.bridges.sets import SETS
from benchmarks.bridges.store import Store

RESULTS = Path(__file__).resolve().parent.parent / "results"


def main() -> None:
    """Fit and measure what is missing, row by row."""
    parser = argparse.ArgumentParser(description="bridges beside published numbers")
    parser.add_argument("study", choices=list(TABLES))
    parser.add_argument("--dims", nargs="+", type=int, default=[5, 20, 50])
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--algorithms", nargs="+", default=None)
    parser.add_argument("--seeds", nargs="+", type=int, default=None)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    target = arguments.out / f"bridges-{arguments.study}.json"
    store = Store(target, _about(), TABLES[arguments.study])
    if arguments.study == "gaussians":
        _gaussians(store, arguments)
    else:
        _plane(store, arguments)
    store.write()
    print(f"wrote {target} and its .md")


def _gaussians(store: Store, arguments: argparse.Namespace) -> None:
    for seed in arguments.seeds or range(3):
        for d in arguments.dims:
            for algorithm in arguments.algorithms or gaussians.PUBLISHED:
                if not store.has(algorithm=algorithm, d=d, seed=seed):
                    store.add(gaussians.measure(algorithm, d, seed))
                    print(store.rows[-1], flush=True)


def _plane(store: Store, arguments: argparse.Namespace) -> None:
    for seed in arguments.seeds or (*plane.SEEN, *plane.NEW):
        for name in arguments.sets:
            if not store.has(algorithm="held out", set=name, seed=seed):
                store.add(plane.held_out(name, seed))
                print(store.rows[-1], flush=True)
            if not store.has(algorithm=plane.ITSELF, set=name, seed=seed):
                store.add(plane.bridge_itself(name, seed))
            for algorithm in arguments.algorithms or plane.DISTANCES:
                if not store.has(algorithm=algorithm, set=name, seed=seed):
                    # One picture an algorithm of what was measured after each half-step.
                    drawn = name == "moons" and seed == 0
                    picture = store.target.with_name(f"bridges-plane-{algorithm.lower()}.png")
                    row = plane.measure(algorithm, name, seed, picture=picture if drawn else None)
                    store.add(row)
                    print(store.rows[-1], flush=True)


def _about() -> dict[str, Any]:
    cores, threads = len(os.sched_getaffinity(0)), torch.get_num_threads()
    return {
        "machine": f"{_processor()}, {cores} cores, {threads} threads",
        "torch": torch.__version__,
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "unknown processor"


if __name__ == "__main__":
    main()
