"""The unadjusted Langevin algorithm."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor

from sdekit.noise.increment import Increment
from sdekit.sde.parameters import at
from sdekit.solvers.base import Solver, orders
from sdekit.solvers.equation import Equation

__all__ = ["ULA", "other_dynamics"]


def other_dynamics(sde: Equation, t: Tensor, x: Tensor) -> str:
    """The obstacle for methods of overdamped Langevin dynamics; "" where the equation is such."""
    if not hasattr(sde.sde, "friction"):
        square = sde.diffusion(t, x).square()
        wanted = torch.ones_like(square) * (2.0 * at(sde.sde.temperature, x))
        same = sde.drift(t, x).allclose(sde.sde.force(x))
        if same and square.allclose(wanted, rtol=1e-3):
            return ""
    return (
        "its drift must be its force and its diffusion sqrt(2 temperature), as of "
        "sdekit.Langevin: use 'baoab' for position and velocity, or 'euler_maruyama'"
    )


@final
class ULA(Solver):
    r"""x_next = x + F(x) dt + sqrt(2 T) dW  (Parisi 1981; Roberts & Tweedie 1996).

    Euler-Maruyama of an overdamped Langevin equation, F = ``force``, T = ``temperature``, without a
    test of the proposal: its stationary law is off by O(dt), a harmonic well's variance T / k by
    the factor 1 / (1 - k dt / 2). 'mala' has no such error. Strong and weak order 1.
    """

    name = "ula"
    paper = "Roberts & Tweedie 1996"
    choose = "Langevin sampling where a bias of order dt may stay"
    interpretations = ("ito",)
    strong_order = orders(additive=1.0)
    weak_order = orders(additive=1.0)
    drift_evaluations = 1
    diffusion_evaluations = 0
    needs = ("force", "temperature")
    general_purpose = False

    def obstacle(self, sde: Equation, t: Tensor, x: Tensor) -> str:
        """Whether force and temperature are those of the equation."""
        return other_dynamics(sde, t, x)

    def step(
        self,
        sde: Equation,
        t: Tensor,
        t_next: Tensor,
        dt: Any,
        x: Tensor,
        w: Increment,
        *carried: Tensor,
    ) -> Tensor:
        """The formula of the class."""
        return x + sde.sde.force(x) * dt + (2.0 * at(sde.sde.temperature, x)) ** 0.5 * w.dw
