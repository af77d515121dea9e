"""The first call of an equation: in a process that finds no compiled kernel, and in a later one.

Each measurement is a process of its own with a cache folder of its own; the time is the one that
the process took for its first ``solve`` of 256 paths, after torch and sdekit were imported.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.contenders import same_noise
from benchmarks.first_call import PATHS, system_named

EQUATIONS = ("OU", "Heston", "GeneCircuit", "Ring64")
AIMS = {"empty cache": 5.0, "filled cache": 0.5}
ROOT = Path(__file__).resolve().parents[1]


class ChildClock:
    """A clock that runs only while a child process says it worked."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


CHILD = ChildClock()


@pytest.fixture(scope="module")
def caches() -> Any:
    """A cache folder for each equation, empty at first, filled by the first test that uses it."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def first_call(name: str, cache: Path) -> tuple[dict[str, Any], torch.Tensor]:
    """(what the child measured, its last states)."""
    cache.mkdir(exist_ok=True)
    paths = [str(ROOT), str(ROOT / "kernels"), os.environ.get("PYTHONPATH", "")]
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(p for p in paths if p),
        "SDEKIT_CACHE_DIR": str(cache),
        "TRITON_CACHE_DIR": str(cache / "triton"),
    }
    target = cache / "result.pt"
    command = [sys.executable, "-m", "benchmarks.first_call", name, str(target)]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found, torch.load(target)


@pytest.mark.benchmark(timer=CHILD)
@pytest.mark.parametrize("cache", AIMS)
@pytest.mark.parametrize("name", EQUATIONS)
def test_first_call(clock: Any, caches: Path, name: str, cache: str) -> None:
    found, x = first_call(name, caches / name)
    system = system_named(name)
    same = same_noise(system, x)

    def run() -> None:
        CHILD.now += found["first"]

    clock(
        run,
        group="first call of an equation",
        contender=f"{system.name}, D = {system.dim}",
        sweep="cache",
        at=cache,
        error=same.error,
        limit=same.limit,
        what="relative error against float64 on the same noise",
        work=1.0,
        unit="calls",
        rounds=1,
        note=f"{found['path']}; second call {found['second'] * 1e3:.2g} ms; "
        f"aim: {' and '.join(f'{s:g} s with {c}' for c, s in AIMS.items())}",
        paths=PATHS,
    )
