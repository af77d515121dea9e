"""Equations with known laws, and how far a density is from one, for the tests of this folder."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from sdekit.fokker_planck import Density
from sdekit.fokker_planck.cells import make_cells
from sdekit.fokker_planck.initial import initial_masses

DOUBLE = torch.float64


def edges(low: float, high: float, cells: int) -> Tensor:
    return torch.linspace(low, high, cells + 1, dtype=DOUBLE)


def vector(*values: float) -> Tensor:
    return torch.tensor(values, dtype=DOUBLE)


def gaussian(mean: Tensor, cov: Tensor):
    """The density of a normal law as a function of x (B, D)."""
    precision = torch.linalg.inv(cov)
    norm = math.sqrt(float(torch.linalg.det(2 * math.pi * cov)))
    return lambda x: (
        torch.einsum("bi,ij,bj->b", x - mean, precision, x - mean).mul(-0.5).exp() / norm
    )


def normal_cells(mean: float, variance: float, e: Tensor) -> Tensor:
    """Masses of the cells under a normal law in one dimension."""
    return torch.special.ndtr((e - mean) / math.sqrt(variance)).diff()


def lognormal_cells(mean_log: float, variance_log: float, e: Tensor) -> Tensor:
    """Likewise under a log-normal law."""
    log = torch.where(e > 0, e, 1e-300).log()
    return torch.special.ndtr((log - mean_log) / math.sqrt(variance_log)).diff()


def distance(density: Density, masses: Tensor, k: int = -1) -> float:
    """Total variation between the density at one time and the masses of a law."""
    return 0.5 * float((density.cell_mass()[k] - masses).abs().sum())


def masses_of(p, grid) -> Tensor:
    """Cell masses of a density function, by Gauss's rule in each cell."""
    cells = make_cells(grid)
    return initial_masses(p, cells).view(cells.shape[: cells.dim])


def orders(errors: list[float]) -> list[float]:
    """Observed order between grids, each with cells half as wide as the one before."""
    return [math.log2(a / b) for a, b in itertools.pairwise(errors)]
