"""The sampling problem that both the CPU's and the GPU's benchmark solve."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

import sdekit as sk

SNR, DATA_STD = 0.16, 0.5


class Loop(NamedTuple):
    """One sampling problem, with coefficients as plain numbers for the rival."""

    sde: Any
    score: Any
    times: list[Tensor]
    predictor: list[tuple[float, float, float]]
    alpha: list[float]

    def marginal_variance(self, i: int) -> float:
        t = self.times[i].double().cpu()
        alpha = float(self.sde.mean_coefficient(t))
        return alpha**2 * DATA_STD**2 + float(self.sde.std(t)) ** 2


def make_loop(
    shape: tuple[int, ...],
    score: str,
    steps: int,
    device: torch.device | str = "cpu",
) -> Loop:
    """A score named "MLP" or "closed form" for events of ``shape[1:]``, and a grid of ``steps``."""
    sde = sk.VP()
    grid = torch.linspace(sde.T, sde.t_min, steps + 1, dtype=torch.float64)
    tables = sde.reverse_diffusion_coefficients(grid[:-1], grid[1:])
    after = torch.cat([grid[2:], (2.0 * grid[-1:] - grid[-2]).clamp(min=0.0)])
    alpha = sde.langevin_alpha(grid[1:], after)
    model: Callable[[Tensor, Tensor], Tensor]
    if score == "MLP":
        model = sk.score.MLP(
            shape[1:], width=128, depth=3, sde=sde, data_std=DATA_STD, device=device
        )
    else:
        model = sk.score.Gaussian(0.0, DATA_STD, sde)
    rows = list(zip(*(table.tolist() for table in tables), strict=True))
    return Loop(sde, model, list(grid.float().to(device).unbind()), rows, alpha.tolist())
