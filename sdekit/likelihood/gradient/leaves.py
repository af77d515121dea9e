"""The tensors that a field was computed from, read off autograd's own record of it.

Where a network is kept (an attribute, a closure, a global name, a list of experts) makes no
difference to the record, and neither does a score in a wrapper in a flow.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from sdekit.likelihood.right_side import RightSide

__all__ = ["find_leaves", "leaves_of"]


def find_leaves(side: RightSide, y: Tensor, t0: float, t1: float) -> list[Tensor]:
    """What ``side`` is made of and requires a gradient, each once.

    Asked with up to three samples of y (B, n), B >= 1, at t0, near the middle and at t1: a network
    that enters at other times alone is not found (the adjoint refuses it when it meets it).
    """
    rows = torch.arange(3, device=y.device) % y.shape[0]
    times = torch.tensor([t0, 0.4 * t0 + 0.6 * t1, t1], dtype=y.dtype, device=y.device)
    with torch.enable_grad():
        value = side(times, y.detach()[rows], rows)
    return list(leaves_of(value))


def leaves_of(value: Tensor) -> Iterator[Tensor]:
    """The leaves of the graph that ``value`` was computed by, each once."""
    nodes = [] if value.grad_fn is None else [value.grad_fn]
    seen = set(nodes)
    while nodes:
        node = nodes.pop()
        if type(node).__name__ == "AccumulateGrad":
            yield node.variable  # type: ignore[attr-defined]  # of this kind of node
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                nodes.append(following)
