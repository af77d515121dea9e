"""Six equations, 10^2 to 10^6 paths: path-steps a second, peak memory and error of everybody.

A cell that would take longer than a few seconds is left out, with the time that the smaller cells
of the same contender let one expect. Ensembles are compared with the exact moments of the method's
recursion, or else with those of other paths of a float64 loop in plain torch. sdekit's paths are
compared one by one with plain torch on the same noise as well.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from time import perf_counter
from typing import Any

import pytest
import torch

from benchmarks.checks import STANDARD_ERRORS, Reference, distance, ensemble_reference
from benchmarks.contenders import (
    CONTENDERS,
    DIFFRAX,
    FUSED,
    STEPS,
    Missing,
    as_tensor,
    expected_seconds,
    prepare,
    same_noise,
    solve,
)
from benchmarks.memory import peak_memory
from benchmarks.rivals import eager_loop
from benchmarks.systems import SYSTEMS, System

PATHS = tuple(10**k for k in range(2, 7))
PATIENCE = 1.5
"""Seconds of one call beyond which a cell is left out; four times as many for sdekit itself."""
REFERENCE_PATHS, CHECKED_PATHS = 20_000, 256

_seconds: dict[tuple[str, str], list[tuple[int, float]]] = {}


@cache
def reference(kind: type[System]) -> Reference:
    """What the ensemble's moments should be."""
    exact = kind().exact()
    if exact is not None:
        return exact
    state = torch.get_rng_state()
    torch.manual_seed(1)
    system = kind(dtype=torch.float64)
    found = ensemble_reference(eager_loop(system, system.x0(REFERENCE_PATHS)))
    torch.set_rng_state(state)
    return found


@cache
def checked(kind: type[System], contender: str) -> str:
    """sdekit's paths one by one; returns what the table should say about it."""
    system = kind()
    solution = solve(system, system.x0(CHECKED_PATHS), fuse=None if contender == FUSED else False)
    found = same_noise(system, solution.x)
    assert found.error <= found.limit, f"{kind.name}: {found.error:.3g} > {found.limit:.3g}"
    return (
        f"{solution.stats.path}; same noise in float64: {found.error:.1e} (plain torch in float32: "
        f"{found.plain:.1e})"
    )


def timed(run: Callable[[], Any]) -> tuple[float, torch.Tensor]:
    """(seconds, what it gave)."""
    began = perf_counter()
    found = run()
    return perf_counter() - began, as_tensor(found)


@pytest.mark.parametrize("paths", PATHS)
@pytest.mark.parametrize("contender", CONTENDERS)
@pytest.mark.parametrize("kind", SYSTEMS, ids=lambda kind: kind.__name__)
def test_system(clock: Any, leave_out: Any, kind: type[System], contender: str, paths: int) -> None:
    torch.manual_seed(0)
    system = kind()
    cell: dict[str, Any] = {
        "group": f"{kind.name}: D = {system.dim}, M = {system.channels}, {kind.noise_type} noise, "
        f"{kind.steps} steps, float32",
        "contender": contender,
        "sweep": "paths",
        "at": paths,
    }
    done = _seconds.setdefault((kind.name, contender), [])
    expected = expected_seconds(done, paths)
    if expected > PATIENCE * (4.0 if contender == FUSED else 1.0):
        leave_out(f"would take ~{expected:.2g} s", **cell)
    try:
        run = prepare(contender, system, paths)
    except Missing as missing:
        leave_out(str(missing), **cell)
    if not done or contender == DIFFRAX:
        run()  # compiles: diffrax again for each number of paths
    once, x = timed(run)
    if once < 0.1 * PATIENCE:
        once = min(once, timed(run)[0])  # what is expected of the next cell hangs on it
    done.append((paths, once))
    assert bool(x.isfinite().all())
    error = distance(x, reference(kind), kind.steps)
    del x
    clock(
        run,
        **cell,
        error=error,
        limit=STANDARD_ERRORS,
        what="mean, variance [s.e.]",
        work=paths * kind.steps / 1e6,
        unit="million path-steps",
        seconds=0.25,
        once=once,
        fewest=3,
        note=checked(kind, contender) if contender in (FUSED, STEPS) else "",
        memory=peak_memory(run),
    )
