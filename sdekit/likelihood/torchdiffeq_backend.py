"""torchdiffeq as a second backend, and as the oracle of the first.

It takes one step size for the whole batch. Two things keep the samples apart all the same: the
error norm is the worst sample's, not the batch's mean, so that each sample meets the tolerance
whatever its neighbours do; and a sample that leaves the finite numbers, or whose step size would
shrink to nothing, is frozen and reported instead of stopping the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import torch
from torch import Tensor

from sdekit.ode.solution import MAX_STEPS, NONFINITE, OK, UNDERFLOW, OdeSolution

__all__ = ["METHODS", "integrate_by_torchdiffeq"]

# Both are "first same as last": their last stage is evaluated at the step's own end (see _Batch).
METHODS: Final = ("dopri5", "bosh3")

# A sample that still refuses a step of this fraction of the whole time is given up. Steps shrink by
# 5 at most, so that takes about 14 rejections, and 10 accepted steps to grow again.
_SMALLEST_STEP = 1e-10


def integrate_by_torchdiffeq(
    rhs: Callable[[Tensor, Tensor], Tensor],
    y: Tensor,
    t0: float,
    t1: float,
    *,
    split: int,
    rtol: float,
    atol: float,
    method: str = "dopri5",
    breaks: Sequence[float] = (),
    max_steps: int = 10_000,
) -> OdeSolution:
    """Solve dy/dt = rhs(t, y) from t0 to t1, in either direction, for finite y (B, n), B >= 1.

    rhs gets t as a 0-d tensor of y's dtype, never beyond t1. ``split``: the error of a sample
    is the larger of the RMS norms of its columns [:split] and [split:], relative to
    atol + rtol |y|. ``breaks``: times where rhs is not smooth, at which a step ends, because an
    error estimate across a kink is worth nothing. ``max_steps``: attempts of the batch, after which
    all samples that are left have the status MAX_STEPS.
    """
    from torchdiffeq import odeint  # optional and slow to import: it brings scipy along

    start = torch.full((), t0, dtype=y.dtype, device=y.device)
    slope = rhs(start, y)
    batch = _Batch(rhs, y, split, abs(t1 - t0) * _SMALLEST_STEP, max_steps)
    batch.nfe += 1
    batch.give_up(~slope.isfinite().all(1), NONFINITE)
    times = torch.tensor([t0, t1], dtype=torch.float64, device=y.device)
    scale = atol + rtol * y.abs()
    # A step ends at t1 too: else the last one would overshoot, and ask for the score at times where
    # the schedule may have no values.
    low, high = min(t0, t1), max(t0, t1)
    inner = {float(b) for b in breaks if low < float(b) < high}
    stops = sorted(inner | {t1}, reverse=t1 < t0)
    odeint(
        batch,
        y,
        times,
        rtol=rtol,
        atol=atol,
        method=method,
        options={
            "norm": batch.norm,
            "first_step": _first_step(
                y[:, :split], slope[:, :split], scale[:, :split], abs(t1 - t0)
            ),
            "step_t": torch.tensor(stops, dtype=torch.float64, device=y.device),
        },
    )
    none = torch.zeros_like(batch.nfe)
    return OdeSolution(
        y=batch.last,
        t=times[-1].expand(len(y)),
        status=batch.status,
        nfe=batch.nfe,
        accepted=none,
        rejected=none.clone(),
        stiff=none.bool(),
        saved=None,
        path="torchdiffeq",
        reason="torchdiffeq was asked for: one step size for the whole batch",
    )


def _first_step(x: Tensor, slope: Tensor, scale: Tensor, span: float) -> float:
    """A hundredth of |x| / |dx/dt| of the fastest sample (Hairer, Norsett & Wanner, II.4)."""
    rate = _rms(slope / scale)
    ratio = _rms(x / scale) / rate
    ratio = ratio[ratio.isfinite()]
    step = 0.01 * float(ratio.min()) if ratio.numel() else span
    return min(max(step, 1e-6 * span), 0.1 * span)


def _rms(part: Tensor) -> Tensor:
    return part.square().mean(1).sqrt()


class _Batch:
    """The right-hand side that torchdiffeq sees, its error norm, and the book of who is alive."""

    def __init__(
        self,
        rhs: Callable[[Tensor, Tensor], Tensor],
        y: Tensor,
        split: int,
        floor: float,
        max_steps: int,
    ) -> None:
        n = y.shape[0]
        self.steps_left = max_steps
        self.rhs, self.split, self.floor = rhs, split, floor
        self.status = torch.zeros(n, dtype=torch.int8, device=y.device)
        self.nfe = torch.zeros(n, dtype=torch.int64, device=y.device)
        self.error = torch.zeros(n, dtype=y.dtype, device=y.device)
        self.last = y

    def __call__(self, t: Tensor, y: Tensor) -> Tensor:
        """The slope; zero for samples that were given up, which stay where they are."""
        # The last call of the last step is made at the solution at t1. It is kept because
        # torchdiffeq returns an interpolant there, which loses 5 bits to cancellation.
        self.last = y
        alive = self.status == OK
        self.nfe += alive
        return torch.where(alive.unsqueeze(1), self.rhs(t, y), 0.0)

    def norm(self, ratio: Tensor) -> Tensor:
        """The worst living sample's error; infinite, never NaN, so that the step is shortened."""
        if self.steps_left == 0:
            # Nobody is left, so the rest of the time is one long step.
            self.give_up(self.status == OK, MAX_STEPS)
        self.steps_left -= 1
        parts = (ratio[:, : self.split], ratio[:, self.split :])
        error = torch.maximum(*(_rms(part) for part in parts))
        error = torch.where(error.isfinite(), error, torch.inf)
        self.error = torch.where(self.status == OK, error, 0.0)
        return self.error.max()

    def callback_reject_step(self, t: Tensor, y: Tensor, dt: Tensor) -> None:
        """Gives up the samples that refuse even the smallest step."""
        if abs(float(dt)) < self.floor:
            self.give_up(self.error.isinf(), NONFINITE)
            self.give_up(self.error > 1.0, UNDERFLOW)

    def give_up(self, which: Tensor, why: int) -> None:
        self.status = torch.where(which & (self.status == OK), why, self.status).to(torch.int8)
