"""Checks at the door: each raises an error that says what was given, what is needed, what to write.

Shared by every public function of ``sdekit`` and ``sdekit_kernels``, so that the same mistake
reads the same everywhere.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from typing import Any

import torch

__all__ = [
    "check_choice",
    "check_float_tensor",
    "check_int_range",
    "check_positive",
    "check_same_device",
    "check_same_shape",
]


def check_choice(what: str, given: Any, known: Iterable[str]) -> str:
    """Return ``given`` if it is one of ``known``.

    Raises ValueError that lists the known names and suggests those that begin so, or the nearest.
    """
    names = list(known)
    if isinstance(given, str) and given in names:
        return given
    near = [name for name in names if given and name.startswith(str(given))]
    near = near or difflib.get_close_matches(str(given), names, n=1, cutoff=0.5)
    hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    raise ValueError(f"unknown {what} {given!r}: known are {', '.join(map(repr, names))}.{hint}")


def check_int_range(what: str, given: Any, low: int, high: int) -> int:
    """Return ``given`` as an int if ``low <= given < high``.

    Raises TypeError for what is no integer, ValueError outside the range.
    """
    try:
        if isinstance(given, bool):
            raise TypeError
        value = given.__index__()
    except (AttributeError, TypeError):
        raise TypeError(f"{what} must be an integer, got {given!r}") from None
    if not low <= value < high:
        raise ValueError(f"{what} must be in [{low}, {high}), got {value}")
    return int(value)


def check_positive(what: str, given: Any, *, allow_zero: bool = False) -> float:
    """Return ``given`` as a float if it is a finite number above zero (or zero, if allowed).

    Raises TypeError for what is no number, ValueError for the rest.
    """
    try:
        value = float(given)
    except (TypeError, ValueError):
        raise TypeError(f"{what} must be a number, got {given!r}") from None
    if not math.isfinite(value) or value < 0 or (value == 0 and not allow_zero):
        need = "zero or more" if allow_zero else "above zero"
        raise ValueError(f"{what} must be finite and {need}, got {given!r}")
    return value


def check_float_tensor(what: str, given: Any) -> torch.Tensor:
    """Return ``given`` if it is a floating-point tensor; raises TypeError otherwise."""
    if not isinstance(given, torch.Tensor):
        raise TypeError(
            f"{what} must be a torch.Tensor, got {type(given).__name__}: "
            f"write torch.as_tensor({what})"
        )
    if not given.is_floating_point():
        raise TypeError(
            f"{what} must be a floating-point tensor, got {given.dtype}: write {what}.float()"
        )
    return given


def check_same_device(what: str, given: torch.Tensor, other: str, x: torch.Tensor) -> None:
    """Raises ValueError if the two tensors live on different devices."""
    if given.device != x.device:
        raise ValueError(
            f"{what} is on {given.device}, but {other} is on {x.device}: "
            f"write {what}.to({other}.device)"
        )


def check_same_shape(what: str, given: torch.Tensor, other: str, x: torch.Tensor) -> None:
    """Raises ValueError if the two shapes differ."""
    if given.shape != x.shape:
        raise ValueError(
            f"{what} has shape {tuple(given.shape)}, but {other} has shape {tuple(x.shape)}: "
            "they must be the same"
        )
