"""The explicit midpoint method: Euler's step with the coefficients of a predicted middle."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor

from sdekit.noise.increment import Increment
from sdekit.solvers.base import Solver, orders
from sdekit.solvers.equation import Equation

__all__ = ["Midpoint"]


@final
class Midpoint(Solver):
    """x' = x + f dt / 2 + G dW / 2,  x_next = x + f' dt + G' dW.

    f' and G' are taken at (t + (t_next - t) / 2, x') (Runge 1895; for noise Ruemelin 1982).
    Stratonovich; where the noise is additive the two interpretations are one. Strong order 1 for
    additive, diagonal (g_i of t and x_i alone) and scalar noise, 1/2 for noise that does not
    commute, general or diagonal with components that mix; weak order 1; order 2 for ODEs.
    """

    name = "midpoint"
    paper = "Ruemelin 1982"
    choose = "Stratonovich equations, where the coefficients should not be seen at the step's end"
    interpretations = ("stratonovich",)
    strong_order = orders(additive=1.0, diagonal=1.0, scalar=1.0, general=0.5)
    weak_order = orders(additive=1.0, diagonal=1.0, scalar=1.0, general=1.0)
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
        half, dw = t + 0.5 * (t_next - t), w.dw
        f, g = sde.drift(t, x), sde.diffusion(t, x)
        middle = x + f * (0.5 * dt) + sde.apply_noise(g, 0.5 * dw, x)
        return (
            x + sde.drift(half, middle) * dt + sde.apply_noise(sde.diffusion(half, middle), dw, x)
        )
