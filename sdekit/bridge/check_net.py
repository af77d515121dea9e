"""Whether a network is a drift of these events: asked once, before it is trained."""

from __future__ import annotations

from typing import Any

import torch
from sdekit_kernels.dispatch import compute_dtype
from torch import Tensor, nn

ROWS = 3
"""Of the states that are tried; no other axis of an output is as likely to have this size."""


@torch.no_grad()
def check_net(name: str, net: Any, like: Tensor, *, drifts: int = 1) -> None:
    """Raises TypeError or ValueError unless ``net`` is a drift of events like those of ``like``.

    like: (0, D...). drifts: 1 for a network (t, x (B, D...)) -> (B, D...), 2 for one of both
    drifts, (B, 2, D...). It is asked at a 0-d time, as simulations do, and at times (B,), as
    regressions do. A torch loss would stretch (B, 1) to (B, D) and fit nonsense without a word.
    """
    if not isinstance(net, nn.Module):
        raise TypeError(f"{name} must be a torch.nn.Module, got {type(net).__name__}")
    weight = next(net.parameters(), None)
    if weight is None:
        raise ValueError(f"{name}, {type(net).__name__}, has no parameters: nothing can be fitted")
    x = like.new_zeros((ROWS, *like.shape[1:]))
    wanted = (ROWS, *([2] if drifts == 2 else []), *like.shape[1:])
    mode = net.training
    net.eval()
    try:
        for shape in ((), (ROWS,)):
            t = torch.full(shape, 0.5, dtype=compute_dtype(like.dtype), device=like.device)
            out = _asked(name, net, t, x, weight)
            if not isinstance(out, Tensor) or tuple(out.shape) != wanted:
                got = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
                raise ValueError(
                    f"{name} gives {got} at states {tuple(x.shape)} and times {shape}: a network "
                    f"of {'both drifts' if drifts == 2 else 'one drift'} must give {wanted}"
                )
    finally:
        net.train(mode)


def _asked(name: str, net: nn.Module, t: Tensor, x: Tensor, weight: Tensor) -> Any:
    """What the network gives; where it fails because its weights are of another kind, that."""
    try:
        return net(t, x)
    except RuntimeError as error:
        same = weight.dtype == x.dtype and weight.device == x.device
        if same:
            raise
        raise TypeError(
            f"{name} has weights in {weight.dtype} on {weight.device}, the ends are {x.dtype} on "
            f"{x.device}, and it fails at such states ({error}): write "
            f"net.to({str(x.device)!r}, {x.dtype})"
        ) from error
