"""What the first call of an equation costs in this process: run by ``bench_compile.py``.

    python -m benchmarks.first_call SYSTEM RESULT.pt

Prints one line of JSON: seconds of the first call and of the second, and the path that ran. torch
and sdekit are imported before the clock starts; what they load for the first solve alone (Numba,
say) is the first call's.
"""

from __future__ import annotations

import json
import sys
from time import perf_counter

import torch

import sdekit  # noqa: F401 - imported before the clock starts
from benchmarks.contenders import solve
from benchmarks.systems import SYSTEMS, Ring, System

PATHS = 256


def system_named(name: str) -> System:
    """The system of a name such as "GBM" or "Ring8"."""
    if name.startswith("Ring"):
        return Ring(int(name.removeprefix("Ring")))
    return {kind.__name__: kind for kind in SYSTEMS}[name]()


def main() -> int:
    """Two arguments: the system's class, and where the last states go."""
    name, target = sys.argv[1:]
    system = system_named(name)
    x0 = system.x0(PATHS)
    torch.randn(1 << 20).exp_().sum()  # torch's own threads are there
    seconds = []
    for _ in range(2):
        began = perf_counter()
        solution = solve(system, x0)
        seconds.append(perf_counter() - began)
    torch.save(solution.x, target)
    print(json.dumps({"first": seconds[0], "second": seconds[1], "path": solution.stats.path}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
