"""Matrix products."""

from __future__ import annotations

from typing import Any

import numpy as np

from sdekit_kernels.fuse.aten.arithmetic import mul
from sdekit_kernels.fuse.aten.entries import promoted
from sdekit_kernels.fuse.aten.table import TABLE, handles
from sdekit_kernels.fuse.tracer import Symbolic, Tracer

__all__: list[str] = []

_OVER = "a matrix product over the samples of the batch"


def _product(tracer: Tracer, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(n, k) x (k, m)."""
    g = tracer.graph
    if a.shape[1] != b.shape[0]:
        raise ValueError(f"matrices {a.shape} and {b.shape} do not multiply")
    tracer.check_room(a.shape[0] * a.shape[1] * b.shape[1])
    made = np.empty((a.shape[0], b.shape[1]), dtype=object)
    for i, j in np.ndindex(made.shape):
        made[i, j] = g.total(g("mul", u, v) for u, v in zip(a[i], b[:, j], strict=True))
    return made


def _operands(tracer: Tracer, *values: Any) -> list[Symbolic]:
    """All symbolic; real ones are shared by all paths unless nothing else knows the batch axis."""
    known = any(isinstance(v, Symbolic) and v.axis is not None for v in values)
    return [tracer.symbolic(v, None if known else tracer.batch_place(v, 0, None)) for v in values]


@handles("mm")
def _mm(tracer: Tracer, a: Any, b: Any) -> Symbolic:
    a, b = _operands(tracer, a, b)
    if a.axis == 1 or b.axis == 0 or (a.axis is not None and b.axis is not None):
        raise tracer.mixes(_OVER)
    axis = 0 if a.axis == 0 else b.axis
    return tracer.wrap(_product(tracer, a.entries, b.entries), axis, a.dtype)


def _added(name: str) -> Any:
    """beta c + alpha times the product ``name``."""

    def handler(tracer: Tracer, c: Any, a: Any, b: Any, beta: Any = 1, alpha: Any = 1) -> Symbolic:
        product = TABLE[name](tracer, a, b)
        if alpha != 1:
            product = mul(tracer, product, alpha)
        return TABLE["add"](tracer, product, c, beta)

    return handler


@handles("mv")
def _mv(tracer: Tracer, a: Any, b: Any) -> Symbolic:
    a, b = _operands(tracer, a, b)
    if b.axis == 0 or a.axis == 1:
        raise tracer.mixes(_OVER)
    made = _product(tracer, a.entries, b.entries[:, None])[:, 0]
    return tracer.wrap(made, a.axis, a.dtype)


@handles("dot", "vdot")
def _dot(tracer: Tracer, a: Any, b: Any) -> Symbolic:
    a, b = _operands(tracer, a, b)
    if a.axis is not None or b.axis is not None:
        raise tracer.mixes("a product over the samples of the batch")
    made = _product(tracer, a.entries[None], b.entries[:, None])
    return tracer.wrap(made.reshape(()), None, a.dtype)


@handles("bmm")
def _bmm(tracer: Tracer, a: Any, b: Any) -> Symbolic:
    axes = {v.axis for v in (a, b) if isinstance(v, Symbolic) and v.axis is not None}
    if len(axes) > 1:
        raise tracer.mixes(_OVER)
    axis = axes.pop() if axes else None
    if axis is None or axis == 0:
        a, b = (tracer.symbolic(v, tracer.batch_place(v, 3, axis)) for v in (a, b))
        axis = a.axis if a.axis is not None else b.axis
    else:
        a, b = tracer.symbolic(a), tracer.symbolic(b)
    if a.axis == 2 or b.axis == 1:
        raise tracer.mixes(_OVER)
    x, y = a.entries, b.entries
    count = 1 if axis == 0 else max(x.shape[0], y.shape[0])
    if axis == 0:
        x, y = (_one(tracer, v) for v in (x, y))
    stacked = [
        _product(tracer, x[i if x.shape[0] > 1 else 0], y[i if y.shape[0] > 1 else 0])
        for i in range(count)
    ]
    made = np.stack(stacked) if stacked else np.empty((0, a.shape[1], b.shape[2]), dtype=object)
    return tracer.wrap(made, axis, promoted(a, b))


def _one(tracer: Tracer, entries: np.ndarray) -> np.ndarray:
    """The matrix that all samples share; refused where they do not."""
    if entries.shape[0] > 1 and not (entries == entries[:1]).all():
        raise tracer.mixes("values that differ between the samples of the batch")
    return entries[:1]


for _name, _twin in (("addmm", "mm"), ("addmv", "mv"), ("baddbmm", "bmm")):
    TABLE[_name] = _added(_twin)
