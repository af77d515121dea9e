"""Views: other shapes of the same entries, which share their memory."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sdekit_kernels.fuse.aten.entries import dims_of, filled, left, own
from sdekit_kernels.fuse.aten.table import handles
from sdekit_kernels.fuse.tracer import Symbolic, Tracer

__all__ = ["select"]


@handles("view", "reshape", "_unsafe_view", "_reshape_alias")
def _view(tracer: Tracer, x: Any, size: Any, *_: Any) -> Symbolic:
    axis = None
    known = math.prod(n for n in size if n >= 0)
    sizes = [n if n >= 0 else x.numel() // max(known, 1) for n in size]
    if x.axis is not None:
        before = math.prod(x.shape[: x.axis])
        places = [
            i for i, n in enumerate(sizes) if n == tracer.batch and math.prod(sizes[:i]) == before
        ]
        if not places:
            raise tracer.refuse(
                f"a reshape from {tuple(x.shape)} to {tuple(sizes)}, which merges the batch axis",
                "keep the batch axis apart: x.reshape(x.shape[0], ...)",
                batch=True,
            )
        axis = x.axis if x.axis in places else places[0]
        sizes[axis] = 1
    return tracer.wrap(x.entries.reshape(sizes), axis, x.dtype)


@handles("unsqueeze")
def _unsqueeze(tracer: Tracer, x: Any, dim: int) -> Symbolic:
    dim %= x.ndim + 1
    axis = None if x.axis is None else x.axis + (x.axis >= dim)
    return tracer.wrap(np.expand_dims(x.entries, dim), axis, x.dtype)


@handles("squeeze")
def _squeeze(tracer: Tracer, x: Any, dim: Any = None) -> Symbolic:
    dims = [d for d in dims_of(dim, x.ndim) if x.ndim and x.shape[d] == 1]
    if x.axis in dims:
        raise tracer.mixes("a squeeze that drops the axis of a batch of one")
    return tracer.wrap(np.squeeze(x.entries, tuple(dims)), left(x.axis, dims, False), x.dtype)


@handles("permute")
def _permute(tracer: Tracer, x: Any, dims: Any) -> Symbolic:
    order = dims_of(dims, x.ndim) if len(dims) else []
    axis = None if x.axis is None else order.index(x.axis)
    return tracer.wrap(x.entries.transpose(order), axis, x.dtype)


@handles("transpose")
def _transpose(tracer: Tracer, x: Any, a: int, b: int) -> Symbolic:
    order = list(range(x.ndim))
    if x.ndim:
        a, b = a % x.ndim, b % x.ndim
        order[a], order[b] = order[b], order[a]
    return _permute(tracer, x, order)


@handles("t")
def _t(tracer: Tracer, x: Any) -> Symbolic:
    return _permute(tracer, x, list(range(x.ndim))[::-1])


@handles("select")
def select(tracer: Tracer, x: Any, dim: int, index: int) -> Symbolic:
    """One entry of an axis, which goes."""
    dim %= x.ndim
    if dim == x.axis:
        # Maps over the batch read the first sample for its type alone.
        shape = [n for i, n in enumerate(x.entries.shape) if i != dim]
        mixed = tracer.mixed("an index that reads one sample of the batch")
        return tracer.wrap(filled(shape, mixed), None, x.dtype)
    where = (slice(None),) * dim + (index, ...)
    return tracer.wrap(x.entries[where], left(x.axis, [dim], False), x.dtype)


@handles("slice")
def _slice(
    tracer: Tracer,
    x: Any,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Symbolic:
    dim %= x.ndim
    if dim == x.axis:
        if len(range(*slice(start, end, step).indices(x.shape[dim]))) != x.shape[dim]:
            raise tracer.mixes("reading some samples of the batch, a slice")
        return tracer.wrap(x.entries[...], x.axis, x.dtype)
    where = (slice(None),) * dim + (slice(start, end, step),)
    return tracer.wrap(x.entries[where], x.axis, x.dtype)


@handles("narrow")
def _narrow(tracer: Tracer, x: Any, dim: int, start: int, length: int) -> Symbolic:
    return _slice(tracer, x, dim, start, start + length)


@handles("expand")
def _expand(tracer: Tracer, x: Any, size: Any, **_: Any) -> Symbolic:
    lead = len(size) - x.ndim
    sizes = [x.shape[i - lead] if n == -1 else n for i, n in enumerate(size)]
    axis = None if x.axis is None else x.axis + lead
    if axis is None:
        axis = tracer.guess_axis(sizes)
        if axis is not None and axis >= lead and x.shape[axis - lead] != 1:
            axis = None
    elif sizes[axis] != tracer.batch:
        raise tracer.mixes("an expansion of the batch axis")
    sizes = [1 if i == axis else n for i, n in enumerate(sizes)]
    return tracer.wrap(np.broadcast_to(x.entries, sizes), axis, x.dtype)


@handles("unbind")
def _unbind(tracer: Tracer, x: Any, dim: int = 0) -> Any:
    own(tracer, x, [dim % x.ndim], "torch.unbind")
    return tuple(select(tracer, x, dim, i) for i in range(x.shape[dim]))


@handles("split", "split_with_sizes")
def _split(tracer: Tracer, x: Any, sizes: Any, dim: int = 0) -> Any:
    dim %= x.ndim
    own(tracer, x, [dim], "torch.split")
    if isinstance(sizes, int):
        total = x.shape[dim]
        sizes = [min(sizes, total - start) for start in range(0, total, sizes)]
    ends = np.cumsum(sizes).tolist()
    return tuple(_slice(tracer, x, dim, end - n, end) for n, end in zip(sizes, ends, strict=True))


@handles("diagonal")
def _diagonal(tracer: Tracer, x: Any, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Symbolic:
    dims = [dim1 % x.ndim, dim2 % x.ndim]
    own(tracer, x, dims, "a diagonal")
    made = np.diagonal(x.entries, offset, *dims)
    if x.entries.flags.writeable:
        made.flags.writeable = True
    return tracer.wrap(made, left(x.axis, dims, False), x.dtype)
