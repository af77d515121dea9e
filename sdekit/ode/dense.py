r"""Dense output: the quartic through both ends, both slopes and the middle of a step.

With theta = (s - t) / dt: the cubic of Hermite through the ends, plus
16 (y_mid - cubic(1/2)) theta^2 (1 - theta)^2, of order 4 where y_mid is.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["Saver", "Taken", "cubic", "quartic"]


def cubic(
    theta: Tensor, dt: Tensor, y: Tensor, y_new: Tensor, first: Tensor, last: Tensor
) -> Tensor:
    """Hermite's cubic at t + theta dt, (B, n): theta, dt (B,); first, last: slopes of both ends."""
    s, h = theta.to(y.dtype)[:, None], dt.to(y.dtype)[:, None]
    rise = y_new - y
    bend = (1.0 - 2.0 * s) * rise + h * ((s - 1.0) * first + s * last)
    return y + s * (rise + (s - 1.0) * bend)


def quartic(
    theta: Tensor, dt: Tensor, y: Tensor, y_new: Tensor, first: Tensor, last: Tensor, middle: Tensor
) -> Tensor:
    """The quartic that passes through ``middle`` as well, the state at t + dt / 2."""
    s, h = theta.to(y.dtype)[:, None], dt.to(y.dtype)[:, None]
    half = 0.5 * (y + y_new) + 0.125 * h * (first - last)
    return cubic(theta, dt, y, y_new, first, last) + 16.0 * (middle - half) * (s * (1.0 - s)) ** 2


class Taken:
    """Steps that were accepted, of some samples: what an interpolant needs.

    rows: (m,) numbers of the batch. t, dt: (m,). The rest (m, n); middle may be missing.
    """

    def __init__(
        self,
        rows: Tensor,
        t: Tensor,
        dt: Tensor,
        y: Tensor,
        y_new: Tensor,
        first: Tensor,
        last: Tensor,
        middle: Tensor | None = None,
    ) -> None:
        self.rows, self.t, self.dt = rows, t, dt
        self.parts = [v for v in (y, y_new, first, last, middle) if v is not None]

    def at(self, s: float, which: Tensor) -> Tensor:
        """The states of the steps numbered ``which`` at time s."""
        t, dt = self.t[which], self.dt[which]
        parts = [v[which] for v in self.parts]
        return (quartic if len(parts) == 5 else cubic)((s - t) / dt, dt, *parts)


class Saver:
    """States at wanted times, (S, B, n): NaN where a sample never came that far."""

    def __init__(self, times: Sequence[float], y: Tensor, t0: float, forwards: bool) -> None:
        self.times, self.sign = list(times), 1.0 if forwards else -1.0
        self.states = y.new_full((len(self.times), *y.shape), torch.nan)
        for j, s in enumerate(self.times):
            if s == t0:
                self.states[j] = y

    def put(self, taken: Taken) -> None:
        """Fill in the times that these steps passed."""
        end = taken.t + taken.dt
        for j, s in enumerate(self.times):
            passed = (self.sign * (s - taken.t) > 0.0) & (self.sign * (end - s) >= 0.0)
            which = passed.nonzero().squeeze(1)
            if which.numel():
                self.states[j, taken.rows[which]] = taken.at(s, which)
