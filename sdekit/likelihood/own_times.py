"""Whether a field is one of samples with times of their own, and a way round for one time in all.

Every sample of the ODE has a time of its own. A field written for one time in all, such as
``lambda t, x: -x / (1 + t)``, fails on times (B,), or, where B equals another axis, silently takes
each sample's time for another's. So it is asked once, with a few samples at different times; where
the answer differs from that for each row alone, it may also be that it differs from call to call
(dropout), or that the rows see each other (a mean over the batch): both are refused.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import vmap

__all__ = ["check_rows", "with_own_times"]

Field = Callable[[Tensor, Tensor], Tensor]


def with_own_times(field: Field, x: Tensor, start: float, end: float) -> tuple[Field, str]:
    """(a field that takes times (B,), what was done about it; "" where nothing was needed).

    x: (B, D...), B >= 1, of which some samples are evaluated at times between start and end. Raises
    TypeError for a field that cannot be mapped, ValueError for one that differs from call to call
    or whose rows see each other, saying what to write.
    """
    few = _few(x)
    times = torch.tensor([start, 0.4 * start + 0.6 * end, end], dtype=x.dtype, device=x.device)
    with torch.no_grad():
        apart = torch.cat([_alone(field, times[j], few[j]) for j in range(3)])
        try:
            together = field(times, few)
        except Exception:
            together = None
    if together is not None and together.shape == apart.shape:
        room = (
            1e3
            * torch.finfo(x.dtype).eps
            * (1.0 + float(apart.nan_to_num(0.0, 0.0, 0.0).abs().max()))
        )
        if torch.allclose(together, apart, rtol=0.0, atol=room, equal_nan=True):
            return field, ""
    check_rows(field, few, float(times[1]))

    def mapped(t: Tensor, x: Tensor) -> Tensor:
        if t.ndim == 0:
            return field(t, x)
        made: Tensor = vmap(lambda t, x: field(t, x.unsqueeze(0)).squeeze(0))(t, x)
        return made

    try:
        with torch.no_grad():
            mapped(times, few)
    except Exception as error:
        raise TypeError(
            "each sample of the ODE has a time of its own, but this field takes one time in all, "
            f"and cannot be mapped over the samples ({type(error).__name__}: "
            f"{str(error).splitlines()[0] if str(error) else ''}): let it take t of shape (B,), "
            "without float(t) or t.item(), or write ode='torchdiffeq'"
        ) from error
    return mapped, "the field takes one time in all, so it is mapped over the samples"


_COUPLED = (
    "the field of one row depends on the other rows of the batch, and a flow carries each sample "
    "by itself: write net.eval() if a network has batch normalization, and no mean, norm or "
    "attention over the batch"
)

# Of the largest number: far above what sums in sixteen bits differ by in batches of other sizes.
_DIFFERENT = 0.02


def _few(x: Tensor) -> Tensor:
    """Three rows that differ, whatever the batch: equal ones could not tell a mean over them."""
    few = x[[j % x.shape[0] for j in range(3)]]
    return few * torch.tensor([1.0, 0.9, 0.8]).to(few).view(-1, *[1] * (x.ndim - 1))


def _alone(field: Field, t: Tensor, row: Tensor) -> Tensor:
    """The field of one row, at one time in all."""
    try:
        return field(t, row.unsqueeze(0))
    except ValueError as error:
        if "training" not in str(error):
            raise
        raise ValueError(f"{_COUPLED} ({error})") from error  # torch's batch norm


@torch.no_grad()
def check_rows(field: Field, x: Tensor, t: float) -> None:
    """Raise ValueError for a field that is random, or whose rows see each other; x (B >= 1, D...).

    It is asked for three rows near those of x, twice each alone and once together.
    """
    few, time = _few(x), torch.tensor(t, dtype=x.dtype, device=x.device)
    alone, again = (torch.cat([_alone(field, time, row) for row in few]) for _ in range(2))
    if _differ(alone, again):
        raise ValueError(
            "the field gives other numbers for the same t and x when it is called again: write "
            "net.eval() if a network has dropout, and draw no noise in it"
        )
    for same in (time.expand(len(few)), time):
        try:
            together = field(same, few)
        except Exception:
            continue  # it takes t in the other form, or one row at a time
        if together.shape == alone.shape and _differ(together, alone):
            raise ValueError(_COUPLED)
        return


def _differ(a: Tensor, b: Tensor) -> bool:
    """Whether two answers to one question are two: beyond rounding in any type."""
    a, b = a.nan_to_num(0.0, 0.0, 0.0), b.nan_to_num(0.0, 0.0, 0.0)
    return bool((a - b).abs().max() > _DIFFERENT * torch.maximum(a.abs().max(), b.abs().max()))
