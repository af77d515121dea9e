"""The two ends of a bridge: data in an endless shuffled order, or a law that can be drawn from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, final

import torch
from sdekit_kernels.checks import check_choice
from torch import Tensor

from sdekit.bridge.counters import path_number, stream
from sdekit.data import Dataset, permutation
from sdekit.likelihood import DataTransform


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


def points_of(data: Dataset, part: str = "train", *, dtype: torch.dtype = torch.float32) -> Tensor:
    """The "train" or "test" part of a data set as points of a bridge, (N, D...).

    Integers go to the middles of their bins in the space of x, [-1, 1] for images: a bridge needs
    no density, so that they get no noise. ``data.transform.inverse`` brings them back. Data that
    are floating point stay as they are.
    """
    wanted = check_choice("part", part, ("train", "test"))
    x: Tensor = data.train if wanted == "train" else data.test
    if data.transform is None:
        return x
    levels, low, high = data.transform.levels, data.transform.low, data.transform.high
    return DataTransform(levels, low, high, dequantize=False).forward(x, dtype=dtype)


def two_ends(
    source: Any, target: Any, orders: tuple[int, int], dtype: torch.dtype = torch.float32
) -> tuple[End, End]:
    """Both ends; laws take type and device of the other end where that is data, else ``dtype``.

    Of a ``Dataset`` the training part is taken, as ``points_of`` has it in that type.

    Raises TypeError for what is neither data nor a law; ValueError for data without samples, data
    that are not finite, and ends of different shape or device.
    """
    given = [v for v in (source, target) if isinstance(v, Tensor) and v.is_floating_point()]
    like = [*given, torch.zeros(1, dtype=dtype)][0]
    source, target = (
        points_of(v, dtype=like.dtype).to(like.device) if isinstance(v, Dataset) else v
        for v in (source, target)
    )
    data = [v for v in (source, target) if isinstance(v, Tensor)]
    tensor = [*data, torch.zeros(1, dtype=dtype)][0]
    named = {"source": source, "target": target}
    made = [
        _end(name, value, tensor, order, shift)
        for (name, value), order, shift in zip(named.items(), orders, (0, 1 << 63), strict=True)
    ]
    one, other = made[0].like, made[1].like
    if one.shape != other.shape:
        raise ValueError(
            f"source has events of shape {tuple(one.shape[1:])}, target of "
            f"{tuple(other.shape[1:])}: a bridge needs the same; crop, pad or reshape one of them"
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
            array = type(value).__module__ == "numpy" or isinstance(value, (list, tuple))
            raise TypeError(
                f"{name} must be data (N, D...), a Dataset, or a law with sample(n, seed=, "
                f"first_sample=), got {type(value).__name__}"
                + (f": write torch.as_tensor({name})" if array else "")
            )
        return Law(value, like.dtype, like.device, shift)
    if not value.is_floating_point():
        raise TypeError(f"{name} is {value.dtype}: write {name}.float()")
    if value.ndim < 2 or value.numel() == 0:
        hint = f": write {name}.unsqueeze(1)" if value.ndim == 1 and len(value) else ""
        raise ValueError(f"{name} must have shape (N, D...), got {tuple(value.shape)}{hint}")
    bad = ~value.isfinite().flatten(1).all(1)
    if bool(bad.any()):
        raise ValueError(
            f"{name} has numbers that are NaN or infinite, in {int(bad.sum())} of its {len(bad)} "
            f"samples, sample {int(bad.nonzero()[0])} first: write "
            f"{name}[{name}.isfinite().flatten(1).all(1)]"
        )
    return Samples(value.detach(), order)
