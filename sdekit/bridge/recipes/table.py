"""The recipes by name and algorithm; the first algorithm of each is its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final

from sdekit_kernels.checks import check_choice

from sdekit.bridge.recipes.base import Recipe
from sdekit.bridge.recipes.gaussian import GAUSSIAN
from sdekit.bridge.recipes.letters_to_digits import LETTERS_TO_DIGITS
from sdekit.bridge.recipes.mnist import MNIST
from sdekit.bridge.recipes.moons import MOONS

RECIPES: Final[Mapping[str, Mapping[str, Recipe]]] = {
    "moons": MOONS,
    "gaussian": GAUSSIAN,
    "letters-to-digits": LETTERS_TO_DIGITS,
    "mnist": MNIST,
}


def recipe(name: str, algorithm: str | None = None, **numbers: Any) -> Recipe:
    """The recipe of this name, for "dsb" or "dsbm", with some of its numbers changed.

    Raises ValueError that lists the names for an unknown one, TypeError that lists the numbers.
    """
    of = RECIPES[check_choice("recipe", name, RECIPES)]
    own = next(iter(of)) if algorithm is None else check_choice("algorithm", algorithm, of)
    known = {f.name for f in fields(of[own])} - {"algorithm"}
    for number in numbers:
        if number not in known:
            raise TypeError(
                f"the recipe {name} has no number {number!r}: it has {', '.join(sorted(known))}"
            )
    return of[own].changed(**numbers)
