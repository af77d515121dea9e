r"""Adaptive Runge-Kutta for a batch in which each sample has its own time, step and status.

A step of sample b from t to t + dt, with slopes k_j = F(t + c_j dt, Y_j) that the caller evaluates:

    Y_i = y + dt \sum_{j < i} a_ij k_j                                  ``rk_stage``
    E = max over groups of RMS(dt \sum_j e_j k_j / (atol + rtol max(|y|, |y_new|)))
    accept if E <= 1;  h <- dt clip(safety E^-alpha last^beta)          ``rk_finish``

y_new is the last stage's Y ("first same as last": its slope is the next step's first). alpha, beta:
the PI controller of Gustafsson 1991, in the form of Hairer, Norsett & Wanner (II.4). All that a
step decides it decides from its own sample's numbers, so no sample's result depends on the batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import torch

__all__ = [
    "DONE", "MAX_STEPS", "NONFINITE", "RUNNING", "STIFF", "UNDERFLOW", "Book", "Rule",
    "arrival", "finish_torch", "next_step", "stage_torch",
]  # fmt: skip

RUNNING: Final = -1
DONE: Final = 0
NONFINITE: Final = 1
UNDERFLOW: Final = 2
MAX_STEPS: Final = 3
STIFF: Final = 4
"""What became of a sample: on its way; at the end; a step of least size still left the finite
numbers, or still missed the tolerance; the steps ran out; or the explicit method's stability, not
its accuracy, held the steps down."""

SAFETY: Final = 0.9
SHRINK, GROW = 0.2, 10.0
AGAIN: Final = 0.25
"""A step that is refused twice running shrinks by this at least: where the error falls slower than
the order says, as at a kink or a singular start, the rule for smooth fields would creep."""
LEAST_ERROR: Final = 1e-4
"""Errors below this count as this in the controller's memory, so that one lucky step does not make
the next one's proposal small."""
ALPHA, BETA = 0.85, 0.2
"""Exponents of the controller, times the order: Hairer & Wanner's choice for dopri5. With 0.7 and
0.4, a step whose error is a thousandth of what it may be grows by 1.4 only, not by 2."""
PATIENCE: Final = 15
"""Steps of too large dt |lambda| before a sample is called stiff."""


class Rule(NamedTuple):
    """What is the same for all samples of a solve.

    error: e_j, one a slope. order: of the solution that is carried on. rtol, atol: of the error
    test. split: the first group are components [:split], the second the rest, which may be none.
    rest: (rtol, atol) of the second group, where they differ.
    stops: times at which a step must end, in the order in which they come; the last is the end.
    forwards: whether time grows. floor: the least |dt| that is tried again. max_steps: attempts of
    a sample, at most. stability: the bound of dt |lambda| on the negative axis; 0 looks for no
    stiffness.
    """

    error: tuple[float, ...]
    order: int
    rtol: float
    atol: float
    split: int
    stops: tuple[float, ...]
    forwards: bool
    floor: float
    max_steps: int
    stability: float = 0.0
    rest: tuple[float, float] | None = None


class Book(NamedTuple):
    """What each sample carries besides its state: all (B,), overwritten by ``rk_finish``.

    t: time. dt: the step that is being made, signed. h: the step that accuracy would allow, which
    a stop may have shortened to dt. last: the controller's memory, the error of the last accepted
    step; negative right after a rejection, when the step must not grow. All float64. status: int8.
    accepted, rejected, stiff: int32; stiff counts steps that look stiff.
    """

    t: torch.Tensor
    dt: torch.Tensor
    h: torch.Tensor
    last: torch.Tensor
    status: torch.Tensor
    accepted: torch.Tensor
    rejected: torch.Tensor
    stiff: torch.Tensor


def stage_torch(
    y: torch.Tensor,
    slopes: torch.Tensor | Sequence[torch.Tensor],
    weights: Sequence[float],
    dt: torch.Tensor,
) -> torch.Tensor:
    """y + dt sum_j weights[j] slopes[j], for y (B, n), slopes (s, B, n), dt (B,)."""
    total = torch.zeros_like(y)
    for j, a in enumerate(weights):
        if a != 0.0:
            total = total + a * slopes[j]
    return y + dt.to(y.dtype)[:, None] * total


