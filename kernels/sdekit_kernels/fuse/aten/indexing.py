"""Reading entries by indices that are the same for all paths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from sdekit_kernels.fuse.aten.align import align
from sdekit_kernels.fuse.aten.table import handles
from sdekit_kernels.fuse.tracer import Symbolic, Tracer

__all__ = ["locate"]

_MARK = 7919
"""A size that no component axis has."""


def locate(
    tracer: Tracer, x: Symbolic, indices: Sequence[Any]
) -> tuple[tuple[Any, ...], int | None, int]:
    """A torch index as one for the entries, and the batch axis and all axes of what it picks."""
    where = tuple(slice(None) if i is None else _numbers(tracer, i) for i in indices)
    if x.axis is None:
        picked = np.broadcast_to(np.int8(0), x.entries.shape)[where]
        return where, None, picked.ndim
    if x.axis < len(indices) and indices[x.axis] is not None:
        raise tracer.mixes("reading some samples of the batch, an index")
    sizes = [_MARK if i == x.axis else n for i, n in enumerate(x.shape)]
    picked = np.broadcast_to(np.int8(0), sizes)[where]
    return where, picked.shape.index(_MARK), picked.ndim


@handles("index", "_unsafe_index")
def _index(tracer: Tracer, x: Any, indices: Any) -> Symbolic:
    x = tracer.symbolic(x)
    where, axis, _ = locate(tracer, x, indices)
    return tracer.wrap(x.entries[where], axis, x.dtype)


@handles("index_select")
def _index_select(tracer: Tracer, x: Any, dim: int, index: Any) -> Symbolic:
    return _index(tracer, x, [None] * (dim % x.ndim) + [index.reshape(-1)])


def _numbers(tracer: Tracer, index: torch.Tensor) -> np.ndarray:
    """An index that is the same for all paths."""
    if index.device.type == "meta":
        raise tracer.refuse("an index without data", "keep indices on the state's device")
    if not isinstance(index, Symbolic):
        return index.cpu().numpy()
    known = tracer.known(index)
    if known is None:
        raise tracer.refuse(
            "an index or mask that depends on the path", "use torch.where, which keeps the shape"
        )
    return np.broadcast_to(known, [n for n in index.shape])


def _places(tracer: Tracer, x: Any, dim: int, index: torch.Tensor) -> tuple[np.ndarray, ...]:
    """Where torch.gather and torch.scatter look, for the entries of one sample."""
    if x.axis == dim:
        raise tracer.mixes("torch.gather or torch.scatter over the samples of the batch")
    numbers = _numbers(tracer, index)
    if x.axis is not None:
        first = numbers.take([0], axis=x.axis)
        if not (numbers == first).all():
            raise tracer.refuse(
                "an index that differs between paths", "use torch.where, which keeps the shape"
            )
        numbers = first
    grid = np.indices(numbers.shape)
    return tuple(numbers if i == dim else grid[i] for i in range(x.ndim))


@handles("gather")
def _gather(tracer: Tracer, x: Any, dim: int, index: Any, **_: Any) -> Symbolic:
    x = tracer.symbolic(x)
    made = x.entries[_places(tracer, x, dim % max(x.ndim, 1), index)]
    return tracer.wrap(made, x.axis, x.dtype)


@handles("scatter")
def _scatter(tracer: Tracer, x: Any, dim: int, index: Any, source: Any) -> Symbolic:
    axis = source.axis if isinstance(source, Symbolic) else None
    x = tracer.symbolic(x, tracer.batch_place(x, x.ndim, axis))
    value = tracer.symbolic(source, tracer.batch_place(source, x.ndim, x.axis))
    if value.ndim and value.axis not in (None, x.axis):
        raise tracer.mixes("torch.scatter of other samples of the batch")
    places = _places(tracer, x, dim % x.ndim, index)
    made = x.entries.copy()
    made[places] = value.entries[tuple(slice(n) for n in places[0].shape[: value.ndim])]
    return tracer.wrap(made, x.axis, x.dtype)


def _scattered(tracer: Tracer, x: Any, source: Any, where: tuple[Any, ...]) -> Symbolic:
    """x with the entries at ``where``, a component index, replaced."""
    made = x.entries.copy()
    made[where] = source.entries
    return tracer.wrap(made, x.axis, x.dtype)


def _pair(tracer: Tracer, x: Any, source: Any, dim: int, kept: bool) -> tuple[Any, Any]:
    """x and what replaces a part of it along ``dim``, both symbolic with one batch axis."""
    x_axis = x.axis if isinstance(x, Symbolic) else None
    axis = source.axis if isinstance(source, Symbolic) else None
    if x_axis is None and axis is not None:
        x_axis = axis if kept or axis < dim else axis + 1
    x = tracer.symbolic(x, tracer.batch_place(x, x.ndim, x_axis))
    if x.axis is None and x_axis is not None:
        x = tracer.wrap(align(tracer, x.shape, x_axis, [x])[0], x_axis, x.dtype)
    if x.axis == dim:
        raise tracer.mixes("a part of the batch replaced")
    below = None if x.axis is None else x.axis - (not kept and x.axis > dim)
    entries = align(tracer, source.shape, below, [source])[0]
    return x, tracer.wrap(entries, below, x.dtype)


@handles("select_scatter")
def _select_scatter(tracer: Tracer, x: Any, source: Any, dim: int, index: int) -> Symbolic:
    dim %= x.ndim
    x, source = _pair(tracer, x, source, dim, kept=False)
    return _scattered(tracer, x, source, (slice(None),) * dim + (index, ...))


@handles("slice_scatter")
def _slice_scatter(
    tracer: Tracer, x: Any, source: Any, dim: int = 0, start: Any = None, end: Any = None,
    step: int = 1,
) -> Symbolic:  # fmt: skip
    dim %= x.ndim
    x, source = _pair(tracer, x, source, dim, kept=True)
    return _scattered(tracer, x, source, (slice(None),) * dim + (slice(start, end, step),))
