"""Milstein's method."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor

from sdekit.noise.increment import Increment
from sdekit.solvers.base import Solver, orders
from sdekit.solvers.equation import Equation
from sdekit.solvers.tableau import mixed_diffusion

__all__ = ["Milstein"]


@final
class Milstein(Solver):
    """x_next = x + f dt + g dW + (D_g g) (dW^2 - dt) / 2  (Milstein 1974).

    D_g g is the derivative of g in direction g: g_i dg_i / dx_i of diagonal noise, whose component
    i depends on t and x_i alone, which torch takes backwards, and (g . grad) g of scalar noise,
    forwards; ``MilsteinFree`` needs no derivative. Of a Stratonovich equation the last factor is
    dW^2 / 2.

    Additive, diagonal and scalar noise. Strong order 1, weak order 1.
    """

    name = "milstein"
    paper = "Milstein 1974"
    choose = "paths of either interpretation, of elementwise noise that torch can differentiate"
    interpretations = ("ito", "stratonovich")
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
        g, slope = _noise_and_slope(sde, t, x)
        euler = x + sde.drift(t, x) * dt + sde.apply_noise(g, w.dw, x)
        if slope is None:
            return euler
        twice = w.dw**2 - w.length if sde.interpretation == "ito" else w.dw**2
        return euler + sde.apply_noise(slope, 0.5 * twice, x)


def _noise_and_slope(sde: Equation, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor | None]:
    """(g, D_g g); None for noise that does not depend on x."""
    if sde.deterministic or sde.noise_type == "additive":
        return sde.diffusion(t, x), None
    if sde.noise_type == "diagonal":
        g, slope = sde.diffusion_and_slope(t, x)
        return g, slope * g
    g = sde.diffusion(t, x)
    return g, sde.diffusion_along(t, x, g.to(x.dtype))
