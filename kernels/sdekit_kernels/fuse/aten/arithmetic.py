"""Sums, products, quotients, limits, and choices between two values."""

from __future__ import annotations

from typing import Any

import torch

from sdekit_kernels.fuse.aten.align import broadcast
from sdekit_kernels.fuse.aten.elementwise import floor_divide
from sdekit_kernels.fuse.aten.entries import (
    apply,
    as_type,
    filled,
    floating,
    map_op,
    new,
    promoted,
)
from sdekit_kernels.fuse.aten.table import TABLE, Handler, handles
from sdekit_kernels.fuse.tracer import Symbolic, Tracer

__all__ = ["clamp", "mul"]


@handles("mul")
def mul(tracer: Tracer, a: Any, b: Any) -> Symbolic:
    """a b; of booleans, both."""
    dtype = promoted(a, b)
    axis, (x, y) = broadcast(tracer, (a, b))
    if dtype == torch.bool:
        return new(tracer, dtype, axis, map_op(tracer, "and", x, y))
    x, y = (as_type(tracer, v, dtype) for v in (x, y))
    return new(tracer, dtype, axis, map_op(tracer, "mul", x, y))


def _linear(op: str, swapped: bool = False) -> Handler:
    """a + alpha b or a - alpha b; swapped, b - alpha a."""

    def handler(tracer: Tracer, a: Any, b: Any, alpha: Any = 1) -> Symbolic:
        dtype = promoted(a, b)
        axis, aligned = broadcast(tracer, (a, b))
        x, y = (as_type(tracer, v, dtype) for v in aligned)
        scaled = x if swapped else y
        if alpha != 1:
            factor = filled(scaled.shape, tracer.graph.literal(alpha))
            scaled = map_op(tracer, "mul", factor, scaled)
        pair = (y, scaled) if swapped else (x, scaled)
        return new(tracer, dtype, axis, map_op(tracer, op, *pair))

    return handler


TABLE["add"], TABLE["sub"], TABLE["rsub"] = _linear("add"), _linear("sub"), _linear("sub", True)


@handles("div")
def _div(tracer: Tracer, a: Any, b: Any, rounding_mode: str | None = None) -> Symbolic:
    dtype = promoted(a, b)
    axis, aligned = broadcast(tracer, (a, b))
    if rounding_mode is None:
        dtype = floating(dtype)
    a, b = (as_type(tracer, v, dtype) for v in aligned)
    if rounding_mode == "floor":
        made = apply(lambda x, y: floor_divide(tracer.graph, x, y), a, b)
    else:
        made = map_op(tracer, "div", a, b)
    return new(
        tracer, dtype, axis, map_op(tracer, "trunc", made) if rounding_mode == "trunc" else made
    )


@handles("floor_divide")
def _floor_divide(tracer: Tracer, a: Any, b: Any) -> Symbolic:
    return _div(tracer, a, b, "floor")


@handles("clamp", "clamp_min", "hardtanh")
def clamp(tracer: Tracer, x: Any, low: Any = None, high: Any = None, **given: Any) -> Symbolic:
    """min(max(x, low), high), either of which may be missing."""
    low, high = given.get("min", low), given.get("max", high)
    values = [v for v in (x, low, high) if v is not None]
    axis, aligned = broadcast(tracer, values)
    dtype = promoted(*values)
    made, *limits = (as_type(tracer, v, dtype) for v in aligned)
    if low is not None:
        made = map_op(tracer, "max", made, limits.pop(0))
    if high is not None:
        made = map_op(tracer, "min", made, limits.pop(0))
    return new(tracer, dtype, axis, made)


@handles("clamp_max")
def _clamp_max(tracer: Tracer, x: Any, high: Any = None, **given: Any) -> Symbolic:
    return clamp(tracer, x, None, given.get("max", high))


@handles("where")
def _where(tracer: Tracer, condition: Any, a: Any, b: Any) -> Symbolic:
    dtype = promoted(a, b)
    axis, (c, x, y) = broadcast(tracer, (condition, a, b))
    c = as_type(tracer, c, torch.bool)
    graph = tracer.graph
    if dtype == torch.bool:
        both = apply(
            lambda c, x, y: graph("or", graph("and", c, x), graph("and", graph("not", c), y)),
            c, x, y,
        )  # fmt: skip
        return new(tracer, dtype, axis, both)
    x, y = (as_type(tracer, v, dtype) for v in (x, y))
    return new(tracer, dtype, axis, map_op(tracer, "where", c, x, y))


@handles("masked_fill")
def _masked_fill(tracer: Tracer, x: Any, mask: Any, value: Any) -> Symbolic:
    made = _where(tracer, mask, value, x)
    return new(tracer, x.dtype, made.axis, made.entries)
