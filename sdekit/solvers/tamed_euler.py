"""Euler-Maruyama with a drift that no state makes too long."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor

from sdekit.noise.increment import Increment
from sdekit.solvers.base import Solver, orders
from sdekit.solvers.equation import Equation

__all__ = ["TamedEuler"]


@final
class TamedEuler(Solver):
    """x_next = x + f dt / (1 + dt |f|) + G dW, f and G at (t, x), |f| the norm of a sample's drift.

    (Hutzenthaler, Jentzen & Kloeden 2012.) The drift moves x by less than 1 a step, so that one
    that grows faster than x and points inwards, as -x^3, cannot make it explode, as it does with
    Euler-Maruyama at any step size with some probability. x must be in units of order 1.

    Ito; any noise, whose diffusion grows no faster than x. Strong order 1/2, and 1 where the noise
    is additive; weak order 1.
    """

    name = "tamed_euler"
    paper = "Hutzenthaler, Jentzen & Kloeden 2012"
    choose = "drifts that grow faster than x, whose paths Euler-Maruyama would lose"
    interpretations = ("ito",)
    strong_order = orders(additive=1.0, diagonal=0.5, scalar=0.5, general=0.5)
    weak_order = orders(additive=1.0, diagonal=1.0, scalar=1.0, general=1.0)
    ode_order = 1
    drift_evaluations = 1
    diffusion_evaluations = 1
    preserves = "finite moments under drifts that grow faster than x"
    general_purpose = False

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
        f = sde.drift(t, x)
        norm = torch.linalg.vector_norm(f.reshape(x.shape[0], -1), dim=1)
        move = f * dt / (1.0 + abs(dt) * norm.view(-1, *(1,) * (x.ndim - 1)))
        return x + move + sde.apply_noise(sde.diffusion(t, x), w.dw, x)
