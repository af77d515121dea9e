"""From a Gaussian to two moons in the plane, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, final

from torch import Tensor

from sdekit.bridge.recipes.base import Device, LearnedRecipe
from sdekit.bridge.recipes.law import StandardNormal
from sdekit.data import moons
from sdekit.data.plane import HELD_OUT


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Moons(LearnedRecipe):
    """N(0, 1) to ``samples`` draws of ``sdekit.data.moons``, by two of ``DriftMLP``."""

    name: ClassVar[str] = "moons"
    titles: ClassVar[tuple[str, str]] = ("Gaussian", "moons")

    samples: int = 20_000
    first_steps: int | None = 2_500
    lr: float = 3e-3
    ema: float = 0.99

    def ends(self, device: Device = "cpu") -> tuple[Any, Any]:
        """The Gaussian, and the moons as data."""
        return StandardNormal((2,)), moons.sample(self.samples, seed=self.seed).to(device)

    def held_out(self, n: int, device: Device = "cpu") -> tuple[Tensor, Tensor]:
        """Draws whose numbers no training sample has."""
        ends = StandardNormal((2,)), moons
        x0, x1 = (law.sample(n, seed=self.seed, first_sample=HELD_OUT) for law in ends)
        return x0.to(device), x1.to(device)


MOONS = {
    "dsbm": Moons(grid=40, half_steps=10),
    # A chain's reversal is fitted to paths of the other chain: fewer, longer half-steps.
    "dsb": Moons(algorithm="dsb", grid=40, half_steps=8, steps=2_000, first_steps=None),
}
