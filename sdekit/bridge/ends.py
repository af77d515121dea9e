"""The two ends of a bridge: data in an endless shuffled order, or a law that can be drawn from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, final

import torch
from torch import Tensor

from sdekit.bridge.counters import path_number, stream
from sdekit.data import permutation


class End(ABC):
    """What paths start from. ``like``: (0, D...), of the type and on the device of the draws."""

    like: Tensor

    @abstractmethod
    def draw(self, seed: int, half_step: int, first: int, count: int) -> Tensor:
        """The starting points (count, D...) of paths first, first + 1, .. of a half-step."""


@final
class Samples(End):
    """Data (N, D...): pass after pass over them, each in an order of its own."""

    def __init__(self, data: Tensor, consumer: int) -> None:
        self.data, self.consumer, self.like = data, consumer, data[:0]
        self._known: tuple[tuple[int, int, int], Tensor] | None = None

    def draw(self, seed: int, half_step: int, first: int, count: int) -> Tensor:
        """Rows first, .. of the passes one after the other."""
        rows, n = [], len(self.data)
        while count:
            turn, place = divmod(first, n)
            some = self._order(seed, half_step, turn)[place : place + count]
            rows.append(some)
            first, count = first + len(some), count - len(some)
        chosen = torch.cat(rows) if rows else torch.empty(0, dtype=torch.int64)
        return self.data[chosen.to(self.data.device)]

    def _order(self, seed: int, half_step: int, turn: int) -> Tensor:
        key = (seed, half_step, turn)
        if self._known is None or self._known[0] != key:
            which = stream(half_step, self.consumer)
            order = permutation(len(self.data), seed=seed, stream=which, step=turn)
            self._known = (key, order)
        return self._known[1]


@final
class Law(End):
    """An object with sample(n, seed=..., first_sample=...) -> (n, D...): fresh points always."""

    def __init__(self, law: Any, dtype: torch.dtype, device: torch.device, shift: int) -> None:
        self.law, self._shift = law, shift
        self.like = law.sample(1, seed=0, first_sample=0)[:0].to(device=device, dtype=dtype)

    def draw(self, seed: int, half_step: int, first: int, count: int) -> Tensor:
        """The law's samples of these paths' numbers."""
        number = path_number(half_step, first)
        # Two laws of one family must not give both ends the same normals: the seeds differ.
        drawn: Tensor = self.law.sample(count, seed=seed ^ self._shift, first_sample=number)
        return drawn.to(self.like)


def two_ends(
    source: Any, target: Any, orders: tuple[int, int], dtype: torch.dtype = torch.float32
) -> tuple[End, End]:
    """Both ends; laws take type and device of the other end where that is data, else ``dtype``.

    Raises TypeError for what is neither data nor a law; ValueError for data without samples, data
    that are not finite, and ends of different shape or device.
    """
    data = [v for v in (source, target) if isinstance(v, Tensor)]
    tensor = [*data, torch.zeros(1, dtype=dtype)][0]
    given = {"source": source, "target": target}
    made = [
        _end(name, value, tensor, order, shift)
        for (name, value), order, shift in zip(given.items(), orders, (0, 1 << 63), strict=True)
    ]
    one, other = made[0].like, made[1].like
    if one.shape != other.shape:
        raise ValueError(
            f"source has events of shape {tuple(one.shape[1:])}, target of "
            f"{tuple(other.shape[1:])}: a bridge needs the same"
        )
    if one.dtype != other.dtype or one.device != other.device:
        raise ValueError(
            f"source is {one.dtype} on {one.device}, target {other.dtype} on {other.device}: "
            "write target.to(source)"
        )
    return made[0], made[1]


def _end(name: str, value: Any, like: Tensor, order: int, shift: int) -> End:
    if not isinstance(value, Tensor):
        if not callable(getattr(value, "sample", None)):
            raise TypeError(
                f"{name} must be data (N, D...) or a law with sample(n, seed=, first_sample=), got "
                f"{type(value).__name__}"
            )
        return Law(value, like.dtype, like.device, shift)
    if not value.is_floating_point():
        raise TypeError(f"{name} is {value.dtype}: write {name}.float()")
    if value.ndim < 2 or len(value) == 0:
        raise ValueError(f"{name} must have shape (N, D...), got {tuple(value.shape)}")
    if not bool(value.isfinite().all()):
        raise ValueError(f"{name} has numbers that are NaN or infinite")
    return Samples(value.detach(), order)