def finish_torch(
    y: torch.Tensor,
    y_new: torch.Tensor,
    before: torch.Tensor,
    slopes: torch.Tensor | Sequence[torch.Tensor],
    book: Book,
    rule: Rule,
) -> tuple[torch.Tensor, torch.Tensor, Book, torch.Tensor]:
    """(y, first slope of the next step, book, error E) after an attempt: the readable reference.

    y, y_new, before: (B, n); before is the stage before the last, for the estimate of stiffness.
    slopes: (s, B, n), the last at (t + dt, y_new). A sample that is not RUNNING stays as it is.
    """
    t, dt, h, last, status, accepted, rejected, stiff = book
    running, kind = status == RUNNING, status.dtype
    difference = dt.to(y.dtype)[:, None] * sum(
        e * slopes[j] for j, e in enumerate(rule.error) if e != 0.0
    )
    size = torch.maximum(y.abs(), y_new.abs())
    first, second = size[:, : rule.split], size[:, rule.split :]
    error = _rms(difference[:, : rule.split] / (rule.atol + rule.rtol * first))
    if rule.split < y.shape[1]:
        rtol, atol = rule.rest or (rule.rtol, rule.atol)
        error = torch.maximum(error, _rms(difference[:, rule.split :] / (atol + rtol * second)))
    whole = y_new.isfinite().all(1) & slopes[-1].isfinite().all(1) & error.isfinite()
    error = torch.where(whole, error.to(t.dtype), math.inf)

    accept = running & (error <= 1.0)
    reject = running & ~accept
    alpha, beta = ALPHA / rule.order, BETA / rule.order
    memory = last.abs()
    grown = SAFETY * error.clamp_min(1e-10) ** -alpha * memory**beta
    grown = grown.clamp(SHRINK, GROW)
    grown = torch.where(last < 0.0, grown.clamp_max(1.0), grown)
    shrunk = (SAFETY * error ** (-1.0 / rule.order)).clamp(SHRINK, SAFETY)
    shrunk = torch.where(last < 0.0, shrunk.clamp_max(AGAIN), shrunk)

    t_next = arrival(t, dt, rule)
    # A step that a stop cut short says nothing against the longer one, unless it was hard itself.
    cut = (dt.abs() < h.abs()) & (grown >= 1.0)
    keep = cut & (h.abs() > (dt * grown).abs())
    proposal = torch.where(keep, h, dt * grown)
    h = torch.where(accept, proposal, torch.where(reject, dt * shrunk, h))
    t = torch.where(accept, t_next, t)

    if rule.stability > 0.0:
        gap = _norm(y_new - before)
        rate = dt.abs() * _norm(slopes[-1] - slopes[-2]).to(t.dtype)
        tense = rate > rule.stability * gap.to(t.dtype)
        counted = torch.where(tense, stiff + 1, (stiff - 1).clamp_min(0))
        stiff = torch.where(accept, counted, stiff)

    accepted = accepted + accept.to(accepted.dtype)
    rejected = rejected + reject.to(rejected.dtype)
    remembered = torch.where(keep, memory, error.clamp_min(LEAST_ERROR))
    last = torch.where(accept, remembered, torch.where(reject, -memory, last))
    dt = torch.where(running, next_step(t, h, rule), dt)

    end = rule.stops[-1]
    small = reject & (h.abs() < rule.floor)
    status = torch.where(small, torch.where(error.isinf(), NONFINITE, UNDERFLOW), status)
    out_of_steps = running & (status == RUNNING) & (accepted + rejected >= rule.max_steps)
    status = torch.where(out_of_steps, MAX_STEPS, status)
    tired = running & (status == RUNNING) & (stiff >= PATIENCE)
    status = torch.where(tired, STIFF, status)
    status = torch.where(accept & (t == end), DONE, status).to(kind)
    rows = accept[:, None]
    y = torch.where(rows, y_new, y)
    first = torch.where(rows, slopes[-1], slopes[0])
    return y, first, Book(t, dt, h, last, status, accepted, rejected, stiff), error


def arrival(t: torch.Tensor, dt: torch.Tensor, rule: Rule) -> torch.Tensor:
    """t + dt; a step that was cut to a stop ends there, to the bit."""
    t_next = t + dt
    for stop in rule.stops:
        t_next = torch.where(dt == stop - t, stop, t_next)
    return t_next


def next_step(t: torch.Tensor, h: torch.Tensor, rule: Rule) -> torch.Tensor:
    """h, or what is left to the next stop where h would reach or nearly reach it.

    Nearly: a step within a hundredth of the stop is stretched to it, and the last two before it
    are made equal, so that no crumb of a step is left over.
    """
    sign = 1.0 if rule.forwards else -1.0
    left = rule.stops[-1] - t
    for stop in reversed(rule.stops[:-1]):
        left = torch.where(sign * (stop - t) > 0.0, stop - t, left)
    size, rest = h.abs(), left.abs()
    dt = torch.where(1.01 * size >= rest, left, torch.where(2.0 * size > rest, 0.5 * left, h))
    return dt


def _rms(part: torch.Tensor) -> torch.Tensor:
    return part.square().mean(1).sqrt()


def _norm(part: torch.Tensor) -> torch.Tensor:
    return part.square().sum(1).sqrt()
