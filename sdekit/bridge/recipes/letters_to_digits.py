"""From letters of many fonts to handwritten digits, and back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, final

from sdekit.bridge.recipes.images import ImageRecipe
from sdekit.data import Dataset, letters, mnist5k


@lru_cache(maxsize=1)
def _letters() -> Dataset:
    """Once a process: drawing them takes 3 seconds."""
    return letters()


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LettersToDigits(ImageRecipe):
    """``sdekit.data.letters`` to ``sdekit.data.mnist5k``."""

    name: ClassVar[str] = "letters-to-digits"
    titles: ClassVar[tuple[str, str]] = ("letters", "digits")

    def data(self) -> tuple[Dataset, Dataset]:
        """Both sets."""
        return _letters(), mnist5k()


_COMMON: dict[str, Any] = {"sigma": 0.7, "grid": 30, "gammas": "ramp", "ratio": 50.0, "gap": 0.9}

LETTERS_TO_DIGITS = {
    "dsbm": LettersToDigits(**_COMMON, first_steps=2_500, paths=512, measure=64, half_steps=5),
    # Of a chain all steps are fitted in one unit: theirs may differ less.
    "dsb": LettersToDigits(
        algorithm="dsb", **{**_COMMON, "ratio": 5.0}, paths=512, measure=64, half_steps=8
    ),
}
