"""Bridges that are known to work, by name: ``sdekit bridge --recipe NAME``, and from Python.

>>> bridge = sk.bridge.recipe("moons").fit(progress=True)        # a fitted driver
>>> bridge = sk.bridge.recipes.letters_to_digits(seed=1)         # a driver, nothing fitted yet
>>> sk.bridge.recipe("mnist", algorithm="dsb", half_steps=4)     # the numbers, some of them others

Each recipe is a file; ``RECIPES`` is the table of their numbers, by name and algorithm.
"""

from __future__ import annotations

from typing import Any

from sdekit.bridge.driver import Driver
from sdekit.bridge.recipes.base import Device, Recipe
from sdekit.bridge.recipes.images import arrivals
from sdekit.bridge.recipes.judged import fitted, judged
from sdekit.bridge.recipes.table import RECIPES, recipe

__all__ = [
    "RECIPES",
    "Recipe",
    "arrivals",
    "fitted",
    "gaussian",
    "judged",
    "letters_to_digits",
    "mnist",
    "moons",
    "recipe",
]


def moons(*, device: Device = "cpu", **numbers: Any) -> Driver:
    """The driver of ``recipe("moons", **numbers)``."""
    return recipe("moons", **numbers).driver(device)


def gaussian(*, device: Device = "cpu", **numbers: Any) -> Driver:
    """The driver of ``recipe("gaussian", **numbers)``."""
    return recipe("gaussian", **numbers).driver(device)


def mnist(*, device: Device = "cpu", **numbers: Any) -> Driver:
    """The driver of ``recipe("mnist", **numbers)``."""
    return recipe("mnist", **numbers).driver(device)


def letters_to_digits(*, device: Device = "cpu", **numbers: Any) -> Driver:
    """The driver of ``recipe("letters-to-digits", **numbers)``."""
    return recipe("letters-to-digits", **numbers).driver(device)
