r"""The time in which the probability flow of a diffusion is solved: u = \sqrt t.

    dy/du = 2 u F(u^2, y)

Near t = 0 the noise of most diffusions grows as \sqrt t (VP: its variance is beta t), and a
network that tells the noise gives a score of 1 / \sqrt t there. A method of order five that steps
in t loses its order, and its error estimate, a difference of two rules that are wrong alike, lets
ten times the tolerance pass. In u the same field is smooth, and where F is smooth in t it is so in
u. A mean error of 1e-3 nats on the benchmark's digits takes 95 to 115 evaluations in u, 150 in t.

A score in closed form keeps its own time: a density is smooth down to t = 0, and the mixtures of
the benchmark would take 8 percent more evaluations in u.
"""

from __future__ import annotations

import math
from typing import final

from torch import Tensor

from sdekit.likelihood.flow import Flow

__all__ = ["Clock"]


@final
class Clock:
    """Which time a flow is solved in: the root for a diffusion's, else its own.

    closed: whether the divergence is the score's closed form.
    """

    def __init__(self, flow: Flow, closed: bool) -> None:
        self._breaks = flow.breaks
        self.low, self.high = sorted((flow.t_data, flow.t_prior))
        self.root = flow.sde is not None and not closed and self.low >= 0.0

    def of(self, t: float) -> float:
        """The clock's time at t."""
        return math.sqrt(t) if self.root else t

    def breaks(self) -> list[float]:
        """Those of the flow that lie between its ends, in the clock's time."""
        return [self.of(b) for b in self._breaks if self.low < b < self.high]

    def first(self, start: float) -> float | None:
        """The longest first step from ``start``, in the clock's time; None leaves it to the solver.

        As long as start itself, after which t is four times as large: networks are often given
        log t, and the solver's rule, which looks a hundredth as far, cannot see what that does.
        Without this, or with twice as much, the digits' error stays at some 3e-4 nats in the mean
        however fine the tolerance; it costs four evaluations.
        """
        return start if self.root and start > 0.0 else None

    def field_time(self, u: Tensor) -> Tensor:
        """t; rounding must not ask for a score outside the flow's times."""
        return (u * u).clamp(self.low, self.high) if self.root else u

    def by_clock(self, u: Tensor, slope: Tensor) -> Tensor:
        """dy/du of dy/dt (m, n), for u of shape (m,) or one time in all."""
        return (2.0 * u).reshape(-1, 1).to(slope.dtype) * slope if self.root else slope
