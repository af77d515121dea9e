"""What a user must know about a density, and would not see in it."""

from __future__ import annotations

import math
import warnings

from torch import Tensor

from sdekit.fokker_planck.cells import Cells

__all__ = ["check_far_walls", "warn_added"]

_REACHED = 1e-6
"""Mass in the outermost cells above which a far wall is reached."""
_ADDED = 2e-3
"""Relative diffusion that may be added without a word: a tenth of a percent of a std."""


def check_far_walls(m: Tensor, t: float, cells: Cells) -> None:
    """Warn where mass stands before a wall that is only there because a grid must end."""
    for axis in range(cells.dim):
        along = m.sum(1 - axis)
        for side, name in enumerate(cells.walls[axis]):
            layers = along if side == 0 else along.flip(0)
            if name != "far" or float(layers[0]) <= _REACHED:
                continue
            middles = cells.middles[axis]
            x = middles if side == 0 else middles.flip(0)
            wall = float(cells.edges[axis][0 if side == 0 else -1])
            warnings.warn(
                f"at t = {t:g}, {float(layers[0]):.2g} of the mass is in the outermost cells of "
                f"x[{axis}] at the {('lower', 'upper')[side]} end, {wall:g}, where the density "
                f"ought to have vanished: {_advice(layers, x)}. If a wall is meant there, write "
                "boundary='reflecting' or 'absorbing'",
                stacklevel=3,
            )


def _advice(layers: Tensor, x: Tensor) -> str:
    """How far the density needs at most, if it falls on as it does in the outermost cells."""
    k = min(4, len(layers) - 1)
    inner, outer = float(layers[k]), float(layers[0])
    if inner <= 1.1 * outer:
        return "it does not fall towards that end; extend the grid far beyond it"
    length = abs(float(x[k] - x[0])) / math.log(inner / outer)
    return f"extend the grid there by {length * math.log(outer / _REACHED) + length:.2g}"


def warn_added(added: float) -> None:
    """Warn that diffusion across the direction of the noise was added to keep rates positive."""
    if added > _ADDED:
        warnings.warn(
            f"the noise is nearly along one line, askew to the grid: to keep the density positive, "
            f"{added:.1%} of its diffusion was added across that line. Choose widths of cells in "
            "a simple ratio with the noise's components (the line through corners of cells), or "
            "coordinates along it",
            stacklevel=3,
        )
