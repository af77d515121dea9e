"""An ensemble of 10^5 Ornstein-Uhlenbeck paths x 100 Euler-Maruyama steps.

Every contender takes the same steps, so that mean and variance at the end must be those of the same
affine recursion; its distance from the closed form is the method's, not the library's. The C++ loop
draws sdekit's own noise, so its paths must be sdekit's, up to rounding.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks.checks import STANDARD_ERRORS, distance, ou_moments, relative_error
from benchmarks.compiled_loop import NoCompiler, load, ou_loop
from benchmarks.contenders import (
    CONTENDERS,
    FUSED,
    JAX,
    STEPS,
    TORCHSDE,
    UNTOLD,
    Missing,
    as_tensor,
    prepare,
    solve,
)
from benchmarks.systems import OU

PATHS = 100_000
GROUP = f"OU, {PATHS} paths x {OU.steps} steps, Euler-Maruyama, float32"
CPP = "C++ loop"
NUMBERS = {"theta": OU.theta, "mu": OU.mu, "sigma": OU.sigma}
GRID: dict[str, Any] = {"dt": OU.span / OU.steps, "steps": OU.steps}
WORK: dict[str, Any] = {"work": PATHS * OU.steps / 1e6, "unit": "million path-steps"}


@pytest.mark.parametrize("contender", [*CONTENDERS, UNTOLD, JAX])
def test_ou_ensemble(clock: Any, leave_out: Any, contender: str) -> None:
    torch.manual_seed(0)
    system = OU()
    try:
        run = prepare(contender, system, PATHS)
    except Missing as missing:
        leave_out(str(missing), group=GROUP, contender=contender)
    x = as_tensor(run())
    recursion, exact = ou_moments(**NUMBERS, **GRID, x0=OU.start[0])
    note = f"the recursion's variance is {recursion.variance / exact.variance - 1.0:+.2%} off"
    if contender in (FUSED, STEPS):
        fuse = None if contender == FUSED else False
        note = f"{solve(system, system.x0(PATHS), fuse=fuse).stats.path}; {note}"
    if contender == TORCHSDE:
        note = f"its Brownian motion is told the step; {note}"
    clock(
        run,
        group=GROUP,
        contender=contender,
        error=distance(x, system.exact(), OU.steps),
        limit=STANDARD_ERRORS,
        what="mean, variance against the recursion [s.e.]",
        seconds=4.0,
        note=note,
        **WORK,
    )


def test_ou_in_cpp(clock: Any, leave_out: Any) -> None:
    """The same Philox, the same polynomials, the same threads: what a specialist would write."""
    try:
        _, made_by = load()
    except NoCompiler as missing:
        leave_out(str(missing), group=GROUP, contender=CPP)
    system = OU()
    x0 = system.x0(PATHS)

    def run() -> torch.Tensor:
        return ou_loop(x0, **NUMBERS, **GRID)

    clock(
        run,
        group=GROUP,
        contender=CPP,
        error=relative_error(run(), solve(system, x0).x),
        # 3 roundings a step, independent, damped by the equation: far below 100 x 3 x 2^-24.
        limit=1e-6,
        what="relative difference from sdekit's paths",
        seconds=4.0,
        note=made_by,
        **WORK,
    )
