"""The masses of the cells at the start: from a function, from cell averages, from a point."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sdekit.fokker_planck.cells import Cells

__all__ = ["initial_masses"]

# Gauss-Legendre in each direction of a cell: exact for polynomials of degree five.
_NODES = (-math.sqrt(0.6), 0.0, math.sqrt(0.6))
_WEIGHTS = (5.0 / 18.0, 8.0 / 18.0, 5.0 / 18.0)


def initial_masses(p0: Any, cells: Cells) -> Tensor:
    """``p0`` as masses (n1, n2) that sum to one.

    A function of x (B, D) that gives densities (B,) is averaged over each cell by nine (three in
    one dimension) Gauss points; a tensor of the grid's shape holds cell averages; a tensor (D,) is
    a point, whose mass is dealt to the nearest cells so that its mean is exact.

    Raises TypeError for anything else, ValueError for a density that is negative, not finite, or
    zero everywhere, another shape, or a point outside the grid.
    """
    if isinstance(p0, Tensor):
        if not p0.is_floating_point():
            raise TypeError(f"p0 must hold floating-point numbers, got {p0.dtype}")
        given = p0.detach().to(cells.edges[0])
        if given.shape == (cells.dim,):
            return _point(given, cells)
        shape = cells.shape[: cells.dim]
        if given.shape != shape:
            raise ValueError(
                f"p0 must have one average a cell, shape {shape}, or be a point, shape "
                f"{(cells.dim,)}; got shape {tuple(given.shape)}"
            )
        density = given.reshape(cells.shape)
    elif callable(p0):
        density = _averages(p0, cells)
    else:
        raise TypeError(
            "p0 must be a function of x that gives its density, a tensor of cell averages or a "
            f"point, got {type(p0).__name__}"
        )
    if not bool(torch.isfinite(density).all()):
        raise ValueError("p0 must be finite in every cell: it is no density that can be normed")
    if float(density.min()) < 0.0:
        raise ValueError(f"p0 must not be negative, but it is {float(density.min()):.3g} somewhere")
    m = density * cells.area
    total = float(m.sum())
    if not 0.0 < total < math.inf:
        raise ValueError(f"p0 must have a finite mass above zero on the grid, it has {total:g}")
    return m / total


def _averages(p0: Callable[[Tensor], Any], cells: Cells) -> Tensor:
    device = cells.edges[0].device
    out = torch.zeros(cells.shape, dtype=torch.float64, device=device)
    nodes = list(zip(_NODES, _WEIGHTS, strict=True))
    places = [cells.middles[0] + 0.5 * s * cells.widths[0] for s, _ in nodes]
    for place, (_, weight) in zip(places, nodes, strict=True):
        if cells.dim == 1:
            out += weight * _values(p0, place[:, None]).view(-1, 1)
            continue
        for s, other in nodes:
            y = cells.middles[1] + 0.5 * s * cells.widths[1]
            values = _values(p0, torch.cartesian_prod(place, y))
            out += weight * other * values.view(cells.shape)
    return out


def _values(p0: Callable[[Tensor], Any], x: Tensor) -> Tensor:
    values = p0(x)
    if not isinstance(values, Tensor) or values.shape != x.shape[:1]:
        got = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise ValueError(
            f"p0 must give one density a point: for x of shape {tuple(x.shape)} a tensor of shape "
            f"{(len(x),)}, got {got}"
        )
    return values.detach().to(x)


def _point(x: Tensor, cells: Cells) -> Tensor:
    shares = []
    for axis in (0, 1):
        middles, edges = cells.middles[axis], cells.edges[axis]
        share = torch.zeros_like(middles)
        if axis >= cells.dim:
            shares.append(share + 1.0)
            continue
        if not float(edges[0]) <= float(x[axis]) <= float(edges[-1]):
            raise ValueError(
                f"p0 is the point x[{axis}] = {float(x[axis]):g}, outside the grid from "
                f"{float(edges[0]):g} to {float(edges[-1]):g}"
            )
        right = int((middles <= x[axis]).sum())
        left = max(right - 1, 0)
        right = min(right, len(middles) - 1)
        gap = float(middles[right] - middles[left])
        part = float(x[axis] - middles[left]) / gap if gap > 0 else 0.0
        share[left] += 1.0 - part
        share[right] += part
        shares.append(share)
    return shares[0][:, None] * shares[1]
