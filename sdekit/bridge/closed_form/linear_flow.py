r"""The matrix \Phi with \Phi' = A_t \Phi over a span of time, to nearly the rounding of float64.

Gauss collocation with six nodes, of order 12, on panels that are halved until the answer stands
still. Panels are short near the ends, as t = sin^2(\pi u / 2) has them for equal steps of u: a
strong reference forgets each end within a time S / g^2. Gauss nodes never touch the ends of a
panel: A_t is not asked for at the ends of the span, where a bridge's drift may be a limit only.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from numpy.polynomial import legendre
from torch import Tensor

_NODES = 6
_MOST_PANELS = 4096


def linear_flow(
    rate: Callable[[Tensor], Tensor],
    start: float,
    stop: float,
    breaks: tuple[float, ...] = (),
    tolerance: float = 1e-12,
) -> Tensor:
    r"""\Phi(stop) for \Phi(start) = 1 and rate: times (n,) to matrices (n, D, D).

    stop may be below start. breaks: times at which the rate is not smooth.
    Raises RuntimeError if 4096 panels between two breaks are not enough for the tolerance, which is
    relative to the largest entry. Where |A_t| exceeds 10^3 a span, the rounding of the times alone
    is worth more than 1e-12, and as much is allowed: a few 1e-16 times |A_t| times the span.
    """
    low, high = min(start, stop), max(start, stop)
    corners = [start, *sorted((b for b in breaks if low < b < high), reverse=stop < start), stop]
    total: Tensor | None = None
    for a, b in pairwise(corners):
        piece = _converged(rate, a, b, tolerance)
        total = piece if total is None else piece @ total
    assert total is not None
    return total


def _converged(rate: Callable[[Tensor], Tensor], a: float, b: float, tolerance: float) -> Tensor:
    panels, (before, _) = 4, _fixed(rate, a, b, 2)
    while panels <= _MOST_PANELS:
        now, size = _fixed(rate, a, b, panels)
        allowed = max(tolerance, 4e-16 * size * abs(b - a))
        if float((now - before).abs().max()) <= allowed * float(now.abs().max()):
            return now
        panels, before = 2 * panels, now
    raise RuntimeError(
        f"the flow between t = {a:g} and {b:g} does not settle to {tolerance:g} within "
        f"{_MOST_PANELS} panels: the reference's coefficients change too fast there"
    )


def _fixed(
    rate: Callable[[Tensor], Tensor], a: float, b: float, panels: int
) -> tuple[Tensor, float]:
    """The flow on this many panels, and the largest entry of A_t that was met."""
    nodes, inner, outer = _gauss()
    u = torch.arange(panels + 1, dtype=torch.float64) / panels
    edges = a + (b - a) * (0.5 * torch.pi * u).sin().square()
    widths = edges.diff()
    A = rate((edges[:-1].unsqueeze(1) + widths.unsqueeze(1) * nodes).flatten())
    d = A.shape[-1]
    one = torch.eye(d, dtype=torch.float64)
    total = one
    # A few panels at a time: the systems of all of them would take (6 D)^2 numbers each at once.
    scaled = widths.view(-1, 1, 1, 1) * A.view(panels, _NODES, d, d)
    for blocks in scaled.split(16):
        # Stage values K_i = h A_i (1 + sum_j inner_ij K_j), for the flow over each panel from 1.
        system = -torch.einsum("pirs,ij->pirjs", blocks, inner).reshape(
            len(blocks), _NODES * d, _NODES * d
        )
        system = system + torch.eye(_NODES * d, dtype=torch.float64)
        stages = torch.linalg.solve(system, blocks.reshape(len(blocks), _NODES * d, d))
        for step in one + torch.einsum("i,pirs->prs", outer, stages.view_as(blocks)):
            total = step @ total
    return total, float(A.abs().max())


@lru_cache(maxsize=1)
def _gauss() -> tuple[Tensor, Tensor, Tensor]:
    """Nodes c on [0, 1], the collocation matrix and the weights."""
    x, w = legendre.leggauss(_NODES)
    values = legendre.legvander(x, _NODES - 1)
    integrals = np.stack(
        [legendre.legval(x, legendre.legint(row, lbnd=-1)) for row in np.eye(_NODES)], 1
    )
    inner = 0.5 * integrals @ np.linalg.inv(values)
    return torch.from_numpy(0.5 + 0.5 * x), torch.from_numpy(inner), torch.from_numpy(0.5 * w)
