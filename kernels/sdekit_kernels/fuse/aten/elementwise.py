"""Operations on one component at a time, in terms of the graph's own."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from sdekit_kernels.fuse.aten.align import broadcast
from sdekit_kernels.fuse.aten.entries import apply, as_type, floating, new, only, promoted, truth
from sdekit_kernels.fuse.aten.table import TABLE
from sdekit_kernels.fuse.graph import Graph, Node
from sdekit_kernels.fuse.tracer import Symbolic, Tracer

__all__ = ["elementwise", "floor_divide", "sigmoid"]


def elementwise(name: str, build: Callable[..., Node], kind: str = "number") -> None:
    """Enter an operation that ``build(graph, *nodes)`` carries out on each component.

    kind: "number" keeps the promoted type, "real" makes it floating, "test" takes numbers and gives
    booleans, "logic" takes anything and gives booleans.
    """

    def handler(tracer: Tracer, *values: Any, **given: Any) -> Symbolic:
        only(tracer, name, given)
        dtype = promoted(*values)
        dtype = floating(dtype) if kind == "real" else dtype
        axis, aligned = broadcast(tracer, values)
        if kind != "logic":
            number = tracer.dtype if dtype == torch.bool else dtype
            aligned = [as_type(tracer, a, number) for a in aligned]
        made = apply(lambda *nodes: build(tracer.graph, *nodes), *aligned)
        return new(tracer, torch.bool if kind in ("test", "logic") else dtype, axis, made)

    TABLE[name] = handler


def _op(op: str) -> Callable[..., Node]:
    return lambda g, *nodes: g(op, *nodes)


def sigmoid(g: Graph, x: Node) -> Node:
    """1 / (1 + e^-x)."""
    one = g.literal(1.0)
    return g("div", one, g("add", one, g("exp", g("neg", x))))


def _sign(g: Graph, x: Node) -> Node:
    zero = g.literal(0.0)
    return g("sub", g("float", g("gt", x, zero)), g("float", g("lt", x, zero)))


def _floored(g: Graph, a: Node, b: Node) -> tuple[Node, Node, Node]:
    """q = floor(a / b), r = a - b q, and whether a / b was rounded up to q: r has not b's sign."""
    zero = g.literal(0.0)
    quotient = g("floor", g("div", a, b))
    rest = g("sub", a, g("mul", b, quotient))
    other = g("xor", g("lt", rest, zero), g("lt", b, zero))
    return quotient, rest, g("and", g("ne", rest, zero), other)


def floor_divide(g: Graph, a: Node, b: Node) -> Node:
    """The largest whole number up to a / b."""
    quotient, _, above = _floored(g, a, b)
    return g("sub", quotient, g("float", above))


def _remainder(g: Graph, a: Node, b: Node) -> Node:
    """a - b floor(a / b), of b's sign."""
    _, rest, above = _floored(g, a, b)
    return g("where", above, g("add", rest, b), rest)


def _fmod(g: Graph, a: Node, b: Node) -> Node:
    """a - b trunc(a / b), of a's sign."""
    zero = g.literal(0.0)
    rest = g("sub", a, g("mul", b, g("trunc", g("div", a, b))))
    below = g("lt", rest, zero)
    other = g("and", g("ne", rest, zero), g("xor", below, g("lt", a, zero)))
    size = g("abs", b)
    return g("where", other, g("add", rest, g("where", below, size, g("neg", size))), rest)


def _scaled(op: str, before: float = 1.0, after: float = 1.0) -> Callable[..., Node]:
    """after op(before x)."""
    return lambda g, x: g("mul", g.literal(after), g(op, g("mul", g.literal(before), x)))


def _hypot(g: Graph, a: Node, b: Node) -> Node:
    """long sqrt(1 + (short / long)^2), as the squares could overflow; infinite if one is."""
    a, b, one, zero = g("abs", a), g("abs", b), g.literal(1.0), g.literal(0.0)
    long, short = g("max", a, b), g("min", a, b)
    ratio = g("div", short, long)
    value = g("mul", long, g("sqrt", g("add", one, g("mul", ratio, ratio))))
    value = g("where", g("eq", long, zero), zero, value)
    endless = g.literal(math.inf)
    return g("where", g("or", g("eq", a, endless), g("eq", b, endless)), endless, value)


def _logaddexp(g: Graph, a: Node, b: Node) -> Node:
    """max + log1p(e^-|a - b|); where both are the same infinity, that."""
    top = g("max", a, b)
    apart = g("abs", g("sub", a, b))
    value = g("add", top, g("log1p", g("exp", g("neg", apart))))
    return g("where", g("eq", g("abs", top), g.literal(math.inf)), top, value)


def _times_log(g: Graph, a: Node, b: Node) -> Node:
    """a log b, and 0 for a = 0."""
    value = g("mul", a, g("log", b))
    zero = g.literal(0.0)
    return g("where", g("and", g("eq", a, zero), g("eq", b, b)), zero, value)


def _heaviside(g: Graph, x: Node, at_zero: Node) -> Node:
    zero = g.literal(0.0)
    return g("where", g("eq", x, zero), at_zero, g("float", g("gt", x, zero)))


def _copysign(g: Graph, a: Node, b: Node) -> Node:
    size = g("abs", a)
    return g("where", g("lt", b, g.literal(0.0)), g("neg", size), size)


