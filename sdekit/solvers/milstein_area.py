"""Milstein's method for noise that does not commute, with the Levy areas."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor

from sdekit.noise.increment import Increment
from sdekit.solvers.base import Solver, orders
from sdekit.solvers.equation import Equation

__all__ = ["MilsteinArea"]


@final
class MilsteinArea(Solver):
    r"""x_next = x + f dt + \sum_j G_j dW_j + \sum_{jk} (G_j . grad) G_k J_{jk}.

    J_{jk} = \int W_j o dW_k over the step = dW_j dW_k / 2 + area_{jk}, and G_j is column j of the
    diffusion (Milstein 1974; Kloeden & Platen 1992, section 10.3). Stratonovich. The areas are
    drawn with their mean and variance given dW and the space-time areas (Davie 2014; Foster, Lyons
    & Oberhauser 2020), which keeps the order.

    General noise, from one Brownian motion on: strong order 1, weak order 1. The diffusion must be
    written in torch, which differentiates it, once for each Brownian motion.
    """

    name = "milstein_area"
    paper = "Milstein 1974; Davie 2014"
    choose = "paths of Stratonovich equations whose noise does not commute"
    interpretations = ("stratonovich",)
    strong_order = orders(general=1.0)
    weak_order = orders(general=1.0)
    ode_order = 1
    drift_evaluations = 1
    diffusion_evaluations = 2  # and one more for each further Brownian motion
    draws = ("dw", "h", "area")
    bridges = False  # the area over a part of a step, given that of the whole, is not known

    def obstacle(self, sde: Equation, t: Tensor, x: Tensor) -> str:
        """Whether the diffusion can be differentiated."""
        try:
            sde.diffusion_along(t, x, x)
        except TypeError as error:
            return str(error)
        return ""

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
        x_next = x + sde.drift(t, x) * dt
        if sde.deterministic:
            return x_next
        g, dw = sde.diffusion(t, x), w.dw
        x_next = x_next + sde.apply_noise(g, dw, x)
        for j in range(dw.shape[1]):
            iterated = 0.5 * dw[:, j : j + 1] * dw + w.levy[:, j]
            x_next = x_next + sde.apply_noise(sde.diffusion_along(t, x, g[..., j]), iterated, x)
        return x_next
