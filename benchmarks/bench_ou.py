"""An ensemble of 10^5 Ornstein-Uhlenbeck paths x 100 Euler-Maruyama steps.

Every contender takes the same steps, so that mean and variance at the end must be those of the same
affine recursion; its distance from the closed form is the method's, not the library's.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch

import sdekit as sk
from benchmarks.checks import STANDARD_ERRORS, ensemble_error, ou_moments
from benchmarks.rivals import diffrax_ou, eager_ou, torchsde_ou

PATHS, STEPS, X0 = 100_000, 100, 2.0
OU = {"theta": 1.3, "mu": -0.5, "sigma": 0.8}
SPAN = 1.0


def solver(contender: str) -> Callable[[], Any]:
    """What one call of the contender is: from the initial states to the last ones."""
    x0 = torch.full((PATHS, 1), X0)
    grid: dict[str, Any] = {"dt": SPAN / STEPS, "steps": STEPS, **OU}
    if contender == "sdekit":
        sde = sk.OU(**OU)
        return lambda: sk.solve(sde, x0, t0=0.0, t1=SPAN, steps=STEPS, seed=0).x
    if contender == "torchsde euler":
        pytest.importorskip("torchsde", reason="pip install torchsde")
        return lambda: torchsde_ou(x0, **grid)
    if contender == "diffrax Euler":
        if find_spec("diffrax") is None:
            pytest.skip("pip install sdekit[diffrax]")
        return diffrax_ou(PATHS, X0, **grid)
    return lambda: eager_ou(x0, **grid)


@pytest.mark.parametrize("contender", ["sdekit", "eager torch", "torchsde euler", "diffrax Euler"])
def test_ou_ensemble(clock: Any, contender: str) -> None:
    torch.manual_seed(0)
    run = solver(contender)
    recursion, exact = ou_moments(**OU, x0=X0, dt=SPAN / STEPS, steps=STEPS)
    x = torch.as_tensor(np.asarray(run()))
    clock(
        run,
        group=f"OU, {PATHS} paths x {STEPS} steps, Euler-Maruyama, float32",
        contender=contender,
        error=ensemble_error(x, recursion),
        limit=STANDARD_ERRORS,
        what="mean, variance against the recursion [s.e.]",
        work=PATHS * STEPS / 1e6,
        unit="million path-steps",
        seconds=6.0,
        note=f"the recursion's variance is {recursion.variance / exact.variance - 1.0:+.2%} off",
    )
