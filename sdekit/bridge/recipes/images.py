r"""Bridges between images, by a small U-Net.

DSBM has one network for both drifts. Its first half-step, from independent pairs, is bridge
matching of both directions, and the longest; each later one begins with its weights, and fits each
drift to the paths of the other one. DSB has two networks, and fits what a chain's reversal adds in
units of its noise. Grids have short steps at both ends: a step's noise of std sigma sqrt(gamma) is
grain on an image that has arrived.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from sdekit.bridge.driver import Driver
from sdekit.bridge.ends import points_of
from sdekit.bridge.grid import Direction, check_direction
from sdekit.bridge.problems import as_times
from sdekit.bridge.recipes.base import Device, LearnedRecipe
from sdekit.bridge.recipes.law import StandardNormal
from sdekit.bridge.unet import DriftUNet
from sdekit.data import Dataset
from sdekit.data.plane import HELD_OUT
from sdekit.sde import expand
from sdekit.train.precision import quickest_precision

NOISE: Final = StandardNormal((1, 28, 28))


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRecipe(LearnedRecipe, ABC):
    """28 x 28 pixels in [-1, 1] at the ends.

    size: of the U-Net. gap: root mean square, over pixels, of what lies between the two ends of an
    independent pair. precision: of the network, "full" or "bfloat16"; None for the quickest of the
    device.
    """

    size: str = "small"
    gap: float = 1.0
    precision: str | None = None
    steps: int = 250
    first_steps: int | None = 2_000
    batch: int = 64
    clip: float | None = 1.0

    @abstractmethod
    def data(self) -> tuple[Dataset | None, Dataset | None]:
        """The sets at source and target; None: N(0, 1) in each pixel."""

    def ends(self, device: Device = "cpu") -> tuple[Any, Any]:
        """The training parts, or the Gaussian."""
        made = [NOISE if d is None else points_of(d).to(device) for d in self.data()]
        return made[0], made[1]

    def held_out(self, n: int, device: Device = "cpu") -> tuple[Tensor, Tensor]:
        """Images of the held-out parts, or draws of the Gaussian that no path has."""
        made = [
            NOISE.sample(n, seed=self.seed, first_sample=HELD_OUT)
            if d is None
            else points_of(d, "test")[:n]
            for d in self.data()
        ]
        return made[0].to(device), made[1].to(device)

    def networks(self, device: Device = "cpu") -> dict[str, Any]:
        """One network for both drifts of DSBM, two for DSB."""
        if self.algorithm != "dsb":
            net = self.unet(device, drifts=2, scale=self.gap, sigma=self.sigma)
            return {"nets": net, "sweep": "both"}
        step = self.sigma * self.grid**0.5
        return {
            "nets": [self.unet(device, scale=step, seed=self.seed + k) for k in range(2)],
            "matching": "drift",
        }

    def unet(self, device: Device = "cpu", **options: Any) -> DriftUNet:
        """A U-Net of the recipe's size."""
        own = quickest_precision(device) if self.precision is None else self.precision
        given = {"seed": self.seed, **options}
        return DriftUNet((1, 28, 28), size=self.size, precision=own, device=device, **given)


@torch.no_grad()
def arrivals(bridge: Driver, x: Any, direction: str = "forward", *, seed: int = 0) -> Tensor:
    r"""Where x goes, as ``bridge.sample``, but for the noise of the last step, which stays away.

        x_{N-1} + \gamma_N v(t_{N-1}, x_{N-1})

    is the mean of the last state: on images, noise of std g \sqrt{\gamma_N} is grain.
    """
    way: Direction = check_direction(direction)
    states = bridge.sample(x, direction=way, paths=True, seed=seed)
    grid, last = bridge.grid, states[-2]
    t = as_times(grid.asked(way), last)[-1].expand(len(last))
    length = as_times(grid.lengths(way), last)[-1]
    return last + expand(length, last) * bridge.transport.drift(way)(t, last)
