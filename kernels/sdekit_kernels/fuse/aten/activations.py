"""Functions that networks put between their layers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from sdekit_kernels.fuse.aten.elementwise import elementwise, sigmoid
from sdekit_kernels.fuse.aten.entries import apply, new
from sdekit_kernels.fuse.aten.table import TABLE, handles
from sdekit_kernels.fuse.graph import Graph, Node
from sdekit_kernels.fuse.tracer import Symbolic, Tracer

__all__: list[str] = []

elementwise("silu", lambda g, x: g("mul", x, sigmoid(g, x)), "real")
elementwise("relu", lambda g, x: g("max", x, g.literal(0.0)))


def _activation(name: str, build: Callable[..., Node]) -> None:
    """Enter a function of one tensor and numbers: ``build(graph, node, *numbers)``."""

    def handler(tracer: Tracer, x: Any, *numbers: Any, **named: Any) -> Symbolic:
        made = apply(lambda n: build(tracer.graph, n, *numbers, **named), x.entries)
        return new(tracer, x.dtype, x.axis, made)

    TABLE[name] = handler


def _softplus(g: Graph, x: Node, beta: float = 1, threshold: float = 20) -> Node:
    """log(1 + e^{beta x}) / beta, and x itself where beta x is above the threshold."""
    b = g.literal(beta)
    scaled = g("mul", b, x)
    soft = g("div", g("log1p", g("exp", scaled)), b)
    return g("where", g("gt", scaled, g.literal(threshold)), x, soft)


def _gelu(g: Graph, x: Node, approximate: str = "none") -> Node:
    """x (1 + erf(x / sqrt 2)) / 2, or its form with tanh."""
    half, one = g.literal(0.5), g.literal(1.0)
    if approximate == "none":
        inside = g("erf", g("mul", g.literal(math.sqrt(0.5)), x))
    else:
        cube = g("mul", x, g("mul", x, x))
        bent = g("add", x, g("mul", g.literal(0.044715), cube))
        inside = g("tanh", g("mul", g.literal(math.sqrt(2.0 / math.pi)), bent))
    return g("mul", half, g("mul", x, g("add", one, inside)))


def _elu(g: Graph, x: Node, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Node:
    """scale x above zero, scale alpha (e^{input_scale x} - 1) below."""
    below = g("mul", g.literal(scale * alpha), g("expm1", g("mul", g.literal(input_scale), x)))
    return g("where", g("gt", x, g.literal(0.0)), g("mul", g.literal(scale), x), below)


def _leaky_relu(g: Graph, x: Node, negative_slope: float = 0.01) -> Node:
    return g("where", g("gt", x, g.literal(0.0)), x, g("mul", g.literal(negative_slope), x))


def _threshold(g: Graph, x: Node, threshold: float, value: float) -> Node:
    return g("where", g("le", x, g.literal(threshold)), g.literal(value), x)


def _log_sigmoid(g: Graph, x: Node) -> Node:
    """min(x, 0) - log1p(e^-|x|)."""
    soft = g("log1p", g("exp", g("neg", g("abs", x))))
    return g("sub", g("min", x, g.literal(0.0)), soft)


def _hardsigmoid(g: Graph, x: Node) -> Node:
    """min(max(x + 3, 0), 6) / 6."""
    limited = g("min", g("max", g("add", x, g.literal(3.0)), g.literal(0.0)), g.literal(6.0))
    return g("div", limited, g.literal(6.0))


_activation("softplus", _softplus)
_activation("gelu", _gelu)
_activation("elu", _elu)
_activation("leaky_relu", _leaky_relu)
_activation("threshold", _threshold)
_activation("hardsigmoid", _hardsigmoid)
_activation("hardswish", lambda g, x: g("mul", x, _hardsigmoid(g, x)))
_activation("mish", lambda g, x: g("mul", x, g("tanh", _softplus(g, x))))


@handles("log_sigmoid_forward")
def _log_sigmoid_forward(tracer: Tracer, x: Any) -> tuple[Symbolic, Symbolic]:
    """The value, and a buffer for the gradient that only kernels fill."""
    made = apply(lambda n: _log_sigmoid(tracer.graph, n), x.entries)
    return new(tracer, x.dtype, x.axis, made), new(tracer, x.dtype, x.axis, x.entries.copy())


def _softplus_slope(g: Graph, x: Node, beta: float, threshold: float) -> Node:
    scaled = g("mul", g.literal(beta), x)
    return g("where", g("gt", scaled, g.literal(threshold)), g.literal(1.0), sigmoid(g, scaled))


@handles("softplus_backward")
def _softplus_backward(
    tracer: Tracer, gradient: Any, x: Any, beta: float, threshold: float
) -> Symbolic:
    slope = apply(lambda n: _softplus_slope(tracer.graph, n, beta, threshold), x.entries)
    return TABLE["mul"](tracer, gradient, new(tracer, x.dtype, x.axis, slope))


@handles("log_sigmoid_backward")
def _log_sigmoid_backward(tracer: Tracer, gradient: Any, x: Any, _: Any) -> Symbolic:
    """sigmoid(-x), whatever the buffer holds."""
    graph = tracer.graph
    slope = apply(lambda n: sigmoid(graph, graph("neg", n)), x.entries)
    return TABLE["mul"](tracer, gradient, new(tracer, x.dtype, x.axis, slope))
