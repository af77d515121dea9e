r"""From drift and diffusion to the rates of a Markov chain.

Along each offset v of the grid, between the density p of a cell and p' of the one at v, flows

    \mu (B(-w) p - B(w) p'),   B(x) = x / (e^x - 1),   w = drift along v / \mu,

which is exact where the flux is constant (Scharfetter & Gummel 1969; Chang & Cooper 1970). \mu is
the weight of v in C (see ``selling``). Both rates are positive whatever w is.

w = \int u \cdot dx with the force u = C^{-1} b (see ``offsets``), from middle to middle by
Simpson's rule: where b = -C grad U, the chain is in detailed balance with e^{-U} at the middles.
The order is two where |w| is small; where it is large this is upwinding, of order one. ``limited``
mends that along axes: for it all drift is laid there.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sdekit.fokker_planck.cells import Cells
from sdekit.fokker_planck.field import Field
from sdekit.fokker_planck.generator import Generator, Jump
from sdekit.fokker_planck.lines import Lines
from sdekit.fokker_planck.offsets import Drift, Offset, diffusion_weights, fitted, on_axes
from sdekit.fokker_planck.selling import longest

__all__ = ["Rates"]

_SMOOTH = 0.25
"""Simpson's rule may differ from the midpoint's by this much of 1 + |w|. Where C vanishes at a
middle, u is infinite there, and only the midpoint knows the force."""
_DOMINATES = 2.0
"""|w| above which drift dominates: the scheme adds 31 % to the diffusion there, and more beyond."""
_NEGLIGIBLE = 1e-5
"""Share of the drift at a point that may be upwinded without a word."""


class Rates:
    """Makes generators on one grid; ``on_axes`` lays all drift on axes, for the limited scheme."""

    def __init__(self, cells: Cells, *, on_axes: bool) -> None:
        self.cells, self.on_axes = cells, on_axes
        self.reach = longest(min(cells.shape))
        self._lines: dict[Offset, Lines] = {}

    def generator(self, field: Field) -> Generator:
        """The chain that b and C make."""
        cells = self.cells
        hx, hy = cells.spacing[0][:, None], cells.spacing[1]
        # Masses move, over distances counted in cells.
        m = torch.stack([field.c[0] * hy / hx, field.c[1], field.c[2] * hx / hy])
        b = torch.stack([field.b[0] * hy, field.b[1] * hx])
        weights, m, added = diffusion_weights(m, self.reach)
        laid = on_axes(b) if self.on_axes else fitted(weights, m, b)
        # The force was per cell.
        laid.force[0] /= hx
        laid.force[1] /= hy
        size, area = b.abs().sum(0), cells.area
        loss = torch.zeros_like(area)
        dominated = torch.zeros_like(loss, dtype=torch.bool)
        jumps, closed = [], True
        for v, mu in weights.items():
            if v[0] >= cells.shape[0] or abs(v[1]) >= cells.shape[1]:
                continue
            lines = self._along(v)
            jump, strong = self._jump(lines, mu, laid, size)
            loss[jump.here] += jump.forth
            loss[jump.there] += jump.back
            dominated[jump.here] |= strong
            dominated[jump.there] |= strong
            jumps.append(jump)
            for sign, gone in lines.absorbed.items():
                if gone is not None:
                    closed = False
                    diffusion = lines.at(mu, sign)
                    drift = diffusion * lines.work(laid.force, sign, sign)
                    if jump.axis is not None:
                        drift += sign * lines.at(laid.rest[jump.axis], sign)
                    # The density is zero at the wall, half a jump away.
                    loss += torch.where(gone, _flux(2.0 * diffusion, drift) / area, 0.0)
        return Generator(cells, jumps, loss, closed, dominated, added[1::2, 1::2])

    def _jump(self, lines: Lines, mu: Tensor, laid: Drift, size: Tensor) -> tuple[Jump, Tensor]:
        """The jumps along one offset, and where drift, of the whole ``size``, dominates."""
        here, there, area = lines.here, lines.there, self.cells.area
        axis = {(1, 0): 0, (0, 1): 1}.get(lines.v)
        mu, size = lines.at(mu, 1)[here], lines.at(size, 1)[here]
        drift = torch.zeros_like(mu)
        if not self.on_axes:
            w = lines.work(laid.force, 1)
            simpson = (lines.work(laid.force, 0) + 4.0 * w + lines.work(laid.force, 2)) / 6.0
            w = torch.where((simpson - w).abs() <= _SMOOTH * (1.0 + w.abs()), simpson, w)
            drift = mu * w[here]
        if axis is not None:
            drift = drift + lines.at(laid.rest[axis], 1)[here]
        jump = Jump(
            here=here,
            there=there,
            forth=_flux(mu, drift) / area[here],
            back=_flux(mu, -drift) / area[there],
            axis=axis,
            drift=drift,
            excess=_excess(mu, drift) if self.on_axes else None,
        )
        return jump, (drift.abs() > _DOMINATES * mu) & (drift.abs() > _NEGLIGIBLE * size)

    def _along(self, v: Offset) -> Lines:
        if v not in self._lines:
            self._lines[v] = Lines(self.cells, v)
        return self._lines[v]


def _ratio(mu: Tensor, drift: Tensor) -> tuple[Tensor, Tensor]:
    """mu, or what is too little to matter beside the drift; and w = drift / mu."""
    floor = torch.maximum(mu, drift.abs() * 1e-15)
    return floor, torch.where(floor > 0, drift / floor, 0.0)


def _flux(mu: Tensor, drift: Tensor) -> Tensor:
    """``mu`` B(-w) for w = drift / mu: the flux out of density one into density zero."""
    mu, w = _ratio(mu, drift)
    return mu * torch.where(w == 0, 1.0, -w / torch.expm1(-w))


def _excess(mu: Tensor, drift: Tensor) -> Tensor:
    """coth(|w| / 2) - 2 / |w|, which is |w| / 6 near 0 and 1 for drift alone.

    The scheme is a central flux with as much of half the drift added to the diffusion.
    """
    w = _ratio(mu, drift)[1].abs()
    return torch.where(w < 1e-2, w / 6.0, 1.0 / torch.tanh(0.5 * w) - 2.0 / w)
