"""The exact solution of equations that have one: no error of the step, however long."""

from __future__ import annotations

import math
from typing import Any, final

from torch import Tensor

from sdekit.noise.increment import Increment
from sdekit.solvers.base import Solver, orders
from sdekit.solvers.equation import Equation

__all__ = ["Exact"]


@final
class Exact(Solver):
    """x_next = exact(t, t_next, x, dW), the equation's own solution over the step.

    An equation has it by a method ``exact(s, t, x, dW)``: x_t with the law that it has given x_s =
    x, dW = W_t - W_s. ``GBM`` gives x_t on that Brownian path, whatever the step (strong order
    infinite: the error is that of rounding). Affine equations give their normal law, mean + std
    dW / sqrt(dt), which follows the path with strong order 1 (Gillespie 1996); ``MatrixOU``
    likewise. The law at the grid's times is exact for all.
    """

    name = "exact"
    paper = "Gillespie 1996"
    choose = "equations with a closed law: steps as long as the times that are wanted"
    interpretations = ("ito", "stratonovich")
    strong_order = orders(additive=1.0, diagonal=math.inf, scalar=math.inf, general=1.0)
    weak_order = orders(additive=math.inf, diagonal=math.inf, scalar=math.inf, general=math.inf)
    drift_evaluations = 0
    diffusion_evaluations = 0
    needs = ("exact",)
    preserves = "the law at the grid's times"
    general_purpose = False
    bridges = False  # the parts of a step of an affine equation would not add up to the step

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
        x_next: Tensor = sde.sde.exact(t, t_next, x, w.dw)
        return x_next
