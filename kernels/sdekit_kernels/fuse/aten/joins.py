"""New arrangements of entries: joined, repeated, turned, placed on a diagonal."""

from __future__ import annotations

from typing import Any

import numpy as np

from sdekit_kernels.fuse.aten.align import align, result_axis
from sdekit_kernels.fuse.aten.entries import as_type, dims_of, filled, own, promoted
from sdekit_kernels.fuse.aten.table import TABLE, handles
from sdekit_kernels.fuse.tracer import Symbolic, Tracer

__all__: list[str] = []


@handles("cat")
def _cat(tracer: Tracer, tensors: Any, dim: int = 0) -> Symbolic:
    tensors = [v for v in tensors if tuple(v.shape) != (0,)]
    ndim = tensors[0].ndim
    dim %= ndim
    axis = result_axis(tracer, ndim, tensors)
    if axis == dim:
        raise tracer.mixes("torch.cat along the batch axis")
    dtype = promoted(*tensors)
    parts = [as_type(tracer, align(tracer, v.shape, axis, [v])[0], dtype) for v in tensors]
    return tracer.wrap(np.concatenate(parts, dim), axis, dtype)


@handles("stack")
def _stack(tracer: Tracer, tensors: Any, dim: int = 0) -> Symbolic:
    dim %= tensors[0].ndim + 1
    axis = result_axis(tracer, tensors[0].ndim, tensors)
    dtype = promoted(*tensors)
    parts = [as_type(tracer, align(tracer, v.shape, axis, [v])[0], dtype) for v in tensors]
    axis = None if axis is None else axis + (axis >= dim)
    return tracer.wrap(np.stack(parts, dim), axis, dtype)


@handles("repeat")
def _repeat(tracer: Tracer, x: Any, repeats: Any) -> Symbolic:
    lead = len(repeats) - x.ndim
    axis = None if x.axis is None else x.axis + lead
    if axis is not None and repeats[axis] != 1:
        raise tracer.mixes("torch.repeat of the samples of the batch")
    made = np.tile(x.entries.reshape((1,) * lead + x.entries.shape), tuple(repeats))
    if axis is None and lead:
        guessed = tracer.guess_axis(made.shape)
        if guessed is not None and guessed < lead:
            made, axis = made[:1], guessed
    return tracer.wrap(made, axis, x.dtype)


@handles("constant_pad_nd")
def _pad(tracer: Tracer, x: Any, pad: Any, value: Any = 0) -> Symbolic:
    made = x.entries
    fill = tracer.graph.literal(value)
    for j in range(len(pad) // 2):
        dim, before, after = x.ndim - 1 - j, pad[2 * j], pad[2 * j + 1]
        if before or after:
            own(tracer, x, [dim], "padding")
        cut = slice(max(-before, 0), made.shape[dim] - max(-after, 0))
        made = made[(slice(None),) * dim + (cut,)]
        ends = [list(made.shape), list(made.shape)]
        ends[0][dim], ends[1][dim] = max(before, 0), max(after, 0)
        made = np.concatenate([filled(ends[0], fill), made, filled(ends[1], fill)], dim)
    return tracer.wrap(made, x.axis, x.dtype)


@handles("flip")
def _flip(tracer: Tracer, x: Any, dims: Any) -> Symbolic:
    own(tracer, x, dims_of(dims, x.ndim), "a flip")
    return tracer.wrap(np.flip(x.entries, dims_of(dims, x.ndim)).copy(), x.axis, x.dtype)


@handles("roll")
def _roll(tracer: Tracer, x: Any, shifts: Any, dims: Any = ()) -> Symbolic:
    if len(dims) == 0:
        if x.axis is not None:
            raise tracer.mixes("torch.roll over all axes, the samples of the batch too")
        made = np.roll(x.entries, sum(shifts))
    else:
        own(tracer, x, dims_of(dims, x.ndim), "a roll")
        made = np.roll(x.entries, tuple(shifts), tuple(dims_of(dims, x.ndim)))
    return tracer.wrap(made, x.axis, x.dtype)


@handles("diag_embed")
def _diag_embed(
    tracer: Tracer, x: Any, offset: int = 0, dim1: int = -2, dim2: int = -1
) -> Symbolic:
    if (dim1, dim2) != (-2, -1):
        raise tracer.refuse("torch.diag_embed with dim1= and dim2=", "permute its result")
    own(tracer, x, [x.ndim - 1], "a diagonal")
    n = x.shape[-1] + abs(offset)
    zero = tracer.graph.literal(0.0)
    made = filled((*x.entries.shape[:-1], n, n), zero)
    for i in range(x.shape[-1]):
        made[..., i + max(-offset, 0), i + max(offset, 0)] = x.entries[..., i]
    return tracer.wrap(made, x.axis, x.dtype)


def _triangle(tracer: Tracer, x: Any, diagonal: int, lower: bool) -> Symbolic:
    own(tracer, x, [x.ndim - 1, x.ndim - 2], "a triangle")
    made = x.entries.copy()
    rows, cols = np.indices(made.shape[-2:])
    outside = cols - rows > diagonal if lower else cols - rows < diagonal
    made[..., outside] = tracer.graph.literal(0.0)
    return tracer.wrap(made, x.axis, x.dtype)


TABLE["tril"] = lambda tracer, x, diagonal=0: _triangle(tracer, x, diagonal, lower=True)
TABLE["triu"] = lambda tracer, x, diagonal=0: _triangle(tracer, x, diagonal, lower=False)