def _asinh(g: Graph, x: Node) -> Node:
    """sign(x) log1p(a + a^2 / (1 + sqrt(1 + a^2))), a = |x|; log 2a where the square overflows."""
    one, a = g.literal(1.0), g("abs", x)
    square = g("mul", a, a)
    root = g("sqrt", g("add", one, square))
    near = g("log1p", g("add", a, g("div", square, g("add", one, root))))
    far = g("add", g("log", a), g.literal(math.log(2.0)))
    size = g("where", g("gt", a, g.literal(1e9)), far, near)
    return g("where", g("lt", x, g.literal(0.0)), g("neg", size), size)


def _acosh(g: Graph, x: Node) -> Node:
    """log1p(u + sqrt(u (u + 2))), u = x - 1; log 2x where the square overflows."""
    u = g("sub", x, g.literal(1.0))
    near = g("log1p", g("add", u, g("sqrt", g("mul", u, g("add", u, g.literal(2.0))))))
    far = g("add", g("log", x), g.literal(math.log(2.0)))
    return g("where", g("gt", x, g.literal(1e9)), far, near)


def _atanh(g: Graph, x: Node) -> Node:
    """log1p(2x / (1 - x)) / 2, of |x|: the argument of log1p stays off -1."""
    a = g("abs", x)
    inside = g("div", g("mul", g.literal(2.0), a), g("sub", g.literal(1.0), a))
    size = g("mul", g.literal(0.5), g("log1p", inside))
    return g("where", g("lt", x, g.literal(0.0)), g("neg", size), size)


def _enter() -> None:
    real = ("sqrt", "exp", "log", "sin", "cos", "tan", "tanh", "sinh", "cosh", "asin", "acos",
            "atan", "expm1", "log1p", "erf", "erfc", "atan2")  # fmt: skip
    for name in real:
        elementwise(name, _op(name), "real")
    for name in ("floor", "ceil", "round", "trunc", "neg", "abs", "pow"):
        elementwise(name, _op(name))
    for name in ("lt", "le", "gt", "ge", "eq", "ne", "isnan"):
        elementwise(name, _op(name), "test")
    for name in ("and", "or", "xor"):
        elementwise(f"bitwise_{name}", _op(name), "logic")
        elementwise(f"__{name}__", _op(name), "logic")
        elementwise(
            f"logical_{name}", lambda g, a, b, n=name: g(n, truth(g, a), truth(g, b)), "logic"
        )
    elementwise("bitwise_not", _op("not"), "logic")
    elementwise("logical_not", lambda g, a: g("not", truth(g, a)), "logic")
    elementwise("rsqrt", lambda g, x: g("div", g.literal(1.0), g("sqrt", x)), "real")
    elementwise("reciprocal", lambda g, x: g("div", g.literal(1.0), x), "real")
    elementwise("square", lambda g, x: g("mul", x, x))
    elementwise("sigmoid", sigmoid, "real")
    elementwise("sign", _sign)
    elementwise("sgn", _sign)
    elementwise("frac", lambda g, x: g("sub", x, g("trunc", x)))
    elementwise("exp2", _scaled("exp", before=math.log(2.0)), "real")
    elementwise("log2", _scaled("log", after=1.0 / math.log(2.0)), "real")
    elementwise("log10", _scaled("log", after=1.0 / math.log(10.0)), "real")
    elementwise("deg2rad", lambda g, x: g("mul", g.literal(math.pi / 180.0), x), "real")
    elementwise("rad2deg", lambda g, x: g("mul", g.literal(180.0 / math.pi), x), "real")
    elementwise("maximum", _op("max"))
    elementwise("minimum", _op("min"))
    elementwise("fmax", lambda g, a, b: _ignoring_nan(g, "max", a, b))
    elementwise("fmin", lambda g, a, b: _ignoring_nan(g, "min", a, b))
    elementwise("remainder", _remainder)
    elementwise("fmod", _fmod)
    elementwise("hypot", _hypot, "real")
    elementwise("logaddexp", _logaddexp, "real")
    elementwise("xlogy", _times_log, "real")
    elementwise("special_xlog1py", lambda g, a, b: _times_log1p(g, a, b), "real")
    elementwise("heaviside", _heaviside)
    elementwise("copysign", _copysign, "real")
    elementwise("asinh", _asinh, "real")
    elementwise("acosh", _acosh, "real")
    elementwise("atanh", _atanh, "real")
    infinite = "test"
    elementwise("isinf", lambda g, x: g("eq", g("abs", x), g.literal(math.inf)), infinite)
    elementwise("isfinite", lambda g, x: g("lt", g("abs", x), g.literal(math.inf)), infinite)
    elementwise("isposinf", lambda g, x: g("eq", x, g.literal(math.inf)), infinite)
    elementwise("isneginf", lambda g, x: g("eq", x, g.literal(-math.inf)), infinite)
    elementwise("signbit", lambda g, x: g("lt", x, g.literal(0.0)), infinite)


def _ignoring_nan(g: Graph, op: str, a: Node, b: Node) -> Node:
    value = g("where", g("isnan", b), a, g(op, a, b))
    return g("where", g("isnan", a), b, value)


def _times_log1p(g: Graph, a: Node, b: Node) -> Node:
    """a log(1 + b), and 0 for a = 0."""
    value = g("mul", a, g("log1p", b))
    zero = g.literal(0.0)
    return g("where", g("and", g("eq", a, zero), g("eq", b, b)), zero, value)


_enter()
