"""The Euler-Maruyama method."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor

from sdekit.noise.increment import Increment
from sdekit.solvers.base import Solver, orders
from sdekit.solvers.equation import Equation

__all__ = ["EulerMaruyama"]


@final
class EulerMaruyama(Solver):
    """x_next = x + f(t, x) dt + G(t, x) dW  (Maruyama 1955; Kloeden & Platen 1992, section 10.2).

    Ito; any noise. Strong order 1/2, and 1 where the noise is additive; weak order 1.
    """

    name = "euler_maruyama"
    paper = "Maruyama 1955"
    choose = "any Ito equation; noise that does not commute; the cheapest step"
    interpretations = ("ito",)
    strong_order = orders(additive=1.0, diagonal=0.5, scalar=0.5, general=0.5)
    weak_order = orders(additive=1.0, diagonal=1.0, scalar=1.0, general=1.0)
    ode_order = 1
    drift_evaluations = 1
    diffusion_evaluations = 1
    em_kernel = True

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
        return x + sde.drift(t, x) * dt + sde.apply_noise(sde.diffusion(t, x), w.dw, x)
