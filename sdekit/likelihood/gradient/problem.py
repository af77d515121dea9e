"""One solve that is asked for with gradients, and the accepted steps of a solve made once more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sdekit_kernels.steps.runge_kutta import stage_torch
from torch import Tensor

from sdekit.likelihood.right_side import RightSide
from sdekit.likelihood.tolerances import hold
from sdekit.ode import TABLEAUS, OdeSolution, integrate
from sdekit.ode.tableau import Tableau

__all__ = ["Problem", "Slope", "entry_step"]

Slope = Callable[[int, Tensor, Tensor], Tensor]
"""(number of the stage, t (m,), y (m, n)) -> dy/dt (m, n)."""


@dataclass(frozen=True)
class Problem:
    """dy/du = side(u, y, rows) from t0 to t1, in the side's clock, and how closely it is solved.

    Two choices differ from those of a plain likelihood. No kernel of whole trajectories: weights in
    training change from call to call, and a trace for each would cost more than it saves. No stiff
    fallback: its number of stages is decided anew at each step, which no recorded step tells.
    """

    side: RightSide
    t0: float
    t1: float
    rtol: float
    atol: float
    method: str
    max_steps: int
    breaks: Sequence[float]
    backend: str

    @property
    def tableau(self) -> Tableau:
        """The method's coefficients."""
        return TABLEAUS[self.method]

    def solve(
        self,
        field: Callable[[Tensor, Tensor, Tensor], Tensor],
        y: Tensor,
        *,
        backwards: bool = False,
        record: bool = False,
    ) -> OdeSolution:
        """``field`` from y (B, n) on, in one of the two directions; no gradients flow through."""
        start, end = (self.t1, self.t0) if backwards else (self.t0, self.t1)
        # On the way there the second group is the log-density, held as ``log_likelihood`` holds it.
        # On the way back it is the adjoint, of entries of size 1 at most at the start.
        held = hold(self.rtol, self.atol, self.side.dim, self.side.dtype)
        return integrate(
            field,
            y,
            start,
            end,
            rtol=self.rtol if backwards else held.rtol,
            atol=self.atol if backwards else held.atol,
            method=self.method,
            split=self.side.dim,
            rest=None if backwards else held.rest,
            max_steps=self.max_steps,
            breaks=self.breaks,
            first=self.side.clock.first(start),
            stiff=False,
            record=record,
            backend=self.backend,
            fuse=False,
        )


def entry_step(slope: Slope, t: Tensor, dt: Tensor, y: Tensor, tableau: Tableau) -> Tensor:
    """y(t + dt) by the stages of one step, in plain torch: y (m, n), t and dt (m,) float64.

    The slope at the new state, which serves the error estimate alone, is not evaluated, so a step
    takes as many evaluations as it did in the solve: there its first slope was known.
    """
    slopes = [slope(0, t, y)]
    inner = list(zip(tableau.c, tableau.a, strict=True))[:-1]
    for i, (c, weights) in enumerate(inner, start=1):
        at = stage_torch(y, slopes, weights, dt)
        slopes.append(slope(i, t + c * dt, at))
    return stage_torch(y, slopes, tableau.a[-1], dt)
