"""Full truncation: Euler's method for equations that stay at zero or above."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor

from sdekit.noise.increment import Increment
from sdekit.sde.base import nonnegative_mask
from sdekit.solvers.base import Solver, orders
from sdekit.solvers.equation import Equation

__all__ = ["FullTruncation"]


@final
class FullTruncation(Solver):
    """y_next = y + f(t, x) dt + G(t, x) dW,  x = max(y, 0)  (Lord, Koekkoek & van Dijk 2010).

    The maximum is taken of the components that the equation calls ``nonnegative``; y, which may
    fall below zero and is then pulled back by the drift at x = 0, is carried. Of the Euler schemes
    for square-root processes it has the least bias.

    Ito; any noise but additive. Strong order 1/2 and weak order 1 where paths keep away from zero
    (for ``CIR`` where 2 kappa theta is well above xi^2), slower where they do not.
    """

    name = "full_truncation"
    paper = "Lord, Koekkoek & van Dijk 2010"
    choose = "equations with square-root noise, whatever their form"
    interpretations = ("ito",)
    strong_order = orders(diagonal=0.5, scalar=0.5, general=0.5)
    weak_order = orders(diagonal=1.0, scalar=1.0, general=1.0)
    drift_evaluations = 1
    diffusion_evaluations = 1
    needs = ("nonnegative",)
    carries = ("untruncated",)
    preserves = "components that stay at zero or above"
    made_for = "Ito equations that declare nonnegative components"
    general_purpose = False

    def obstacle(self, sde: Equation, t: Tensor, x: Tensor) -> str:
        """Whether there is anything to truncate."""
        if bool(nonnegative_mask(sde.sde, x).any()):
            return ""
        return (
            "no component of it is said to stay at zero or above: write nonnegative = ... (all) "
            "or the components' numbers, or use 'euler_maruyama'"
        )

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
        y_next = y + sde.drift(t, x) * dt + sde.apply_noise(sde.diffusion(t, x), w.dw, x)
        kept = nonnegative_mask(sde.sde, x) & (y_next < 0.0)
        return torch.where(kept, 0.0, y_next), y_next
