"""Time grids, and where in them the times to be saved lie. All in float64, on the host."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from sdekit_kernels.checks import check_int_range
from torch import Tensor

__all__ = ["Saves", "as_times", "locate_saves", "make_grid", "time_rounding"]

_UNITS = 2.0
"""Rounding units by which a time may miss a grid time: k * dt and linspace miss by one or two."""


def as_times(what: str, given: Any) -> list[float]:
    """A sequence or 1-d tensor of finite numbers as floats; raises TypeError or ValueError."""
    if isinstance(given, Tensor):
        given = given.detach().double().cpu().tolist()
    try:
        if isinstance(given, str):
            raise TypeError
        times = [float(t) for t in given]
    except (TypeError, ValueError):
        raise TypeError(f"{what} must be a sequence of numbers, got {given!r}") from None
    for i, t in enumerate(times):
        if not math.isfinite(t):
            raise ValueError(f"{what} must be finite, got {t} at index {i}")
    return times


def time_rounding(*given: Any) -> float:
    """The relative rounding of times: float64's, or that of the coarsest tensor among them."""
    tensors = [t for t in given if isinstance(t, Tensor) and t.is_floating_point()]
    return max([2.0**-52, *(torch.finfo(t.dtype).eps for t in tensors)])


def make_grid(t0: Any, t1: Any, steps: Any, times: Any, direction: str) -> list[float]:
    """The grid t_0, ..., t_N: ``times`` if given, else ``steps`` equal steps from t0 to t1.

    direction: "forward" wants increasing times, "backward" decreasing ones, "either" takes both.

    Raises:
        TypeError: what is no number.
        ValueError: fewer than one step, t0 = t1, repeated or unsorted times, the wrong direction.
    """
    if times is not None:
        grid = as_times("times", times)
        if len(grid) < 2:
            raise ValueError(f"times must hold at least two times, got {len(grid)}")
    else:
        start, end = as_times("t0 and t1", (t0, t1))
        if start == end:
            raise ValueError(f"t0 and t1 are both {start}: there is nothing to solve over")
        try:
            n = check_int_range("steps", steps, 1, 1 << 32)
        except ValueError:
            raise ValueError(f"steps must be at least 1 and below 2^32, got {steps}") from None
        grid = [start + (end - start) * (i / n) for i in range(n)] + [end]
    sign = 1.0 if grid[1] > grid[0] else -1.0
    for i in range(len(grid) - 1):
        if sign * (grid[i + 1] - grid[i]) <= 0:
            raise ValueError(
                f"times must be strictly {'increasing' if sign > 0 else 'decreasing'} (or strictly "
                f"the other way throughout), but times[{i}] = {grid[i]} is followed by "
                f"{grid[i + 1]}"
            )
    if (direction == "forward" and sign < 0) or (direction == "backward" and sign > 0):
        wrong = "backwards" if sign < 0 else "forwards"
        fix = (
            "put the smaller time first, or give the equation's time reversal: "
            "sdekit.ReverseSDE(sde, score)"
            if sign < 0
            else "put the larger time first"
        )
        raise ValueError(
            f"this equation cannot be solved {wrong} in time, from {grid[0]} to {grid[-1]}: {fix}"
        )
    return grid


class Saves(NamedTuple):
    """Of each step k: the saved times strictly inside it; and of each grid time, if it is saved."""

    inside: dict[int, list[float]]
    at_grid: set[int]


def locate_saves(
    save_at: Sequence[float],
    grid: Sequence[float],
    rounding: float = 2.0**-52,
    what: str = "save_at",
) -> Saves:
    """Sort the times to be saved into the steps of the grid.

    A time that differs from the nearest grid time by no more than two units of ``rounding``,
    relative to the grid's largest time, is that grid time. what: the argument that errors name.

    Raises ValueError for a time outside the grid, or times that do not run the grid's way.
    """
    sign = 1.0 if grid[-1] > grid[0] else -1.0
    slack = _UNITS * rounding * max(abs(grid[0]), abs(grid[-1]))
    inside: dict[int, list[float]] = {}
    at_grid: set[int] = set()
    k, last = 0, -math.inf
    for i, t in enumerate(save_at):
        if sign * (t - grid[0]) < -slack or sign * (grid[-1] - t) < -slack:
            raise ValueError(
                f"{what}[{i}] = {t} lies outside the solved interval from {grid[0]} to {grid[-1]}"
            )
        if sign * t <= last:
            raise ValueError(
                f"{what} must run strictly the way of the grid, but {what}[{i}] = {t} follows "
                f"{save_at[i - 1]}"
            )
        last = sign * t
        while k + 2 < len(grid) and sign * (grid[k + 1] - t) < 0:
            k += 1
        near = k if abs(t - grid[k]) < abs(t - grid[k + 1]) else k + 1
        if abs(t - grid[near]) > slack:
            inside.setdefault(k, []).append(t)
        elif near in at_grid:
            raise ValueError(
                f"{what}[{i - 1}] = {save_at[i - 1]} and {what}[{i}] = {t} are both the grid time "
                f"{grid[near]} up to rounding: give one of them"
            )
        else:
            at_grid.add(near)
    return Saves(inside, at_grid)
