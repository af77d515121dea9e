"""The classical Runge-Kutta method, for equations without noise."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor

from sdekit.noise.increment import Increment
from sdekit.solvers.base import Solver, orders
from sdekit.solvers.equation import Equation

__all__ = ["RungeKutta4"]


@final
class RungeKutta4(Solver):
    """x_next = x + (f_1 + 2 f_2 + 2 f_3 + f_4) dt / 6  (Kutta 1901).

    f_1 at (t, x), f_2 at (t + dt / 2, x + f_1 dt / 2), f_3 at (t + dt / 2, x + f_2 dt / 2), f_4 at
    (t_next, x + f_3 dt). ODEs only, of which it has order 4; ``dt`` may be negative.
    """

    name = "rk4"
    paper = "Kutta 1901"
    choose = "equations without noise"
    interpretations = ("ito", "stratonovich")
    strong_order = orders()
    weak_order = orders()
    ode_order = 4
    drift_evaluations = 4
    diffusion_evaluations = 0

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
        half = t + 0.5 * (t_next - t)
        f_1 = sde.drift(t, x)
        f_2 = sde.drift(half, x + f_1 * (0.5 * dt))
        f_3 = sde.drift(half, x + f_2 * (0.5 * dt))
        f_4 = sde.drift(t_next, x + f_3 * dt)
        return x + (f_1 + 2.0 * (f_2 + f_3) + f_4) * (dt / 6.0)
