"""Checks that every sampler makes at the door, and the score's call with its checks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from sdekit_kernels.checks import check_float_tensor, check_int_range
from sdekit_kernels.dispatch import compute_dtype
from torch import Tensor

Score = Callable[[Tensor, Tensor], Tensor]
Item = TypeVar("Item")


def check_score(score: Any) -> Score:
    """``score`` if it is callable; raises TypeError otherwise."""
    if not callable(score):
        raise TypeError(f"score must be callable as score(t, x), got {type(score).__name__}")
    checked: Score = score
    return checked


def check_shape(shape: Any) -> tuple[int, ...]:
    """``shape`` as (B, D...) with one event axis or more; B may be 0.

    Raises TypeError for what is no sequence of integers, ValueError for the rest.
    """
    if not isinstance(shape, Sequence):
        raise TypeError(f"shape must be (B, D...), a sequence of integers, got {shape!r}")
    sizes = tuple(check_int_range("an entry of shape", n, 0, 1 << 63) for n in shape)
    if len(sizes) < 2:
        n = sizes[0] if sizes else 1
        raise ValueError(
            f"shape must be (B, D...), samples first and then the event, got {sizes}: write "
            f"({n}, 1) for {n} samples of one component, or (1, {n}) for one sample of {n}"
        )
    if 0 in sizes[1:]:
        raise ValueError(f"an event must have one component or more, got shape {sizes}")
    return sizes


def check_start(
    x_init: Any,
    shape: tuple[int, ...],
    dtype: torch.dtype | None,
    device: torch.device | str | None,
) -> Tensor:
    """A copy of ``x_init`` if it is finite, of this shape, and of this dtype and device if given.

    Raises TypeError or ValueError otherwise.
    """
    x = check_float_tensor("x_init", x_init)
    if x.shape != shape:
        raise ValueError(
            f"x_init has shape {tuple(x.shape)}, but shape={shape} is asked for: "
            f"write shape=tuple(x_init.shape)"
        )
    if dtype is not None and x.dtype != dtype:
        raise TypeError(
            f"x_init is {x.dtype}, but dtype={dtype} is asked for: write x_init.to({dtype}), "
            "or leave dtype away"
        )
    if device is not None and not _same_device(x.device, torch.device(device)):
        raise ValueError(
            f"x_init is on {x.device}, but device={str(device)!r} is asked for: write "
            f"x_init.to({str(device)!r}), or leave device away"
        )
    if not bool(torch.isfinite(x).all()):
        raise ValueError("x_init must be finite, it has NaN or infinite entries")
    # A copy: a run without updates must not hand the caller's own tensor back.
    return x.detach().clone()


def check_path_points(path_points: Any, steps: int, return_info: bool) -> int:
    """Number of states to keep: 0, or 2..steps + 1; raises TypeError or ValueError otherwise."""
    count = check_int_range("path_points", path_points, 0, 1 << 31)
    if count and not return_info:
        raise ValueError(
            f"path_points={count} states are kept in the report: write return_info=True"
        )
    if count == 1 or count > steps + 1:
        raise ValueError(
            f"path_points must be 0, or in [2, {steps + 1}] for {steps} steps, got {count}"
        )
    return count


def evaluate(score: Score, t: Tensor, x: Tensor) -> Tensor:
    """score(t, x), of x's shape, dtype and device.

    Raises TypeError for another type or dtype, ValueError for another shape or device.
    """
    s = score(t, x)
    if not isinstance(s, Tensor):
        raise TypeError(f"score must return a tensor, got {type(s).__name__}")
    if s.shape != x.shape:
        raise ValueError(
            f"score returned shape {tuple(s.shape)} for x of shape {tuple(x.shape)}: "
            "it must return one value for each component, of x's own shape"
        )
    if s.dtype != x.dtype:
        raise TypeError(
            f"score returned {s.dtype} for x of {x.dtype}: write score(t, x).to(x.dtype), "
            f"or sample with dtype={s.dtype}"
        )
    if s.device != x.device:
        raise ValueError(
            f"score returned a tensor on {s.device} for x on {x.device}: move the model there, "
            f"or sample with device={str(s.device)!r}"
        )
    return s


def as_times(times: Tensor, x: Tensor) -> tuple[Tensor, ...]:
    """Times (N,) as N 0-d tensors on x's device, in x's dtype but no coarser than float32.

    bfloat16 keeps 8 bits: times a thousandth apart would coincide.
    """
    return times.to(device=x.device, dtype=compute_dtype(x.dtype)).unbind()


def rows(table: Tensor, n: int, x: Tensor) -> tuple[Tensor, ...]:
    """A coefficient for n steps as n coefficients of a step on x's device: 0-d, or (1, D...).

    Indexing a tensor that is on the device already is free of synchronization.
    """
    table = table.detach().to(device=x.device, dtype=compute_dtype(x.dtype))
    table = table.expand(n) if table.ndim == 0 else table
    if table.shape[0] != n:
        table = table.expand(n, *table.shape[1:])
    return table.unbind() if table.ndim == 1 else table.split(1)


def progress_bar(steps: Iterable[Item], progress: bool) -> Iterable[Item]:
    """``steps``, counted on the terminal by tqdm if asked for."""
    if not progress:
        return steps
    from tqdm import tqdm

    bar: Iterable[Item] = tqdm(steps, desc="sampling")
    return bar


@contextmanager
def launch_bar(steps: int, progress: bool) -> Iterator[Any]:
    """The bar of a run in few launches, which has ``update(steps)``; None if none is asked for."""
    if not progress:
        yield None
        return
    from tqdm import tqdm

    with tqdm(total=steps, desc="sampling") as bar:
        yield bar


def _same_device(own: torch.device, wanted: torch.device) -> bool:
    """Whether they are one; "cuda" without a number stands for any GPU."""
    return own.type == wanted.type and wanted.index in (None, own.index)
