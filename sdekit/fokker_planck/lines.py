"""The lines along which a chain on a grid jumps, from each cell to the one at an offset."""

from __future__ import annotations

from types import EllipsisType

import torch
from torch import Tensor

from sdekit.fokker_planck.cells import Cells

__all__ = ["Lines"]


class Lines:
    """From the cells i to the cells i + v, v = (a, b) with a >= 0. None of it changes with time.

    here, there: the cells i for which i + v is on the grid, and the cells i + v. absorbed: of jumps
    by v and by -v, whether they cross an absorbing wall, (n1, n2), or None where no jump does.
    """

    def __init__(self, cells: Cells, v: tuple[int, int]) -> None:
        (a, b), (n1, n2) = v, cells.shape
        self.cells, self.v = cells, v
        self.here = slice(0, n1 - a), slice(max(0, -b), n2 - max(0, b))
        self.there = slice(a, n1), slice(max(0, b), n2 + min(0, b))
        device = cells.edges[0].device
        self._index = [torch.arange(n, device=device) for n in cells.shape]
        self._at = {half: self._places(half) for half in (-1, 0, 1, 2)}
        self._step = {sign: (self._length(0, sign), self._length(1, sign)) for sign in (1, -1)}
        self.absorbed = {sign: self._absorbed(sign) for sign in (1, -1)}

    def at(self, values: Tensor, half: int) -> Tensor:
        """``values`` (..., L1, L2) of the lattice, ``half`` half jumps away from each cell.

        Outside the grid, at the nearest point of its walls.
        """
        return values[self._at[half]]

    def work(self, force: Tensor, half: int, sign: int = 1) -> Tensor:
        """force . jump of each cell (n1, n2), the force (2, L1, L2) taken after ``half`` halves."""
        f, step = self.at(force, half), self._step[sign]
        return f[0] * step[0] + f[1] * step[1]

    def _places(self, half: int) -> tuple[EllipsisType, Tensor, Tensor]:
        i, j = (
            (2 * k + 1 + half * v).clamp(0, 2 * n)
            for k, v, n in zip(self._index, self.v, self.cells.shape, strict=True)
        )
        return ..., i[:, None], j

    def _length(self, axis: int, sign: int) -> Tensor:
        """How far a jump by sign * v goes along ``axis``, (n1, 1) or (n2,).

        Beyond the grid, cells are as wide as the outermost one.
        """
        middles, width, start = self.cells.middles[axis], self.cells.widths[axis], self._index[axis]
        end = start + sign * self.v[axis]
        inside = end.clamp(0, self.cells.shape[axis] - 1)
        wide = torch.where(end > inside, width[-1], width[0])
        length = middles[inside] + (end - inside) * wide - middles[start]
        return length[:, None] if axis == 0 else length

    def _absorbed(self, sign: int) -> Tensor | None:
        out = []
        for axis in (0, 1):
            end = self._index[axis] + sign * self.v[axis]
            low, high = (name == "absorbing" for name in self.cells.walls[axis])
            out.append(((end < 0) & low) | ((end >= self.cells.shape[axis]) & high))
        crossed = out[0][:, None] | out[1]
        return crossed if bool(crossed.any()) else None
