"""Functionals of a path, carried along with its state so that the path need not be kept.

Each is started at the first time and updated after every step, in plain torch; where the solve runs
as a trajectory kernel, the update is part of it. All look at the grid's times only: a maximum
between two of them is missed, by O(sqrt(dt)) (Asmussen, Glynn & Pitman 1995).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, final

import torch
from sdekit_kernels.checks import check_choice
from sdekit_kernels.dispatch import compute_dtype
from torch import Tensor

__all__ = ["FirstPassage", "Functional", "Maximum", "Minimum", "TimeIntegral"]

Function = Callable[[Tensor, Tensor], Tensor]


class Functional(ABC):
    """One or a few numbers a path, (B,) or (B, K...), of one shape from start to end.

    A subclass gives ``start`` and ``update`` in torch operations that treat each path by itself.
    Values are kept in the state's type, but in float32 beside a state of 16 bits: a sum of 1000
    small terms stops growing in bfloat16.
    """

    @abstractmethod
    def start(self, t: Tensor, x: Tensor) -> Tensor:
        """The value at the first time."""

    @abstractmethod
    def update(
        self, value: Tensor, t: Tensor, t_next: Tensor, dt: Any, x: Tensor, x_next: Tensor
    ) -> Tensor:
        """The value at t_next, from that at t; t, t_next and dt are numbers or one a path, (B,)."""


def beside(t: Any, value: Tensor) -> Any:
    """A number, or one a path (B,), in the shape in which it meets a value (B, ...)."""
    if isinstance(t, Tensor) and t.ndim == 1:
        return t.view(-1, *(1,) * (value.ndim - 1))
    return t


class _OfFunction(Functional):
    """A functional of f(t, x), which gives (B,) or (B, K...)."""

    def __init__(self, f: Function) -> None:
        if not callable(f):
            raise TypeError(
                f"{type(self).__name__} takes a function of (t, x) that gives one number a path, "
                f"got {f!r}: write lambda t, x: x[:, 0]"
            )
        self.f = f

    def _at(self, t: Tensor, x: Tensor) -> Tensor:
        value = self.f(t, x)
        if not isinstance(value, Tensor) or value.ndim == 0 or value.shape[0] != x.shape[0]:
            got = tuple(value.shape) if isinstance(value, Tensor) else repr(value)
            raise ValueError(
                f"the function of {type(self).__name__} must give one number a path, shape "
                f"({x.shape[0]},), or (B, K...), got {got}: write x[:, 0] or x.sum(-1)"
            )
        return value.to(compute_dtype(x.dtype))


@final
class TimeIntegral(_OfFunction):
    r"""\int f(t, x_t) dt from the first to the last time, by the trapezoidal rule."""

    def start(self, t: Tensor, x: Tensor) -> Tensor:
        """0."""
        return torch.zeros_like(self._at(t, x))

    def update(
        self, value: Tensor, t: Tensor, t_next: Tensor, dt: Any, x: Tensor, x_next: Tensor
    ) -> Tensor:
        """Adds dt (f(t, x) + f(t_next, x_next)) / 2."""
        return value + (self._at(t, x) + self._at(t_next, x_next)) * (0.5 * beside(dt, value))


@final
class Maximum(_OfFunction):
    """max f(t, x_t) over the grid's times."""

    def start(self, t: Tensor, x: Tensor) -> Tensor:
        """f at the first time."""
        return self._at(t, x)

    def update(
        self, value: Tensor, t: Tensor, t_next: Tensor, dt: Any, x: Tensor, x_next: Tensor
    ) -> Tensor:
        """The larger of the value so far and f(t_next, x_next)."""
        return torch.maximum(value, self._at(t_next, x_next))


@final
class Minimum(_OfFunction):
    """min f(t, x_t) over the grid's times."""

    def start(self, t: Tensor, x: Tensor) -> Tensor:
        """f at the first time."""
        return self._at(t, x)

    def update(
        self, value: Tensor, t: Tensor, t_next: Tensor, dt: Any, x: Tensor, x_next: Tensor
    ) -> Tensor:
        """The smaller of the value so far and f(t_next, x_next)."""
        return torch.minimum(value, self._at(t_next, x_next))


@final
class FirstPassage(_OfFunction):
    """The first time at which f(t, x_t) reaches a level; infinite where it does not.

    direction: "up" waits for f >= level, "down" for f <= level. Between the two grid times around
    the passage it is interpolated linearly.
    """

    def __init__(self, f: Function, level: float | Tensor, direction: str = "up") -> None:
        super().__init__(f)
        check_choice("direction", direction, ("up", "down"))
        self.level = level if isinstance(level, Tensor) else float(level)
        self.sign = 1.0 if direction == "up" else -1.0

    def _excess(self, t: Tensor, x: Tensor) -> Tensor:
        return self.sign * (self._at(t, x) - self.level)

    def start(self, t: Tensor, x: Tensor) -> Tensor:
        """The first time where the level is reached there, else infinite."""
        excess = self._excess(t, x)
        return torch.where(excess >= 0, beside(t, excess).to(excess.dtype), torch.inf)

    def update(
        self, value: Tensor, t: Tensor, t_next: Tensor, dt: Any, x: Tensor, x_next: Tensor
    ) -> Tensor:
        """The time of passage, once."""
        before, after = self._excess(t, x), self._excess(t_next, x_next)
        share = before / torch.where(after == before, 1.0, before - after)
        at = beside(t, value) + share * beside(dt, value)
        return torch.where((value == torch.inf) & (after >= 0), at.to(value.dtype), value)
