"""Many components to one: sums, means, products, extremes, norms, variances."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from sdekit_kernels.fuse.aten.entries import dims_of, left, only, truth
from sdekit_kernels.fuse.aten.table import TABLE, Handler, handles
from sdekit_kernels.fuse.graph import Graph, Node
from sdekit_kernels.fuse.tracer import Symbolic, Tracer

__all__ = ["average", "reduced", "shifted_exponentials"]

Fold = Callable[[Sequence[Node]], Node]


def reduced(
    tracer: Tracer,
    x: Any,
    dim: Any,
    keepdim: bool,
    fold: Fold,
    what: str,
    dtype: torch.dtype | None = None,
) -> Symbolic:
    """``fold`` of the entries along ``dim``."""
    x = tracer.symbolic(x)
    dims = dims_of(dim, x.ndim)
    over_batch = x.axis is not None and x.axis in dims
    rest = [i for i in range(x.ndim) if i not in dims]
    moved = x.entries.transpose(rest + dims) if x.ndim else x.entries
    flat = moved.reshape(*moved.shape[: len(rest)], -1)
    made = np.empty(flat.shape[:-1], dtype=object)
    for where in np.ndindex(made.shape):
        if over_batch:
            made[where] = tracer.mixed(f"{what} over the samples of the batch")
        else:
            made[where] = fold(list(flat[where]))
    if keepdim:
        made = made.reshape([1 if i in dims else n for i, n in enumerate(x.entries.shape)])
    axis = None if over_batch else left(x.axis, dims, keepdim)
    return tracer.wrap(made, axis, dtype or x.dtype)


def _counted(x: Any, dtype: torch.dtype | None = None) -> torch.dtype:
    """Sums of booleans are integers."""
    return dtype or (x.dtype if x.dtype.is_floating_point else torch.int64)


def _numbers(g: Graph, nodes: Sequence[Node]) -> list[Node]:
    return [g("float", n) if n.boolean else n for n in nodes]


@handles("sum")
def _sum(
    tracer: Tracer, x: Any, dim: Any = None, keepdim: bool = False, dtype: Any = None
) -> Symbolic:
    g = tracer.graph
    kind = _counted(x, dtype)
    return reduced(tracer, x, dim, keepdim, lambda n: g.total(_numbers(g, n)), "a sum", kind)


@handles("nansum")
def _nansum(
    tracer: Tracer, x: Any, dim: Any = None, keepdim: bool = False, dtype: Any = None
) -> Symbolic:
    g = tracer.graph
    zero = g.literal(0.0)

    def fold(nodes: Sequence[Node]) -> Node:
        return g.total(g("where", g("isnan", n), zero, n) for n in nodes)

    return reduced(tracer, x, dim, keepdim, fold, "a sum", _counted(x, dtype))


@handles("mean")
def _mean(
    tracer: Tracer, x: Any, dim: Any = None, keepdim: bool = False, dtype: Any = None
) -> Symbolic:
    g = tracer.graph
    return reduced(tracer, x, dim, keepdim, lambda n: average(g, n), "a mean", dtype)


def average(g: Graph, nodes: Sequence[Node]) -> Node:
    """Sum over count."""
    return g("div", g.total(_numbers(g, nodes)), g.literal(len(nodes)))


@handles("prod")
def _prod(
    tracer: Tracer, x: Any, dim: Any = None, keepdim: bool = False, dtype: Any = None
) -> Symbolic:
    g = tracer.graph

    def fold(nodes: Sequence[Node]) -> Node:
        return g.reduce("mul", [g.literal(1.0), *_numbers(g, nodes)])

    return reduced(tracer, x, dim, keepdim, fold, "a product", _counted(x, dtype))


def _extreme(op: str) -> Handler:
    def handler(tracer: Tracer, x: Any, dim: Any = None, keepdim: bool = False) -> Symbolic:
        def fold(nodes: Sequence[Node]) -> Node:
            return tracer.graph.reduce(op, nodes)

        return reduced(tracer, x, dim, keepdim, fold, f"a {op}imum")

    return handler


TABLE["amax"], TABLE["amin"] = _extreme("max"), _extreme("min")


def _place_of(op: str) -> Handler:
    """argmax or argmin: the first of several; the first NaN where there is one."""

    def handler(tracer: Tracer, x: Any, dim: Any = None, keepdim: bool = False) -> Symbolic:
        g = tracer.graph

        def fold(nodes: Sequence[Node]) -> Node:
            best, place = nodes[0], g.literal(0.0)
            for j, node in enumerate(nodes[1:], 1):
                better = g("gt" if op == "max" else "lt", node, best)
                better = g("or", better, g("and", g("isnan", node), g("eq", best, best)))
                place = g("where", better, g.literal(j), place)
                best = g(op, best, node)
            return place

        return reduced(tracer, x, dim, keepdim, fold, f"a {op}imum", torch.int64)

    return handler


TABLE["argmax"], TABLE["argmin"] = _place_of("max"), _place_of("min")


def _extreme_and_place(op: str) -> Handler:
    def handler(tracer: Tracer, x: Any, dim: Any = None, keepdim: bool = False) -> Any:
        value = TABLE[f"a{op}"](tracer, x, dim, keepdim)
        if dim is None:
            return value
        return value, TABLE[f"arg{op}"](tracer, x, dim, keepdim)

    return handler


TABLE["max"], TABLE["min"] = _extreme_and_place("max"), _extreme_and_place("min")


def _quantified(op: str) -> Handler:
    def handler(tracer: Tracer, x: Any, dim: Any = None, keepdim: bool = False) -> Symbolic:
        g = tracer.graph
        start = g.literal(op == "and")

        def fold(nodes: Sequence[Node]) -> Node:
            return g.reduce(op, [start, *(truth(g, n) for n in nodes)])

        return reduced(tracer, x, dim, keepdim, fold, "a test", torch.bool)

    return handler


TABLE["any"], TABLE["all"] = _quantified("or"), _quantified("and")


@handles("count_nonzero")
def _count_nonzero(tracer: Tracer, x: Any, dim: Any = None) -> Symbolic:
    g = tracer.graph

    def fold(nodes: Sequence[Node]) -> Node:
        return g.total(g("float", truth(g, n)) for n in nodes)

    return reduced(tracer, x, dim, False, fold, "a count", torch.int64)


@handles("linalg_vector_norm")
def _norm(
    tracer: Tracer, x: Any, order: float = 2, dim: Any = None, keepdim: bool = False, **given: Any
) -> Symbolic:
    only(tracer, "linalg.vector_norm", given)
    g = tracer.graph

    def fold(n: Sequence[Node]) -> Node:
        if len(n) == 1 and order > 0:
            return g("abs", n[0])
        if order == 2:
            return g("sqrt", g.total(g("mul", v, v) for v in n))
        sizes = [g("abs", v) for v in n]
        if order == 1:
            return g.total(sizes)
        if order in (math.inf, -math.inf):
            return g.reduce("max" if order > 0 else "min", sizes)
        if order == 0:
            return g.total(g("float", g("ne", v, g.literal(0.0))) for v in n)
        power = g.total(g("pow", v, g.literal(order)) for v in sizes)
        return g("pow", power, g.literal(1.0 / order))

    return reduced(tracer, x, dim, keepdim, fold, "a norm")


def shifted_exponentials(g: Graph, nodes: Sequence[Node]) -> tuple[Node, list[Node], Node]:
    """max, exp(x - max), and their sum."""
    top = g.reduce("max", nodes)
    exponentials = [g("exp", g("sub", n, top)) for n in nodes]
    return top, exponentials, g.total(exponentials)


@handles("logsumexp")
def _logsumexp(tracer: Tracer, x: Any, dim: Any, keepdim: bool = False) -> Symbolic:
    g = tracer.graph

    def fold(nodes: Sequence[Node]) -> Node:
        top, _, total = shifted_exponentials(g, nodes)
        # An infinite maximum is the answer; infinity less infinity would be no number.
        endless = g("eq", g("abs", top), g.literal(math.inf))
        return g("where", endless, top, g("add", top, g("log", total)))

    return reduced(tracer, x, dim, keepdim, fold, "a logsumexp")
