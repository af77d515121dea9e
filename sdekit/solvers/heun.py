"""Heun's method: the trapezoidal rule with a predicted end point."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor

from sdekit.noise.increment import Increment
from sdekit.solvers.base import Solver, orders
from sdekit.solvers.equation import Equation

__all__ = ["Heun"]


@final
class Heun(Solver):
    """x' = x + f dt + G dW,  x_next = x + (f + f') dt / 2 + (G + G') dW / 2.

    f' and G' are taken at (t_next, x') (Heun 1900; for noise Ruemelin 1982). Stratonovich; where
    the noise is additive the two interpretations are one. Strong order 1 for additive, diagonal
    (g_i of t and x_i alone) and scalar noise, 1/2 for noise that does not commute, general or
    diagonal with components that mix; weak order 2 for additive noise, 1 for others; order 2 for
    ODEs.
    """

    name = "heun"
    paper = "Ruemelin 1982"
    choose = "Stratonovich equations; expectations under additive noise at two drifts a step"
    interpretations = ("stratonovich",)
    strong_order = orders(additive=1.0, diagonal=1.0, scalar=1.0, general=0.5)
    weak_order = orders(additive=2.0, diagonal=1.0, scalar=1.0, general=1.0)
    ode_order = 2
    drift_evaluations = 2
    diffusion_evaluations = 2

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
        f, g = sde.drift(t, x), sde.diffusion(t, x)
        end = x + f * dt + sde.apply_noise(g, w.dw, x)
        f_end, g_end = sde.drift(t_next, end), sde.diffusion(t_next, end)
        return x + (f + f_end) * (0.5 * dt) + sde.apply_noise(g + g_end, 0.5 * w.dw, x)
