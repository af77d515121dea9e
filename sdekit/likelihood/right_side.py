"""The right-hand side that the ODE solver sees: the flow's field, and its divergence beside it."""

from __future__ import annotations

from typing import Final, final

import torch
from torch import Tensor

from sdekit.likelihood.clock import Clock
from sdekit.likelihood.divergence import Divergence
from sdekit.likelihood.flow import Field, Flow

__all__ = ["SMALL", "RightSide"]

SMALL: Final = 28
"""Components of which a trajectory kernel may hold the states, slopes and books of a sample."""


@final
class RightSide:
    """dy/du for y = (x, integrals of the divergence's columns), (B, D + columns).

    ``clock`` says what u is: t, or its root.
    field: the flow's, of times (B,). estimator: of the divergence; None takes the closed form.

    Samples of more components than a trajectory kernel holds are carried in float64 whatever x's
    type: an integral of some thousand nats would lose 1e-3 of them to float32's rounding. A field
    with a closed form is evaluated in float64 then (the rounding of its coefficients is the same
    for all components, and adds up), one that may be a network's in x's type.
    """

    def __init__(self, flow: Flow, field: Field, x: Tensor, estimator: Divergence | None) -> None:
        event, dtype = x.shape[1:], x.dtype
        self.flow, self.field, self.event, self.estimator = flow, field, event, estimator
        self.clock = Clock(flow, closed=estimator is None)
        self.dim = event.numel()
        self.carried = dtype if self.dim <= SMALL else torch.float64
        self.dtype = self.carried if estimator is None else dtype
        self.columns = 1 if estimator is None else estimator.columns
        self._rows: Tensor | None = None
        self._taken: Divergence | None = None

    def start(self, x: Tensor) -> Tensor:
        """y at the beginning."""
        y = torch.cat([x.reshape(len(x), self.dim), x.new_zeros(len(x), self.columns)], dim=1)
        return y.to(self.carried)

    def __call__(self, u: Tensor, y: Tensor, rows: Tensor) -> Tensor:
        """dy/du of the samples ``rows``: u (m,), y (m, D + columns)."""
        t, x = (
            self.clock.field_time(u).to(self.dtype),
            y[:, : self.dim].to(self.dtype).reshape(-1, *self.event),
        )
        if self.estimator is None:
            slope, columns = self.flow.with_divergence(t, x, self.field)
            columns = columns.reshape(-1, 1)
        else:
            slope, columns = self._of(rows)(lambda x: self.field(t, x), x)
        both = torch.cat([slope.reshape(-1, self.dim), columns], dim=1).to(y.dtype)
        return self.clock.by_clock(u, both)

    def _of(self, rows: Tensor) -> Divergence:
        """The estimator of these samples; the stages of a step ask for the same ones."""
        assert self.estimator is not None
        if self._rows is not rows or self._taken is None:
            self._rows, self._taken = rows, self.estimator.take(rows)
        return self._taken
