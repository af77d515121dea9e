"""Variances and standard deviations of components."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sdekit_kernels.fuse.aten.reductions import average, reduced
from sdekit_kernels.fuse.aten.table import TABLE, Handler
from sdekit_kernels.fuse.graph import Node
from sdekit_kernels.fuse.tracer import Symbolic, Tracer

__all__: list[str] = []


def _spread(after: str | None) -> Handler:
    """Variance, or its square root: the mean square of what differs from the mean."""

    def handler(
        tracer: Tracer, x: Any, dim: Any = None, correction: Any = None, keepdim: bool = False
    ) -> Symbolic:
        g = tracer.graph
        free = 1 if correction is None else correction
        if isinstance(dim, bool):  # the overload that has unbiased= in this place
            dim, free = None, int(dim)

        def fold(nodes: Sequence[Node]) -> Node:
            middle = average(g, nodes)
            apart = [g("sub", n, middle) for n in nodes]
            total = g.total(g("mul", a, a) for a in apart)
            value = g("div", total, g.literal(max(len(nodes) - free, 0)))
            return value if after is None else g(after, value)

        return reduced(tracer, x, dim, keepdim, fold, "a variance")

    return handler


TABLE["var"], TABLE["std"] = _spread(None), _spread("sqrt")


def _spread_and_mean(name: str) -> Handler:
    def handler(
        tracer: Tracer, x: Any, dim: Any = None, correction: Any = None, keepdim: bool = False
    ) -> Any:
        spread = TABLE[name](tracer, x, dim, correction=correction, keepdim=keepdim)
        return spread, TABLE["mean"](tracer, x, dim, keepdim)

    return handler


TABLE["var_mean"], TABLE["std_mean"] = _spread_and_mean("var"), _spread_and_mean("std")
