"""The checks that the two operations of a Runge-Kutta step make at their door."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from sdekit_kernels.checks import check_float_tensor, check_same_device, check_same_shape
from sdekit_kernels.steps.runge_kutta import ALPHA, BETA, Book, Rule
from sdekit_kernels.steps.slopes import has_rows

__all__ = [
    "check_pair",
    "check_slopes",
    "check_state",
    "explain_finish",
    "finish_fits",
    "rule_numbers",
]

_BOOK = [*(torch.float64,) * 4, torch.int8, *(torch.int32,) * 3]


def check_state(y: torch.Tensor) -> None:
    """Raises TypeError or ValueError unless y is (B, n), float32 or float64."""
    check_float_tensor("y", y)
    if y.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"y must be float32 or float64, got {y.dtype}: write y.float()")
    if y.ndim != 2:
        raise ValueError(f"y must have shape (B, n), got {tuple(y.shape)}: write y.flatten(1)")


def check_pair(name: str, given: torch.Tensor, y: torch.Tensor) -> None:
    """Raises TypeError or ValueError unless ``given`` looks like y."""
    check_float_tensor(name, given)
    check_same_shape(name, given, "y", y)
    check_same_device(name, given, "y", y)
    if given.dtype != y.dtype:
        raise TypeError(f"{name} has dtype {given.dtype}, but y has {y.dtype}: they must agree")


def check_slopes(slopes: torch.Tensor, y: torch.Tensor, count: int) -> None:
    """Raises TypeError or ValueError unless slopes are (s, B, n) with s >= count and y's type."""
    check_float_tensor("slopes", slopes)
    check_same_device("slopes", slopes, "y", y)
    if slopes.ndim != 3 or slopes.shape[1:] != y.shape:
        raise ValueError(
            f"slopes have shape {tuple(slopes.shape)}, but y has shape {tuple(y.shape)}: "
            f"they must be (s, {y.shape[0]}, {y.shape[1] if y.ndim > 1 else '?'})"
        )
    if slopes.shape[0] < count:
        raise ValueError(f"{count} weights, but only {slopes.shape[0]} slopes: one each is needed")
    if slopes.dtype != y.dtype:
        raise TypeError(f"slopes have dtype {slopes.dtype}, but y has {y.dtype}: they must agree")


@lru_cache(maxsize=256)
def rule_numbers(rule: Rule) -> tuple[Any, Any]:
    """A rule's numbers and stops as arrays that kernels only read; ValueError if it is no rule."""
    ordered = all(
        (b > a) == rule.forwards for a, b in zip(rule.stops, rule.stops[1:], strict=False)
    )
    if not rule.stops or not ordered or not all(map(math.isfinite, rule.stops)):
        raise ValueError(
            f"stops must be finite times in the order in which they come "
            f"(forwards={rule.forwards}), got {rule.stops}"
        )
    if len(rule.error) < 2 or rule.order < 1 or rule.max_steps < 1:
        raise ValueError(
            "a rule needs two slopes, an order and a number of steps of at least 1, got "
            f"{len(rule.error)}, {rule.order} and {rule.max_steps}"
        )
    for name in ("rtol", "atol", "floor", "stability"):
        value = getattr(rule, name)
        if not (math.isfinite(value) and value >= 0.0):
            raise ValueError(f"{name} must be finite and zero or more, got {value}")
    rest = rule.rest or (rule.rtol, rule.atol)
    if not all(math.isfinite(v) and v >= 0.0 for v in rest):
        raise ValueError(f"rest must be two finite numbers of zero or more, got {rest}")
    order, sign = rule.order, 1.0 if rule.forwards else -1.0
    numbers = (ALPHA / order, BETA / order, 1.0 / order, rule.rtol, rule.atol, rule.floor, sign)
    return np.array([*numbers, rule.stability, *rest]), np.array(rule.stops, np.float64)


def finish_fits(
    y: torch.Tensor,
    y_new: torch.Tensor,
    before: torch.Tensor,
    slopes: torch.Tensor,
    book: Book,
    rule: Rule,
) -> bool:
    """All that ``explain_finish`` asks, in a fifth of its time."""
    try:
        shape, dtype, device = y.shape, y.dtype, y.device
        batch = shape[:1]
        return (
            len(shape) == 2
            and (dtype == torch.float32 or dtype == torch.float64)
            and shape == y_new.shape == before.shape == slopes.shape[1:]
            and dtype == y_new.dtype == before.dtype == slopes.dtype
            and device == y_new.device == before.device == slopes.device
            and slopes.shape[0] == len(rule.error)
            and 1 <= rule.split <= shape[1]
            and y.is_contiguous()
            and has_rows(slopes)
            and [v.dtype for v in book] == _BOOK
            and all([v.shape == batch and v.device == device for v in book])
            and all([v.is_contiguous() for v in book])
        )
    except AttributeError:
        return False


def explain_finish(
    y: torch.Tensor,
    y_new: torch.Tensor,
    before: torch.Tensor,
    slopes: torch.Tensor,
    book: Book,
    rule: Rule,
) -> None:
    """Raises the error of whatever does not fit."""
    check_state(y)
    check_pair("y_new", y_new, y)
    check_pair("before", before, y)
    check_slopes(slopes, y, len(rule.error))
    if slopes.shape[0] != len(rule.error):
        raise ValueError(
            f"{slopes.shape[0]} slopes, but the rule has {len(rule.error)} error weights: give "
            f"slopes[:{len(rule.error)}]"
        )
    if not 1 <= rule.split <= y.shape[1]:
        raise ValueError(f"split must be in [1, {y.shape[1]}], got {rule.split}")
    if not y.is_contiguous() or not has_rows(slopes):
        raise ValueError(
            "y and each of the slopes are written in place and must be contiguous: "
            "write y.contiguous(), slopes.contiguous()"
        )
    for name, v, dtype in zip(Book._fields, book, _BOOK, strict=True):
        if not isinstance(v, torch.Tensor) or v.dtype != dtype:
            given = v.dtype if isinstance(v, torch.Tensor) else type(v).__name__
            raise TypeError(f"book.{name} must be a tensor of {dtype}, got {given}")
        if v.shape != y.shape[:1] or not v.is_contiguous():
            raise ValueError(
                f"book.{name} must be contiguous and of shape ({y.shape[0]},), one entry a sample, "
                f"got {tuple(v.shape)}"
            )
        check_same_device(f"book.{name}", v, "y", y)
