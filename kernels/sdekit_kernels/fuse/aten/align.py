"""Which axis of a result is the batch, and the entries of its arguments broadcast to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from sdekit_kernels.fuse.aten.entries import filled
from sdekit_kernels.fuse.tracer import Symbolic, Tracer

__all__ = ["align", "broadcast", "result_axis"]

_AGAINST = "an operation that sets samples of the batch against each other"


def result_axis(tracer: Tracer, ndim: int, values: Sequence[Any]) -> int | None:
    """The batch axis of what these tensors broadcast to, ``ndim`` axes.

    Symbolic tensors decide; only where none knows its batch axis, the shapes of real ones do.
    """
    axes = {
        v.axis + ndim - v.ndim for v in values if isinstance(v, Symbolic) and v.axis is not None
    }
    if not axes:
        for v in values:
            place = tracer.batch_place(v, ndim, None)
            if place is not None:
                axes.add(place + ndim - v.ndim)
    if len(axes) > 1:
        raise tracer.mixes(_AGAINST)
    return axes.pop() if axes else None


def align(
    tracer: Tracer, sizes: Sequence[int], axis: int | None, values: Sequence[Any]
) -> list[np.ndarray]:
    """Entries of each value, broadcast to those of a result of these sizes."""
    shape = tuple(1 if i == axis else n for i, n in enumerate(sizes))
    ndim = len(shape)
    aligned = []
    for v in values:
        s = tracer.symbolic(v, tracer.batch_place(v, ndim, axis))
        if s.axis is not None and s.axis + ndim - s.ndim != axis:
            raise tracer.mixes(_AGAINST)
        entries = s.entries
        place = None if axis is None else axis - (ndim - s.ndim)
        if s.axis is None and place is not None and place >= 0 and entries.shape[place] > 1:
            first = np.take(entries, [0], axis=place)
            if not (entries == first).all():
                raise tracer.mixes("values that differ between the samples of the batch")
            entries = first
        aligned.append(np.broadcast_to(entries, shape))
    return aligned


def _common(values: Sequence[Any]) -> Symbolic | None:
    """One that stands for all: most operations meet tensors of one shape, and numbers."""
    like = None
    for v in values:
        if isinstance(v, Symbolic):
            if v.entries.ndim == 0:
                continue
            if like is None:
                like = v
            elif v.axis != like.axis or v.entries.shape != like.entries.shape:
                return None
        elif not isinstance(v, (float, int)):
            return None
    return like


def _filled_as(tracer: Tracer, like: Symbolic, value: Any) -> np.ndarray:
    """Entries in the shape of ``like``'s of a tensor that has it, or of a number."""
    if isinstance(value, Symbolic):
        entries = value.entries
        return entries if entries.ndim else filled(like.entries.shape, entries[()])
    return filled(like.entries.shape, tracer.graph.literal(value))


def broadcast(tracer: Tracer, values: Sequence[Any]) -> tuple[int | None, list[np.ndarray]]:
    """The batch axis of what these broadcast to, and the entries of each, broadcast."""
    like = _common(values)
    if like is not None:
        return like.axis, [_filled_as(tracer, like, v) for v in values]
    shapes = [tuple(v.shape) if isinstance(v, torch.Tensor) else () for v in values]
    try:
        sizes = np.broadcast_shapes(*shapes)
    except ValueError:
        raise ValueError(f"shapes {' and '.join(map(str, shapes))} do not fit") from None
    axis = result_axis(tracer, len(sizes), values)
    return axis, align(tracer, sizes, axis, values)
