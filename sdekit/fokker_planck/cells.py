"""The cells of a grid, and the lattice of their middles and the points halfway between these.

One dimension is two with a single cell in the second, so that everything after is written once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from sdekit_kernels.checks import check_choice
from torch import Tensor

__all__ = ["Cells", "Walls", "make_cells"]

_FEWEST = 4
"""Cells in a direction: fewer have no interior to speak of."""
_KINDS = ("far", "reflecting", "absorbing")

Walls = tuple[tuple[str, str], tuple[str, str]]
"""What stands at the (lower, upper) end of each direction."""


@dataclass(frozen=True, eq=False)
class Cells:
    """Edges (n + 1,) of two directions, ``dim`` of which belong to the equation; and the walls."""

    edges: tuple[Tensor, Tensor]
    dim: int
    walls: Walls

    @property
    def shape(self) -> tuple[int, int]:
        """Cells in each direction."""
        return self.edges[0].numel() - 1, self.edges[1].numel() - 1

    @cached_property
    def widths(self) -> tuple[Tensor, Tensor]:
        """Of each direction, (n,)."""
        return self.edges[0].diff(), self.edges[1].diff()

    @cached_property
    def middles(self) -> tuple[Tensor, Tensor]:
        """Of each direction, (n,)."""
        x, y = (0.5 * (e[1:] + e[:-1]) for e in self.edges)
        return x, y

    @cached_property
    def area(self) -> Tensor:
        """(n1, n2)."""
        return self.widths[0][:, None] * self.widths[1]

    @cached_property
    def lattice(self) -> tuple[Tensor, Tensor]:
        """Wall, middle, halfway, middle, ..., middle, wall: (2n + 1,) of each direction.

        The coefficients of an equation may be singular at a wall (1 / x at 0). They are needed
        there only where mass leaves: at other walls the outermost middle stands in.
        """
        return self._lattice(0), self._lattice(1)

    @cached_property
    def spacing(self) -> tuple[Tensor, Tensor]:
        """At each point of the lattice the distance that one index stands for: (2n + 1,)."""
        return self._spacing(0), self._spacing(1)

    def _lattice(self, axis: int) -> Tensor:
        middles, edges, walls = self.middles[axis], self.edges[axis], self.walls[axis]
        out = middles.new_empty(2 * len(middles) + 1)
        out[1::2] = middles
        out[2:-1:2] = 0.5 * (middles[1:] + middles[:-1])
        out[0] = edges[0] if walls[0] == "absorbing" else middles[0]
        out[-1] = edges[-1] if walls[1] == "absorbing" else middles[-1]
        return out

    def _spacing(self, axis: int) -> Tensor:
        width = self.widths[axis]
        out = width.new_empty(2 * len(width) + 1)
        out[1::2] = width
        out[2:-1:2] = self.middles[axis].diff()
        out[0], out[-1] = width[0], width[-1]
        return out


def make_cells(grid: Any, boundary: Any = "far") -> Cells:
    """The cells of ``grid``, a tensor of edges or a pair of them, in float64.

    boundary: a name for all sides; in one dimension a pair is (lower, upper); in two there is one
    entry a direction, each a name or (lower, upper).

    Raises TypeError for what is no tensor or pair, ValueError for another number of dimensions,
    fewer than four cells, edges that do not increase, or an unknown boundary.
    """
    given = (grid,) if isinstance(grid, Tensor) else grid
    if not isinstance(given, tuple | list) or not all(isinstance(e, Tensor) for e in given):
        raise TypeError(
            "grid must be a tensor of cell edges, or a pair of them for two dimensions, got "
            f"{type(grid).__name__}: write torch.linspace(low, high, cells + 1)"
        )
    if len(given) not in (1, 2):
        raise ValueError(
            f"the Fokker-Planck equation is solved in one and two dimensions, got {len(given)} "
            "tensors of edges: in more, use sdekit.ensemble"
        )
    edges = [_check_edges(i, e) for i, e in enumerate(given)]
    if len(edges) == 1:
        edges.append(torch.tensor([0.0, 1.0], dtype=torch.float64, device=edges[0].device))
    if edges[0].device != edges[1].device:
        raise ValueError(f"the grid is on {edges[0].device} and {edges[1].device}: put it on one")
    return Cells((edges[0], edges[1]), len(given), _walls(boundary, len(given)))


def _check_edges(i: int, edges: Tensor) -> Tensor:
    if edges.ndim != 1:
        raise ValueError(f"the edges of x[{i}] must be 1-d, got shape {tuple(edges.shape)}")
    edges = edges.detach().double()
    if len(edges) < _FEWEST + 1:
        raise ValueError(f"x[{i}] needs at least {_FEWEST} cells, got {max(len(edges) - 1, 0)}")
    if not bool(torch.isfinite(edges).all()):
        raise ValueError(f"the edges of x[{i}] must be finite")
    flat = (edges.diff() <= 0).nonzero()
    if len(flat):
        k = int(flat[0, 0])
        raise ValueError(
            f"the edges of x[{i}] must increase, but edge {k} is {float(edges[k])} and edge "
            f"{k + 1} is {float(edges[k + 1])}"
        )
    return edges


def _walls(boundary: Any, dim: int) -> Walls:
    if isinstance(boundary, str):
        boundary = (boundary,) * dim
    elif dim == 1:
        boundary = (boundary,)
    if not isinstance(boundary, tuple | list) or len(boundary) != dim:
        raise ValueError(
            f"boundary must be a name, or one entry for each of {dim} directions, got {boundary!r}"
        )
    sides = []
    for entry in boundary:
        pair = (entry, entry) if isinstance(entry, str) else entry
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise ValueError(f"a direction has a lower and an upper boundary, got {entry!r}")
        low, high = (check_choice("boundary", name, _KINDS) for name in pair)
        sides.append((low, high))
    sides += [("reflecting", "reflecting")] * (2 - dim)
    return sides[0], sides[1]
