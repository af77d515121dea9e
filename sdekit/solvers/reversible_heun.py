"""The reversible Heun method: a second state makes each step undo itself exactly."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor

from sdekit.noise.increment import Increment
from sdekit.solvers.base import Solver, orders
from sdekit.solvers.equation import Equation

__all__ = ["ReversibleHeun"]


@final
class ReversibleHeun(Solver):
    """y_next = 2 x - y + f dt + G dW,  x_next = x + (f + f') dt / 2 + (G + G') dW / 2.

    f, G are taken at (t, y), f', G' at (t_next, y_next); y, which is carried, starts at x (Kidger,
    Foster, Li & Lyons 2021, algorithm 1). The same step from (x_next, y_next) with -dt and -dW
    gives (x, y) back, so that a backward pass needs no memory of the path.

    Stratonovich; where the noise is additive the two interpretations are one. Strong order 1 for
    additive, diagonal (g_i of t and x_i alone) and scalar noise, 1/2 for noise that does not
    commute, general or diagonal with components that mix; weak order 2 for additive noise, 1 for
    others; order 2 for ODEs.

    The price: where an equation pulls together as dx = -a x dt, the difference between x and y
    grows as e^{a t} whatever the step, and with it x's error. Steps of 0.01 / a are right up to
    times of some 10 / a.
    """

    name = "reversible_heun"
    paper = "Kidger, Foster, Li & Lyons 2021"
    choose = "backward passes that keep no path; short times"
    interpretations = ("stratonovich",)
    strong_order = orders(additive=1.0, diagonal=1.0, scalar=1.0, general=0.5)
    weak_order = orders(additive=2.0, diagonal=1.0, scalar=1.0, general=1.0)
    ode_order = 2
    drift_evaluations = 2
    diffusion_evaluations = 2
    carries = ("second",)
    preserves = "the way back: the step with -dt and -dW undoes the step"
    general_purpose = False  # of equal order with Heun's method, which does not lose stability

    def start(self, sde: Equation, t: Tensor, x: Tensor) -> tuple[Tensor, ...]:
        """y = x."""
        return (x,)

    def step(
        self,
        sde: Equation,
        t: Tensor,
        t_next: Tensor,
        dt: Any,
        x: Tensor,
        w: Increment,
        *carried: Tensor,
    ) -> tuple[Tensor, ...]:
        """The formula of the class; (x_next, y_next)."""
        (y,) = carried
        f, g = sde.drift(t, y), sde.diffusion(t, y)
        y_next = 2.0 * x - y + f * dt + sde.apply_noise(g, w.dw, x)
        f_next, g_next = sde.drift(t_next, y_next), sde.diffusion(t_next, y_next)
        noise = sde.apply_noise(g + g_next, 0.5 * w.dw, x)
        return x + (f + f_next) * (0.5 * dt) + noise, y_next
