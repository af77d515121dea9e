"""From a Gaussian to two moons in the plane, and back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, final

from torch import Tensor

from sdekit.bridge.recipes.base import Device, Recipe
from sdekit.bridge.recipes.law import StandardNormal
from sdekit.bridge.regression import Adam
from sdekit.data import moons
from sdekit.data.plane import HELD_OUT


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Moons(Recipe):
    """N(0, 1) to ``samples`` draws of ``sdekit.data.moons``, by two of ``DriftMLP``.

    steps, first_steps, batch, lr, ema: of ``Adam``.
    """

    name: ClassVar[str] = "moons"
    titles: ClassVar[tuple[str, str]] = ("Gaussian", "moons")

    samples: int = 20_000
    steps: int = 1_000
    first_steps: int | None = 2_500
    batch: int = 512
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

    def regression(self, device: Device = "cpu") -> Adam:
        """Adam on both networks."""
        return Adam(
            steps=self.steps,
            first_steps=self.first_steps,
            batch=self.batch,
            lr=self.lr,
            ema=self.ema,
        )

    def shortened(self, steps: int) -> Moons:
        """So many steps in every half-step."""
        return replace(self, steps=steps, first_steps=None)


MOONS = {
    "dsbm": Moons(grid=40, half_steps=10),
    # A chain's reversal is fitted to paths of the other chain: fewer, longer half-steps.
    "dsb": Moons(algorithm="dsb", grid=40, half_steps=8, steps=2_000, first_steps=None),
}
