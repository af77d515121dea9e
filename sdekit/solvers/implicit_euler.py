"""The drift-implicit Euler method for stiff drifts of one component at a time."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor

from sdekit.noise.increment import Increment
from sdekit.solvers.base import Solver, orders
from sdekit.solvers.equation import Equation

__all__ = ["ImplicitEuler"]

NEWTON_STEPS = 8


@final
class ImplicitEuler(Solver):
    """x_next = x + f(t_next, x_next) dt + G(t, x) dW, eight Newton steps from x + G dW.

    (Kloeden & Platen 1992, section 12.2; Higham, Mao & Stuart 2002.) Component i of the drift must
    depend on t and x_i alone, so that one derivative gives all d f_i / d x_i. A linear drift takes
    one Newton step, the others change nothing; for f = -k x^3 eight reach rounding where x + G dW
    is up to five times x_next. The equation for x_next has one solution where dt df_i / dx_i < 1
    everywhere: a drift that decays has it for every dt > 0, one that grows somewhere needs short
    steps.

    Ito; any noise. Strong order 1/2, and 1 where the noise is additive; weak order 1. A-stable.
    """

    name = "implicit_euler"
    paper = "Higham, Mao & Stuart 2002"
    choose = "stiff drifts that act on each component by itself"
    interpretations = ("ito",)
    strong_order = orders(additive=1.0, diagonal=0.5, scalar=0.5, general=0.5)
    weak_order = orders(additive=1.0, diagonal=1.0, scalar=1.0, general=1.0)
    ode_order = 1
    drift_evaluations = 2 * NEWTON_STEPS
    diffusion_evaluations = 1
    preserves = "the decay of stiff drifts, for every step size"
    general_purpose = False

    def obstacle(self, sde: Equation, t: Tensor, x: Tensor) -> str:
        """The drift must be f_i(t, x_i)."""
        if not sde.mixes("drift", t, x):
            return ""
        return (
            "the drift's component i must depend on t and x_i alone, and that of "
            f"{sde.name} mixes components: use 'tamed_euler', or 'euler_maruyama' with shorter "
            "steps"
        )

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
        known = x + sde.apply_noise(sde.diffusion(t, x), w.dw, x)
        y, ones = known, torch.ones_like(x)
        for _ in range(NEWTON_STEPS):
            residual = y - known - sde.drift(t_next, y) * dt
            y = y - residual / (1.0 - sde.drift_along(t_next, y, ones) * dt)
        return y
