"""From Gaussian noise to handwritten digits, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, final

from sdekit.bridge.recipes.images import ImageRecipe
from sdekit.data import Dataset, mnist5k


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Mnist(ImageRecipe):
    """N(0, 1) in each pixel to ``sdekit.data.mnist5k``."""

    name: ClassVar[str] = "mnist"
    titles: ClassVar[tuple[str, str]] = ("noise", "digits")

    def data(self) -> tuple[None, Dataset]:
        """The digits alone: the other end is the Gaussian."""
        return None, mnist5k()


_COMMON: dict[str, Any] = {"sigma": 1.0, "grid": 30, "gammas": "ramp", "ratio": 50.0, "gap": 1.5}

MNIST = {
    "dsbm": Mnist(**_COMMON, paths=512, measure=64, half_steps=5),
    # Of a chain all steps are fitted in one unit: theirs may differ less.
    "dsb": Mnist(algorithm="dsb", **{**_COMMON, "ratio": 5.0}, paths=512, measure=64, half_steps=8),
}
