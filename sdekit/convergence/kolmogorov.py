r"""Kolmogorov's backward equation on a grid: expectations without paths and without a solver.

u(t, x) = E[\phi(x_T) | x_t = x] solves, for the Ito form of the equation,

    -du/dt = \sum_i f_i du/dx_i + 1/2 \sum_{ij} (G G^T)_{ij} d^2u/dx_i dx_j,    u(T, x) = \phi(x)

(Kolmogorov 1931). Derivatives in x are those of the interpolating sum of basis functions, exact for
all that the grid resolves; in time the classical Runge-Kutta method takes steps that are short
beside the fastest rate on the grid.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sdekit.convergence.grid import Grid
from sdekit.sde.interpretation import drift_correction
from sdekit.solvers import Equation

__all__ = ["expectations"]


@torch.no_grad()
def expectations(sde: Equation, grid: Grid, end: Tensor, t0: float, t1: float) -> Tensor:
    """u(t0, x) at the grid's points for functions given there at t1, both (N, F)."""
    n = _steps(sde, grid, t0, t1)
    dt, u = (t1 - t0) / n, end
    late = _coefficients(sde, grid, t1)
    for k in range(n):
        t = t1 - k * dt
        middle, early = _coefficients(sde, grid, t - dt / 2), _coefficients(sde, grid, t - dt)
        a = _generator(grid, late, u)
        b = _generator(grid, middle, u + 0.5 * dt * a)
        c = _generator(grid, middle, u + 0.5 * dt * b)
        d = _generator(grid, early, u + dt * c)
        u, late = u + dt / 6.0 * (a + 2.0 * b + 2.0 * c + d), early
    return u


def _coefficients(sde: Equation, grid: Grid, t: float) -> tuple[Tensor, Tensor]:
    """f of the Ito form, (N, D), and G G^T, (N, D, D)."""
    x, now = grid.points, torch.tensor(t, dtype=torch.float64)
    f, g = sde.drift(now, x), sde.diffusion(now, x)
    if sde.interpretation == "stratonovich" and not sde.deterministic:
        f = f + drift_correction(sde.sde, now, x)
    if sde.noise_type == "general":
        matrix = g.flatten(1, -2)
    else:
        matrix = g.expand(x.shape).flatten(1)
        matrix = matrix[..., None] if sde.noise_type == "scalar" else torch.diag_embed(matrix)
    return f.flatten(1), matrix @ matrix.mT


def _generator(grid: Grid, coefficients: tuple[Tensor, Tensor], u: Tensor) -> Tensor:
    f, square = coefficients
    made = torch.zeros_like(u)
    for i in range(f.shape[1]):
        slope = grid.slope(u, i)
        made = made + f[:, i, None] * slope
        for j in range(i + 1):
            if bool(square[:, i, j].any()):
                share = 0.5 if i == j else 1.0
                made = made + share * square[:, i, j, None] * grid.slope(slope, j)
    return made


def _steps(sde: Equation, grid: Grid, t0: float, t1: float) -> int:
    """So many that the fastest rate times a step is below one, and never few."""
    rate = 0.0
    for t in torch.linspace(t0, t1, 5).tolist():
        f, square = _coefficients(sde, grid, t)
        fastest = [
            float(f[:, i].abs().max()) * k + 0.5 * float(square[:, i, i].max()) * k * k
            for i, k in enumerate(grid.wave_numbers)
        ]
        rate = max(rate, sum(fastest))
    return max(256, math.ceil(rate * abs(t1 - t0)))
