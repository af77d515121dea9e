"""Whether a field takes one time a sample, and a way round where it takes one time in all.

Every sample of the ODE has a time of its own. A field written for one time in all, such as
``lambda t, x: -x / (1 + t)``, fails on times (B,), or, where B equals another axis, silently takes
each sample's time for another's. So it is asked once, with a few samples at different times.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import vmap

__all__ = ["with_own_times"]

Field = Callable[[Tensor, Tensor], Tensor]


def with_own_times(field: Field, x: Tensor, start: float, end: float) -> tuple[Field, str]:
    """(a field that takes times (B,), what was done about it; "" where nothing was needed).

    x: (B, D...), B >= 1, of which some samples are evaluated at times between start and end.
    """
    few = x[[j % x.shape[0] for j in range(3)]]
    times = torch.tensor([start, 0.4 * start + 0.6 * end, end], dtype=x.dtype, device=x.device)
    with torch.no_grad():
        apart = torch.cat([field(times[j], few[j : j + 1]) for j in range(3)])
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
