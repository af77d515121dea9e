"""The loop over attempted steps: stages, the error test of each sample, who is done and leaves."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import torch
from sdekit_kernels.steps.rk_finish import rk_finish
from sdekit_kernels.steps.rk_stage import rk_stage
from sdekit_kernels.steps.runge_kutta import NONFINITE, RUNNING, Book, Rule, next_step
from torch import Tensor

from sdekit.ode.dense import Saver, Taken
from sdekit.ode.first_step import first_step
from sdekit.ode.solution import Steps
from sdekit.ode.tableau import Tableau

__all__ = ["Batch", "Field", "open_book", "run_attempts"]

_LEAVE: Final = 8
"""Done samples leave once they are more than one in so many of those on their way: until then,
moving the others would cost more than evaluating the idle ones does."""

Field = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(t (m,), y (m, n), rows (m,)) -> dy/dt (m, n), of the samples ``rows`` of the batch."""


class Batch:
    """All samples of a solve, written as each leaves; ``rows``, ``now``: those on their way.

    y: (B, n). t: (B,) float64. status: (B,) int8. nfe, accepted, rejected: (B,) int64. first: the
    longest first step.
    """

    def __init__(self, field: Field, y: Tensor, t: Tensor, backend: str) -> None:
        n = y.shape[0]
        self.field, self.backend = field, backend
        self.y, self.t = y.clone(), t.clone()
        self.status = torch.full((n,), NONFINITE, dtype=torch.int8, device=y.device)
        self.nfe, self.accepted, self.rejected = (
            torch.zeros(n, dtype=torch.int64, device=y.device) for _ in range(3)
        )
        self.rows = torch.arange(n, device=y.device)
        self.saver: Saver | None = None
        self.steps: Steps | None = None
        self.first = math.inf

    def evaluate(self, t: Tensor, y: Tensor) -> Tensor:
        """F of the samples on their way."""
        return self.field(t.to(y.dtype), y, self.rows)

    def leave(self, done: Tensor, now: Tensor, book: Book, stages: int) -> None:
        """Write down the samples that are done, and go on without them."""
        gone, tries = self.rows[done], (book.accepted + book.rejected)[done].long()
        self.y[gone], self.t[gone] = now[done], book.t[done].double()
        self.status[gone] = book.status[done].to(torch.int8)
        self.nfe[gone] += 2 + (stages - 1) * tries
        self.accepted[gone] += book.accepted[done].long()
        self.rejected[gone] += book.rejected[done].long()
        self.rows = self.rows[~done]

    @property
    def watched(self) -> bool:
        """Whether somebody wants to hear of every accepted step."""
        return self.saver is not None or self.steps is not None

    def hear(self, taken: Taken) -> None:
        """Tell those who want to hear."""
        if self.saver is not None:
            self.saver.put(taken)
        if self.steps is not None:
            self.steps.entries.append((taken.rows, taken.t, taken.dt))


def run_attempts(batch: Batch, tableau: Tableau, rule: Rule) -> None:
    """Attempt steps until every sample has left; ``batch.status`` may be STIFF then."""
    if batch.rows.numel() == 0:
        return
    now = batch.y.clone(memory_format=torch.contiguous_format)
    slopes = now.new_zeros((tableau.stages, *now.shape))
    slopes[0] = batch.evaluate(batch.t, now)
    book = open_book(batch, now, slopes[0], tableau, rule)
    while True:
        done = book.status != RUNNING
        count, m = int(done.sum()), done.shape[0]
        if count and (count == m or count * _LEAVE > m):
            batch.leave(done, now, book, tableau.stages)
            left = (~done).nonzero().squeeze(1)
            now, slopes, book = now[left], slopes[:, left], Book(*(v[left] for v in book))
            if count == m:
                return
        before = last = now
        for i, (c, weights) in enumerate(zip(tableau.c, tableau.a, strict=True), start=1):
            before, last = last, rk_stage(now, slopes, weights, book.dt, backend=batch.backend)
            slopes[i] = batch.evaluate(book.t + c * book.dt, last)
        if not batch.watched:
            rk_finish(now, last, before, slopes, book, rule, backend=batch.backend)
            continue
        old = (now.clone(), slopes[0].clone(), Book(*(v.clone() for v in book)))
        rk_finish(now, last, before, slopes, book, rule, backend=batch.backend)
        _report(batch, tableau, slopes, book, last, *old)


def open_book(batch: Batch, now: Tensor, slope: Tensor, tableau: Tableau, rule: Rule) -> Book:
    """The first steps; samples whose slope is not finite never set out."""
    whole = slope.isfinite().all(1) & now.isfinite().all(1)
    h = first_step(batch.evaluate, batch.t, now, slope, rule).clamp(-batch.first, batch.first)
    none = torch.zeros_like(batch.t, dtype=torch.int32)
    return Book(
        t=batch.t.clone(),
        dt=next_step(batch.t, h, rule),
        h=h,
        last=torch.ones_like(h),
        status=torch.where(whole, RUNNING, NONFINITE).to(torch.int8),
        accepted=none,
        rejected=none.clone(),
        stiff=none.clone(),
    )


def _report(
    batch: Batch,
    tableau: Tableau,
    slopes: Tensor,
    book: Book,
    last: Tensor,
    y: Tensor,
    first: Tensor,
    old: Book,
) -> None:
    """Tell of the samples whose step was accepted."""
    m = (book.accepted > old.accepted).nonzero().squeeze(1)
    if m.numel() == 0:
        return
    all_slopes = torch.cat([first[None], slopes[1:]])[:, m]
    middle = rk_stage(y[m], all_slopes, tableau.middle, old.dt[m], backend=batch.backend)
    taken = Taken(
        batch.rows[m], old.t[m], old.dt[m], y[m], last[m], first[m], slopes[-1][m], middle
    )
    batch.hear(taken)
