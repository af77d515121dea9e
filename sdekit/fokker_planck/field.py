r"""Drift and diffusion of the Fokker-Planck equation on the lattice.

For dx = f dt + G dW (Ito) the density obeys

    dp/dt = -\nabla \cdot (f p) + 1/2 \sum_{ij} \partial_i \partial_j ((G G^T)_{ij} p)
          = \nabla \cdot (C \nabla p - b p)

with C = G G^T / 2 and b_i = f_i - \sum_j \partial_j C_{ij}
(Risken 1989, section 4.7). The derivatives of C are central differences over half cells.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sdekit.fokker_planck.cells import Cells
from sdekit.solvers import Equation

__all__ = ["Field", "make_field"]


class Field(NamedTuple):
    """b (2, L1, L2) and the entries xx, xy, yy of C (3, L1, L2)."""

    b: Tensor
    c: Tensor

    def equals(self, other: Field) -> bool:
        """The same numbers, bit for bit."""
        return torch.equal(self.b, other.b) and torch.equal(self.c, other.c)


def make_field(equation: Equation, t: float, cells: Cells) -> Field:
    """b and C of an Ito equation at time t.

    Raises what ``Equation`` raises, and ValueError where a coefficient is not finite.
    """
    x, y = cells.lattice
    if cells.dim == 1:
        points, lattice = x[:, None], (len(x), 1)
    else:
        points = torch.cartesian_prod(x, y)
        lattice = (len(x), len(y))
    time = torch.tensor(t, dtype=torch.float64, device=x.device)
    equation.check_additive(time, points)
    f = _check_finite("drift", equation, t, points, equation.drift(time, points).double())
    c = _half_square(equation, time, points)
    _check_finite("diffusion", equation, t, points, c)
    full = (-1, len(x), len(y))
    f = f.T.reshape(-1, *lattice).expand(full).clone()
    c = c.T.reshape(3, *lattice).expand(full).clone()
    if cells.dim == 1:
        f = torch.cat([f, torch.zeros_like(f)])
    b = f
    b[0] -= _slope(c[0], x, 0) + _slope(c[1], y, 1)
    b[1] -= _slope(c[1], x, 0) + _slope(c[2], y, 1)
    return Field(b, c)


def _half_square(equation: Equation, t: Tensor, x: Tensor) -> Tensor:
    """xx, xy, yy of G G^T / 2 for x (B, D): (B, 3)."""
    if equation.deterministic:
        return x.new_zeros(len(x), 3)
    g = equation.diffusion(t, x).double()
    if equation.noise_type != "general":
        g = g.expand(x.shape)
        g = g.unsqueeze(2) if equation.noise_type == "scalar" else torch.diag_embed(g)
    square = 0.5 * g @ g.mT
    if x.shape[1] == 1:
        zero = torch.zeros_like(square[:, 0, 0])
        return torch.stack([square[:, 0, 0], zero, zero], 1)
    return torch.stack([square[:, 0, 0], square[:, 0, 1], square[:, 1, 1]], 1)


def _slope(c: Tensor, x: Tensor, axis: int) -> Tensor:
    """d c / d x along an axis of the lattice: over two half cells, one-sided at the ends."""
    n = len(x)
    after = torch.arange(1, n + 1, device=x.device).clamp(max=n - 1)
    before = torch.arange(-1, n - 1, device=x.device).clamp(min=0)
    step = (x[after] - x[before]).reshape((-1, 1) if axis == 0 else (1, -1))
    rise = c.index_select(axis, after) - c.index_select(axis, before)
    return torch.where(step > 0, rise / step, 0.0)


def _check_finite(what: str, equation: Equation, t: float, x: Tensor, value: Tensor) -> Tensor:
    bad = ~torch.isfinite(value).all(1)
    if bool(bad.any()):
        where = [round(v, 6) for v in x[int(bad.nonzero()[0, 0])].tolist()]
        raise ValueError(
            f"{equation.name}.{what} is not finite at x = {where}, t = {t:g}: "
            "lay the grid where the equation has a meaning"
        )
    return value
