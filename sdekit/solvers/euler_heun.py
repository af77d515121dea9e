"""The Euler-Heun method: Euler's rule for the drift, Heun's for the noise."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor

from sdekit.noise.increment import Increment
from sdekit.solvers.base import Solver, orders
from sdekit.solvers.equation import Equation

__all__ = ["EulerHeun"]


@final
class EulerHeun(Solver):
    """x' = x + G dW,  x_next = x + f dt + (G + G') dW / 2,  G' at (t_next, x').

    (Ruemelin 1982; Kloeden & Platen 1992, section 4.9.) One drift a step, for drifts that cost
    much. Stratonovich; where the noise is additive the two interpretations are one. Strong order 1
    for additive, diagonal (g_i of t and x_i alone) and scalar noise, 1/2 for noise that does not
    commute, general or diagonal with components that mix; weak order 1.
    """

    name = "euler_heun"
    paper = "Ruemelin 1982"
    choose = "Stratonovich equations whose drift costs much more than their diffusion"
    interpretations = ("stratonovich",)
    strong_order = orders(additive=1.0, diagonal=1.0, scalar=1.0, general=0.5)
    weak_order = orders(additive=1.0, diagonal=1.0, scalar=1.0, general=1.0)
    ode_order = 1
    drift_evaluations = 1
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
        g = sde.diffusion(t, x)
        g_end = sde.diffusion(t_next, x + sde.apply_noise(g, w.dw, x))
        return x + sde.drift(t, x) * dt + sde.apply_noise(g + g_end, 0.5 * w.dw, x)
