"""Levels drawn at random, unbiased: a few evaluations a sample instead of N."""

from __future__ import annotations

import sdekit_kernels
import torch
from torch import Tensor

from sdekit.likelihood.variational.coefficients import Coefficients
from sdekit.noise import keys

__all__ = ["LevelDraw"]


class LevelDraw:
    r"""One of the levels 2..N in each of ``count`` strata, with its weight 1 / (count q_k).

    q_k is what level k costs data of std ``data_std`` with the best linear network,

        c_0^2 / v (s / a)^2 a^2 v_d / (a^2 v_d + s^2) + excess,    v_d = data_std^2,

    mixed with a tenth of an even law, so that no weight exceeds 10 (N - 1) / count. The strata are
    of equal q; each level's chance is count q_k.
    """

    def __init__(self, table: Coefficients, count: int, data_std: float) -> None:
        self.count = count
        signal = table.mean.square() * data_std**2
        unexplained = signal / (signal + table.std.square())
        cost = table.weight * table.scale.square() * unexplained + table.excess
        share = cost[1:] / cost[1:].sum()
        self.chance = 0.9 * share + 0.1 / len(share)
        self._upto = self.chance.cumsum(0)

    def draw(self, samples: int, draw: int, seed: int, first_sample: int) -> tuple[Tensor, Tensor]:
        """(levels (B, count) int64, weights float64), a function of seed, sample and draw."""
        z = sdekit_kernels.normal(
            (samples, self.count),
            seed=seed,
            stream=keys.BOUND_LEVEL,
            step=draw,
            first_sample=first_sample,
            dtype=torch.float64,
        )
        place = (torch.arange(self.count) + torch.special.ndtr(z)) / self.count
        index = torch.searchsorted(self._upto, place * self._upto[-1], right=True)
        index = index.clamp(max=len(self.chance) - 1)
        return index + 2, 1.0 / (self.count * self.chance[index])
