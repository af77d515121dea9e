"""As many components as before, each from all along its axis: softmax and running results."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from sdekit_kernels.fuse.aten.entries import own
from sdekit_kernels.fuse.aten.reductions import shifted_exponentials
from sdekit_kernels.fuse.aten.table import TABLE, Handler, handles
from sdekit_kernels.fuse.graph import Graph, Node
from sdekit_kernels.fuse.tracer import Symbolic, Tracer

__all__: list[str] = []


def _along(
    tracer: Tracer,
    x: Any,
    dim: int,
    each: Callable[[Sequence[Node]], list[Node]],
    what: str,
    dtype: torch.dtype | None = None,
) -> Symbolic:
    """``each(nodes)`` gives as many nodes as it gets, along one axis."""
    dim %= max(x.ndim, 1)
    own(tracer, x, [dim], what)
    source = x.entries if x.ndim else x.entries[None]
    moved = np.moveaxis(source, dim, -1)
    made = np.empty(moved.shape, dtype=object)
    for where in np.ndindex(moved.shape[:-1]):
        made[where] = each(list(moved[where]))
    made = np.moveaxis(made, -1, dim)
    return tracer.wrap(made if x.ndim else made.reshape(()), x.axis, dtype or x.dtype)


@handles("_softmax", "softmax", "_safe_softmax")
def _softmax(tracer: Tracer, x: Any, dim: int, *_: Any) -> Symbolic:
    g = tracer.graph

    def each(nodes: Sequence[Node]) -> list[Node]:
        _, exponentials, total = shifted_exponentials(g, nodes)
        share = g("div", g.literal(1.0), total)
        return [g("mul", e, share) for e in exponentials]

    return _along(tracer, x, dim, each, "a softmax")


@handles("_log_softmax", "log_softmax")
def _log_softmax(tracer: Tracer, x: Any, dim: int, *_: Any) -> Symbolic:
    g = tracer.graph

    def each(nodes: Sequence[Node]) -> list[Node]:
        top, _, total = shifted_exponentials(g, nodes)
        shift = g("log", total)
        return [g("sub", g("sub", n, top), shift) for n in nodes]

    return _along(tracer, x, dim, each, "a log_softmax")


def _running(g: Graph, nodes: Sequence[Node], op: str) -> list[Node]:
    """``op`` from the first to each."""
    made = [g("float", n) if n.boolean else n for n in nodes]
    for j in range(1, len(made)):
        made[j] = g(op, made[j - 1], made[j])
    return made


def _cumulative(op: str, what: str) -> Handler:
    def handler(tracer: Tracer, x: Any, dim: int, dtype: Any = None) -> Symbolic:
        kind = dtype or (x.dtype if x.dtype.is_floating_point else torch.int64)
        return _along(tracer, x, dim, lambda n: _running(tracer.graph, n, op), what, kind)

    return handler


TABLE["cumsum"] = _cumulative("add", "a cumulative sum")
TABLE["cumprod"] = _cumulative("mul", "a cumulative product")


def _running_extreme(op: str) -> Handler:
    """cummax or cummin: the values, and where each was last reached."""

    def handler(tracer: Tracer, x: Any, dim: int) -> tuple[Symbolic, Symbolic]:
        g = tracer.graph
        values = _along(tracer, x, dim, lambda n: _running(g, n, op), f"a running {op}imum")

        def places(nodes: Sequence[Node]) -> list[Node]:
            best = _running(g, nodes, op)
            made = [g.literal(0.0)]
            for j in range(1, len(nodes)):
                reached = g("ge" if op == "max" else "le", nodes[j], best[j - 1])
                reached = g("or", reached, g("isnan", nodes[j]))
                made.append(g("where", reached, g.literal(j), made[-1]))
            return made

        return values, _along(tracer, x, dim, places, f"a running {op}imum", torch.int64)

    return handler


TABLE["cummax"], TABLE["cummin"] = _running_extreme("max"), _running_extreme("min")


@handles("logcumsumexp")
def _logcumsumexp(tracer: Tracer, x: Any, dim: int) -> Symbolic:
    g = tracer.graph

    def each(nodes: Sequence[Node]) -> list[Node]:
        made = []
        for j in range(len(nodes)):
            top, _, total = shifted_exponentials(g, nodes[: j + 1])
            endless = g("eq", g("abs", top), g.literal(math.inf))
            made.append(g("where", endless, top, g("add", top, g("log", total))))
        return made

    return _along(tracer, x, dim, each, "a cumulative logsumexp")
