"""Cost against the number of components: double wells on a ring, 1 to 64 of them, 10^5 in all.

The rate is in components, so that a line that stays level says that nothing is lost by more of them
in one kernel. Paths are compared one by one with plain torch on the same noise, or, where the noise
is another one, as an ensemble with those of a float64 loop.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch

from benchmarks.checks import STANDARD_ERRORS, Reference, distance, ensemble_reference
from benchmarks.contenders import EAGER, FUSED, STEPS, prepare, same_noise, solve
from benchmarks.rivals import eager_loop
from benchmarks.systems import Ring

TOTAL = 1 << 17
COMPONENTS = tuple(1 << k for k in range(7))
CHECKED_PATHS, REFERENCE_PATHS = 64, 2000


@cache
def reference(dim: int) -> Reference:
    """Moments of other paths."""
    ring = Ring(dim, torch.float64)
    return ensemble_reference(eager_loop(ring, ring.x0(REFERENCE_PATHS)))


@pytest.mark.parametrize("dim", COMPONENTS)
@pytest.mark.parametrize("contender", [FUSED, STEPS, EAGER])
def test_components(clock: Any, contender: str, dim: int) -> None:
    torch.manual_seed(0)
    ring, paths = Ring(dim), TOTAL // dim
    run = prepare(contender, ring, paths)
    if contender == EAGER:
        error, limit = distance(run(), reference(dim), ring.steps), STANDARD_ERRORS
        what, note = "mean, variance [s.e.]", ""
    else:
        fuse = None if contender == FUSED else False
        solution = solve(ring, ring.x0(CHECKED_PATHS), fuse=fuse)
        found = same_noise(ring, solution.x)
        error, limit, note = found.error, found.limit, solution.stats.path
        what = "relative error against float64 on the same noise"
    clock(
        run,
        group=f"ring of double wells, {TOTAL} components in all, {ring.steps} steps, float32",
        contender=contender,
        sweep="components",
        at=dim,
        error=error,
        limit=limit,
        what=what,
        work=paths * dim * ring.steps / 1e6,
        unit="million component-steps",
        seconds=0.4,
        fewest=3,
        note=note,
    )
