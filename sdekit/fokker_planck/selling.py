r"""A diffusion tensor as jumps along the grid: M = \sum_k \mu_k v_k v_k^T, \mu_k >= 0, v_k integer.

Mixed derivatives discretized naively make negative rates. Selling's reduction of positive binary
quadratic forms (Selling 1874; Conway & Sloane 1992) gives three offsets v_k and weights that are
not negative: for vectors e_0 + e_1 + e_2 = 0 of determinant one with e_i \cdot M e_j <= 0,

    M = -\sum_k (e_i \cdot M e_j) v_k v_k^T,   v_k perpendicular to e_k.

Fehrenbach & Mirebeau 2014 made it a scheme for anisotropic diffusion. The more anisotropic M, the
longer the offsets, and longer jumps are less accurate. They are cut; where that is too short,
diffusion is added across the direction of the noise, as little as lets the weights be positive. For
noise along one line between the offsets v and v' that is at most 1 / (|v| |v'| + v . v')^2 of it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Selling", "longest", "selling"]

_ROUNDING = 1e-13


_Form = tuple[Tensor, Tensor, Tensor]
"""Entries xx, xy, yy of P symmetric matrices, each (P,)."""


class Selling(NamedTuple):
    """Of each of P tensors: offsets (2, 3, P), weights (3, P), and what was added to it (P,)."""

    offsets: Tensor
    weights: Tensor
    added: Tensor


def longest(n: int) -> int:
    """How long a component of an offset may be on n cells: 2 for 60, 3 for 120, 5 for 800.

    Jumps of r cells have an error of r^2 / n^2, what is added where they are too short has one of
    1 / r^4: with r ~ n^(1/3) both are n^(-4/3), and alike where a std is n / 10 cells.
    """
    return max(1, round(0.56 * n ** (1.0 / 3.0)))


def selling(xx: Tensor, xy: Tensor, yy: Tensor, reach: int) -> Selling:
    """Offsets and weights of the tensors [[xx, xy], [xy, yy]], each (P,) and positive semidefinite.

    reach: the largest component that an offset may have. Of offsets the first component that is not
    zero is positive.
    """
    form, slack = (xx, xy, yy), _ROUNDING * (xx + yy)
    e = xx.new_tensor([[-1.0, 1.0, 0.0], [-1.0, 0.0, 1.0]])[..., None].repeat(1, 1, len(xx))
    while True:
        s = _products(form, e)
        turn = (s > slack) & (_turned(e).abs().amax(0) <= reach)
        if not bool(turn.any()):
            break
        # Of three products at most one is positive: e_i . M (e_j + e_k) = -e_i . M e_i.
        for k in range(3):
            i, j = (k + 1) % 3, (k + 2) % 3
            flipped = e.clone()
            flipped[:, k], flipped[:, i] = e[:, i] - e[:, j], -e[:, i]
            e = torch.where(turn[k], flipped, e)
    added = torch.zeros_like(xx)
    short = s > slack
    if bool(short.any()):
        form, added = _widened(form, s, e, short)
        s = _products(form, e)
    x, y = -e[1], e[0]
    sign = torch.where(x != 0, x.sign(), y.sign())
    return Selling(torch.stack([x * sign, y * sign]).long(), (-s).clamp(min=0.0), added)


def _products(form: _Form, e: Tensor) -> Tensor:
    """e_i . M e_j of the other two, for each k: (3, P)."""
    xx, xy, yy = form
    x, y = e.roll(-1, 1)
    other_x, other_y = e.roll(-2, 1)
    return (xx * x + xy * y) * other_x + (xy * x + yy * y) * other_y


def _turned(e: Tensor) -> Tensor:
    """e_i - e_j, which takes the place of e_k: (2, 3, P)."""
    return e.roll(-1, 1) - e.roll(-2, 1)


def _widened(form: _Form, s: Tensor, e: Tensor, short: Tensor) -> tuple[_Form, Tensor]:
    """M + a n n^T with e_i . M e_j = 0, n the direction of the smaller eigenvalue; and a."""
    xx, xy, yy = form
    angle = 0.5 * torch.atan2(2.0 * xy, xx - yy)
    n_x, n_y = -angle.sin(), angle.cos()
    along = e[0] * n_x + e[1] * n_y
    across = along.roll(-1, 0) * along.roll(-2, 0)
    added = torch.where(short & (across < 0), -s / across, 0.0).amax(0)
    return (xx + added * n_x * n_x, xy + added * n_x * n_y, yy + added * n_y * n_y), added
