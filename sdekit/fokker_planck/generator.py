r"""The equation on the cells: a Markov chain that jumps between them.

Q has rates >= 0 from cell to cell and minus their sum on the diagonal, so that e^{tQ} keeps masses
positive and their sum constant, and brings no two densities further apart in total variation.
``rates`` says what the rates are.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sdekit.fokker_planck.cells import Cells

__all__ = ["Generator", "Jump"]


class Jump(NamedTuple):
    """Jumps between cells i (``here``) and i + v (``there``), slices of the grid.

    forth, back: rates from i to i + v and from i + v to i. axis: that of v, None for a diagonal.
    drift: mass that drift carries from i to i + v where the density is one. excess: the share of
    half of it that the scheme's own diffusion is, or None where all drift is not laid on axes.
    """

    here: tuple[slice, slice]
    there: tuple[slice, slice]
    forth: Tensor
    back: Tensor
    axis: int | None
    drift: Tensor
    excess: Tensor | None


class Generator(NamedTuple):
    """d m / d t = Q m for the masses m (..., n1, n2) of the cells.

    loss: rate at which each cell is left. closed: no mass leaves the grid. dominated: cells beside
    an edge at which drift dominates diffusion. added: of each cell, the diffusion that was added to
    the equation's, relative to it.
    """

    cells: Cells
    jumps: list[Jump]
    loss: Tensor
    closed: bool
    dominated: Tensor
    added: Tensor

    @property
    def rate(self) -> float:
        """The fastest cell's."""
        return float(self.loss.max())

    def apply(self, m: Tensor) -> Tensor:
        """Q m."""
        out = -self.loss * m
        self._exchange(out, m, 1.0)
        return out

    def step(self, m: Tensor, rate: float, stay: Tensor, out: Tensor) -> None:
        """(1 + Q / rate) m into ``out``, given stay = 1 - loss / rate: only positive numbers."""
        torch.mul(m, stay, out=out)
        self._exchange(out, m, 1.0 / rate)

    def _exchange(self, out: Tensor, m: Tensor, factor: float) -> None:
        for jump in self.jumps:
            here, there = (..., *jump.here), (..., *jump.there)
            out[there].addcmul_(jump.forth, m[here], value=factor)
            out[here].addcmul_(jump.back, m[there], value=factor)
