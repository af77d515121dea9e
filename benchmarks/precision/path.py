"""One Brownian path a sample, the same for every contender."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from sdekit.noise.brownian import Brownian
from sdekit.noise.increment import Increment

__all__ = ["Path"]


class Path(NamedTuple):
    """The path that ``sdekit.solve(steps=steps, seed=seed, refine=refine)`` sees over [0, span].

    paths, channels: shape (B, M) of an increment. refine: each step is joined from so many finer
    ones, so that paths with one steps * refine are one path. first: number of the first sample.
    """

    paths: int
    channels: int
    span: float
    steps: int
    seed: int = 0
    refine: int = 1
    first: int = 0

    @property
    def dt(self) -> float:
        """Length of a step."""
        return self.span / self.steps

    def brownian(self) -> Brownian:
        """The motion itself, in float64."""
        shape = (self.paths, self.channels)
        return Brownian(shape, seed=self.seed, first_sample=self.first, dtype=torch.float64)

    def step(self, k: int, draws: tuple[str, ...] = ("dw",)) -> Increment:
        """The increment over the k-th step."""
        return self.brownian().over(k, self.dt, draws, self.refine)

    def end(self) -> Tensor:
        """W(span), (B, M)."""
        return _end(self)


@cache
def _end(path: Path) -> Tensor:
    total = torch.zeros(path.paths, path.channels, dtype=torch.float64)
    for k in range(path.steps):
        total += path.step(k).dw
    return total
