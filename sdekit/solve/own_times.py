"""Times of samples that each have their own."""

from __future__ import annotations

from typing import Any

import torch
from sdekit_kernels.checks import check_int_range
from sdekit_kernels.dispatch import compute_dtype
from torch import Tensor

from sdekit.solve.transition import OwnTimes

__all__ = ["has_own_times", "make_own_times"]


def has_own_times(*given: Any) -> bool:
    """Whether one of t0, t1, steps has an entry for each sample."""
    return any(isinstance(v, Tensor) and v.ndim > 0 for v in given)


def make_own_times(
    t0: Any, t1: Any, steps: Any, x0: Tensor, direction: str
) -> tuple[OwnTimes, list[float], Tensor]:
    """(times, the numbers 0 .. N of the longest sample's steps, each sample's end in float64).

    Raises TypeError or ValueError that names the argument and the sample.
    """
    batch = x0.shape[0]
    start, end = (_column(name, v, batch) for name, v in (("t0", t0), ("t1", t1)))
    count = _steps(steps, batch)
    span = end - start
    still = (span == 0).nonzero()
    if len(still):
        row = int(still[0, 0])
        raise ValueError(f"t0 and t1 of sample {row} are both {float(start[row])}")
    wrong = (span < 0) if direction == "forward" else (span > 0)
    if direction != "either" and bool(wrong.any()):
        row = int(wrong.nonzero()[0, 0])
        raise ValueError(
            f"this equation cannot be solved that way in time: sample {row} goes from "
            f"{float(start[row])} to {float(end[row])}"
        )
    dt = span / count
    columns = (start, dt, dt.abs().sqrt(), count.double())
    own = OwnTimes(*(v.to(x0.device, compute_dtype(x0.dtype)).contiguous() for v in columns))
    longest = int(count.max()) if batch else 1
    return own, [float(k) for k in range(longest + 1)], end


def _column(name: str, given: Any, batch: int) -> Tensor:
    """One finite float64 a sample."""
    if isinstance(given, Tensor) and not given.is_floating_point():
        raise TypeError(f"{name} must be floating-point, got {given.dtype}: write {name}.float()")
    try:
        value = torch.as_tensor(given, dtype=torch.float64).detach().cpu()
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number or a tensor, got {given!r}") from None
    if value.ndim > 1 or (value.ndim == 1 and value.shape[0] != batch):
        raise ValueError(
            f"{name} must be a number or have one entry a sample, ({batch},), got shape "
            f"{tuple(value.shape)}"
        )
    bad = (~torch.isfinite(value)).reshape(-1).nonzero()
    if len(bad):
        raise ValueError(f"{name} must be finite, but that of sample {int(bad[0, 0])} is not")
    return value.expand(batch)


def _steps(given: Any, batch: int) -> Tensor:
    """One number of steps a sample."""
    if not isinstance(given, Tensor):
        check_int_range("steps", given, 1, 1 << 32)
        return torch.full((batch,), int(given), dtype=torch.int64)
    if given.is_floating_point() or given.dtype == torch.bool or given.is_complex():
        raise TypeError(f"steps must be integers, got {given.dtype}: write steps.long()")
    value = given.detach().cpu().long()
    if value.ndim > 1 or (value.ndim == 1 and value.shape[0] != batch):
        raise ValueError(
            f"steps must be a number or have one entry a sample, ({batch},), got shape "
            f"{tuple(value.shape)}"
        )
    if value.numel() and int(value.min()) < 1:
        row = int((value.reshape(-1) < 1).nonzero()[0, 0])
        raise ValueError(f"steps must be at least 1, but sample {row} has {int(value.min())}")
    if value.numel() and int(value.max()) > 1 << 24:
        raise ValueError("steps must be at most 2^24 where samples have their own: solve in parts")
    return value.expand(batch)
