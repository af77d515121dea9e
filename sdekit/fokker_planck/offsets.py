r"""Diffusion and drift, point by point, as parts along offsets of the grid.

Here distances are counted in cells: M and b are C and the drift in these units, times the area.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sdekit.fokker_planck.selling import selling

__all__ = ["Drift", "Offset", "diffusion_weights", "fitted", "on_axes"]

_STEEP = 2.0
"""|w| up to which drift is laid on offsets that are no axes: upwinding there would diffuse far."""
_STEEPEST = 1e6
"""|w| up to which an axis is said to have diffusion."""
Offset = tuple[int, int]


class Drift(NamedTuple):
    r"""force (2, L1, L2): along v flows \mu_v (force . v) of a density of one.

    rest (2, L1, L2): flows along the two axes besides.
    """

    force: Tensor
    rest: Tensor


def diffusion_weights(m: Tensor, reach: int) -> tuple[dict[Offset, Tensor], Tensor, Tensor]:
    """The weight of each offset at each point, of M (3, L1, L2) with the entries xx, xy, yy.

    reach: the longest component of an offset. Also M as the weights give it, and what they have
    added, relative to it (L1, L2).
    """
    if not bool(m[1].any()):
        return {(1, 0): m[0], (0, 1): m[2]}, m, torch.zeros_like(m[0])
    found = selling(m[0].flatten(), m[1].flatten(), m[2].flatten(), reach)
    # One number for an offset: counting is a hundred times as fast as finding unique rows.
    width = 2 * reach + 1
    code = found.offsets[0] * width + found.offsets[1] + reach
    used = torch.bincount(code[found.weights > 0], minlength=1).nonzero().flatten().tolist()
    weights = {}
    # Axes are always there: drift may need them.
    for v in sorted({(1, 0), (0, 1), *((c // width, c % width - reach) for c in used)}):
        same = code == v[0] * width + v[1] + reach
        weights[v] = torch.where(same, found.weights, 0.0).sum(0).view_as(m[0])
    squares = [
        torch.stack([mu * (v[i] * v[j]) for v, mu in weights.items()]).sum(0)
        for i, j in ((0, 0), (0, 1), (1, 1))
    ]
    added = found.added.view_as(m[0]) / (m[0] + m[2]).clamp(min=1e-300)
    return weights, torch.stack(squares), added


def on_axes(b: Tensor) -> Drift:
    """All drift along axes."""
    return Drift(torch.zeros_like(b), b)


def fitted(weights: dict[Offset, Tensor], m: Tensor, b: Tensor) -> Drift:
    r"""Drift in proportion to diffusion: \sum_v \mu_v v (v . u) = M u = b, the force u = M^{-1} b.

    Less of u where it is steep, none of it along an axis without diffusion; the rest along axes.
    """
    xx, xy, yy = m
    alone = b / torch.stack([xx, yy])
    alone = torch.where(alone.abs() <= _STEEPEST, alone, 0.0)
    det = (xx * yy - xy * xy).clamp(min=1e-12 * xx * yy)
    mixed = torch.stack([yy * b[0] - xy * b[1], xx * b[1] - xy * b[0]]) / det
    steep = torch.stack(
        [(mixed[0] * v[0] + mixed[1] * v[1]) * (mu > 0) for v, mu in weights.items()]
    )
    mixed = mixed * (_STEEP / steep.abs().amax(0)).clamp(max=1.0)
    force = torch.where(xy != 0, mixed, alone)
    moved = torch.stack([xx * force[0] + xy * force[1], xy * force[0] + yy * force[1]])
    return Drift(force, b - moved)
