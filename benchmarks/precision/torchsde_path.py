"""torchsde on a Brownian path that is given to it.

torchsde calls its Brownian motion with the ends of each step, and asks it for dW and, for ``srk``,
U = int_s^t (W_u - W_s) du = dt (dW / 2 + h). It takes any object that answers so.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks.precision.path import Path
from benchmarks.precision.problems import Problem

__all__ = ["GivenPath", "solve"]


class GivenPath:
    """What torchsde 0.2 wants of a Brownian motion, for steps of one ``Path`` alone.

    driven: the columns of the path's increments that are handed on. levy: torchsde's name for what
    is drawn, "none" or "space-time". The times that a call gives are checked against the grid.
    """

    def __init__(self, path: Path, driven: slice, levy: str) -> None:
        self.path, self.driven, self.levy_area_approximation = path, driven, levy
        self.dtype, self.device = torch.float64, torch.device("cpu")
        columns = len(range(*driven.indices(path.channels)))
        self.shape = (path.paths, columns)
        self.draws = ("dw",) if levy == "none" else ("dw", "h")

    def __call__(
        self, ta: Tensor, tb: Tensor, return_U: bool = False, return_A: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """dW, or (dW, U), over [ta, tb]; ValueError unless that is a step of the grid."""
        start, end, dt = float(ta), float(tb), self.path.dt
        k = round(start / dt)
        if abs(start - k * dt) + abs(end - start - dt) > 1e-9 * dt or return_A:
            raise ValueError(f"[{start}, {end}] is no step of {dt}, or an area was asked for")
        w = self.path.step(k, self.draws)
        dw = w.dw[:, self.driven]
        return (dw, dt * (0.5 * dw + w.space_time[:, self.driven])) if return_U else dw


class _Renamed:
    """The problem under torchsde's names; additive noise as torchsde has it, (B, D, M)."""

    def __init__(self, problem: Problem) -> None:
        self.noise_type, self.sde_type = problem.noise_type, problem.interpretation
        self.f, self.problem = problem.drift, problem

    def g(self, t: Tensor, x: Tensor) -> Tensor:
        g = self.problem.diffusion(t, x)
        return g.unsqueeze(-1) if self.noise_type == "additive" and g.ndim == 2 else g


def solve(problem: Problem, method: str, path: Path, noise: Any = None) -> Tensor:
    """The last states (B, D) of torchsde's method in the path's own steps.

    noise: a Brownian motion of torchsde's in place of the path.
    """
    import torchsde

    ends = torch.tensor([0.0, path.span], dtype=torch.float64)
    given = GivenPath(path, problem.driven, "space-time" if method == "srk" else "none")
    with torch.no_grad():
        x: Tensor = torchsde.sdeint(
            _Renamed(problem),
            problem.x0(path.paths),
            ends,
            bm=given if noise is None else noise,
            method=method,
            dt=path.dt,
        )[-1]
    return x
