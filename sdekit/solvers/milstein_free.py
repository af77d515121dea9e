"""Milstein's method with a finite difference for the derivative."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor

from sdekit.noise.increment import Increment
from sdekit.solvers.base import Solver, orders
from sdekit.solvers.equation import Equation
from sdekit.solvers.tableau import mixed_diffusion

__all__ = ["MilsteinFree"]


@final
class MilsteinFree(Solver):
    """x' = x + g sqrt(dt),  x_next = x + f dt + g dW + (g' - g) (dW^2 - dt) / (2 sqrt(dt)).

    g' is taken at (t, x') (Platen 1984; Kloeden & Platen 1992, section 11.1, where x' has f dt
    added; without it the step equals Milstein's for a diffusion that is linear in x, and differs
    from it by O(dt^(3/2)) for others). The diffusion needs no derivative.

    Ito; additive, diagonal (component i depends on t and x_i alone) and scalar noise. Strong
    order 1, weak order 1.
    """

    name = "milstein_free"
    paper = "Platen 1984"
    choose = "as milstein, for Ito equations whose diffusion has no derivative in torch"
    interpretations = ("ito",)
    strong_order = orders(additive=1.0, diagonal=1.0, scalar=1.0)
    weak_order = orders(additive=1.0, diagonal=1.0, scalar=1.0)
    ode_order = 1
    drift_evaluations = 1
    diffusion_evaluations = 2

    def obstacle(self, sde: Equation, t: Tensor, x: Tensor) -> str:
        """Diagonal noise must be g_i(t, x_i)."""
        return mixed_diffusion(sde, t, x)

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
        euler = x + sde.drift(t, x) * dt + sde.apply_noise(g, w.dw, x)
        if sde.deterministic or sde.noise_type == "additive":
            return euler
        root = abs(dt) ** 0.5
        slope = (sde.diffusion(t, x + g * root) - g) / root
        return euler + sde.apply_noise(slope, 0.5 * (w.dw**2 - w.length), x)
