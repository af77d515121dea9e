"""Scalar expressions, shared and folded as they are built.

An expression is a ``Node``. Equal expressions are the same object, so common subexpressions cost
nothing and comparing two programs is comparing their printed form. Each node knows its ``level``:
what it changes with, which decides where it is computed.

==========  =========================================  ============================
level       changes with                               computed
==========  =========================================  ============================
LITERAL     nothing                                    here, while building
CONSTANT    the values of shared parameters            once a launch, in torch
STEP        the time as well                           for all steps at once, in torch
PATH        the path: its state, noise, parameters     in the kernel
==========  =========================================  ============================
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import numpy as np

__all__ = ["CONSTANT", "LITERAL", "PATH", "STEP", "Graph", "Node", "order_of"]

LITERAL: Final = 0
CONSTANT: Final = 1
STEP: Final = 2
PATH: Final = 3

LEAVES: Final = {
    "parameter": CONSTANT,  # (slot, entry): one number for all paths
    "path_parameter": PATH,  # (slot, entry): one number a path
    "time": STEP,  # (name,): "t", "t_next", "dt", ...
    "state": PATH,  # (component,)
    "noise": PATH,  # (channel,): a standard normal
    "mixed": PATH,  # (number,): what depends on other paths; a trace refuses it in the end
}
"""Leaves and their levels; ``value`` holds what is named in parentheses."""

COMPARISONS: Final = frozenset({"lt", "le", "gt", "ge", "eq", "ne"})
BOOLEAN: Final = COMPARISONS | {"and", "or", "xor", "not", "isnan"}


class Node:
    """One scalar expression: an operation on other nodes, a literal, or a leaf.

    ordinary: whether it is of ordinary size, so that a product with it stays in range: normals,
    times, literals that are neither tiny nor huge, and what is made of them. scaled: whether it is
    a product with a factor that is the same for all paths.
    """

    __slots__ = ("args", "boolean", "level", "number", "op", "ordinary", "scaled", "value")

    def __init__(
        self, op: str, args: tuple[Node, ...], value: Any, level: int, number: int
    ) -> None:
        self.op, self.args, self.value, self.level, self.number = op, args, value, level, number
        self.boolean = op in BOOLEAN or isinstance(value, bool)
        if op == "literal":
            self.ordinary = _ordinary(value)
        elif args:
            known = level < PATH or op in ("mul", "add", "sub", "neg")
            self.ordinary = known and all(a.ordinary for a in args)
        else:
            self.ordinary = op in ("time", "noise")
        self.scaled = (
            op == "mul" and level == PATH and (args[0].level < PATH or any(a.scaled for a in args))
        )

    def __repr__(self) -> str:
        if self.op == "literal":
            return repr(self.value)
        inside = self.args if self.args else self.value
        return f"{self.op}{inside!r}"


_ARITHMETIC: Final[dict[str, Callable[..., Any]]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "neg": np.negative,
    "abs": np.abs,
    "pow": np.power,
    "min": np.minimum,
    "max": np.maximum,
    "atan2": np.arctan2,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "round": np.rint,
    "erf": math.erf,
    "erfc": math.erfc,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "eq": np.equal,
    "ne": np.not_equal,
    "isnan": np.isnan,
    **{name: getattr(np, name) for name in ("sqrt", "exp", "log", "sin", "cos", "tan", "tanh")},
    **{name: getattr(np, name) for name in ("sinh", "cosh", "expm1", "log1p")},
    **{name: getattr(np, name) for name in ("floor", "ceil", "trunc")},
}
"""Operations on literals that are numbers, by the rules of floating-point arithmetic."""

_LOGIC: Final[dict[str, Callable[..., Any]]] = {
    "and": lambda a, b: a and b,
    "or": lambda a, b: a or b,
    "xor": lambda a, b: a != b,
    "not": lambda a: not a,
    "float": float,
}


def _fold(op: str, values: Sequence[Any]) -> float | bool | None:
    """The value of an operation on literals; None where the kernel has to say."""
    if op in _LOGIC:
        return _LOGIC[op](*values)
    if op not in _ARITHMETIC:
        return None
    with np.errstate(all="ignore"):
        value = _ARITHMETIC[op](*map(np.float64, values))
    return bool(value) if op in BOOLEAN else float(value)


class Graph:
    """Builds nodes, each once.

    Rewrites keep values up to rounding and keep NaN and infinity: x + 0, x 1, x / literal and the
    like fold, x 0 does not (infinity times zero is no number). Two things they do not keep: the
    sign of zero (-(a - b) becomes b - a), and quotients by a number that is the same for all paths
    and whose reciprocal overflows, |u| < 2^-126 in float32.
    """

    def __init__(self) -> None:
        self._nodes: dict[tuple[object, ...], Node] = {}
        self._shares: dict[Node, Node] = {}

    def __len__(self) -> int:
        return len(self._nodes)

    def _make(self, op: str, args: tuple[Node, ...], value: object, level: int) -> Node:
        # repr, since 0.0 and -0.0 are equal.
        key = (op, *map(id, args)) if value is None else (op, value.__class__, repr(value))
        node = self._nodes.get(key)
        if node is None:
            node = self._nodes[key] = Node(op, args, value, level, len(self._nodes))
        return node

    def literal(self, value: float | bool) -> Node:
        """A number; integers become floats, booleans stay."""
        return self._make("literal", (), value if isinstance(value, bool) else float(value), 0)

    def leaf(self, op: str, *value: object) -> Node:
        """One of ``LEAVES``."""
        return self._make(op, (), value, LEAVES[op])

    def __call__(self, op: str, *args: Node) -> Node:
        """The node for ``op`` on ``args``, simplified."""
        if all(a.op == "literal" for a in args):
            value = _fold(op, [a.value for a in args])
            if value is not None:
                return self.literal(value)
        rule = getattr(self, f"_{op}", None)
        simple = rule(*args) if rule is not None else None
        if simple is not None:
            return simple
        return self._make(op, args, None, max(a.level for a in args))

    def total(self, terms: Iterable[Node]) -> Node:
        """Their sum, from the first to the last."""
        result: Node | None = None
        for term in terms:
            result = term if result is None else self("add", result, term)
        return self.literal(0.0) if result is None else result

    def reduce(self, op: str, terms: Iterable[Node]) -> Node:
        """``op`` from the first to the last."""
        iterator = iter(terms)
        result = next(iterator)
        for term in iterator:
            result = self(op, result, term)
        return result

    # -- rules: None where nothing is simpler ------------------------------------------------------

    def _add(self, a: Node, b: Node) -> Node | None:
        if _is(a, 0.0):
            return b
        if _is(b, 0.0):
            return a
        if b.op == "neg":
            return self("sub", a, b.args[0])
        if a.op == "neg":
            return self("sub", b, a.args[0])
        return None

    def _sub(self, a: Node, b: Node) -> Node | None:
        if _is(b, 0.0):
            return a
        if _is(a, 0.0):
            return self("neg", b)
        if b.op == "neg":
            return self("add", a, b.args[0])
        return None

    def _neg(self, a: Node) -> Node | None:
        if a.op == "neg":
            return a.args[0]
        if a.op == "sub" and a.level == PATH:
            return self("sub", a.args[1], a.args[0])
        if a.op == "mul" and a.level == PATH and a.args[0].level < PATH:
            return self("mul", self("neg", a.args[0]), a.args[1])
        return None

    def _mul(self, a: Node, b: Node) -> Node | None:
        if a.level > b.level:  # the factor that changes least comes first
            a, b = b, a
        if _is(a, 1.0):
            return b
        if _is(a, -1.0):
            return self("neg", b)
        if b.op == "neg":
            return self("neg", self("mul", a, b.args[0]))
        if a.level < PATH == b.level:
            moved = self._absorb(a, b)
            if moved is not None:
                return moved
        if a.level == b.level == PATH:
            for one, other in ((a, b), (b, a)):
                if one.op == "mul" and one.args[0].level < PATH:
                    factor, rest = one.args
                    if factor.ordinary or other.ordinary:
                        return self("mul", factor, self("mul", rest, other))
        return self._make_product(a, b)

    def _absorb(self, u: Node, b: Node) -> Node | None:
        """u (v p) = (u v) p, which moves work from the paths to the table; one rounding differs.

        Only where u or v is of ordinary size: else u v could leave the range of the numbers where
        v p does not.
        """
        if not b.scaled:
            return None
        x, y = b.args
        if x.level < PATH:
            return self("mul", self("mul", u, x), y) if u.ordinary or x.ordinary else None
        if u.ordinary:
            for one, other in ((x, y), (y, x)):
                moved = self._absorb(u, one)
                if moved is not None:
                    return self._make_product(moved, other)
        return None

    def _make_product(self, a: Node, b: Node) -> Node:
        """a b in one order for both, so that equal products are one node."""
        if (a.level, a.number) > (b.level, b.number):
            a, b = b, a
        return self._make("mul", (a, b), None, b.level)

    def _div(self, a: Node, b: Node) -> Node | None:
        if _is(b, 1.0):
            return a
        if b.op == "literal":
            size = abs(b.value)
            if not 2.0**-100 <= size <= 2.0**100:
                return None
            if math.frexp(size)[0] == 0.5:
                return self("mul", self.literal(1.0 / b.value), a)
        if b.level < PATH == a.level:  # one division a step instead of one a path
            share = self("div", self.literal(1.0), b)
            self._shares[share] = b
            return self("mul", share, a)
        return None

    def _whole(self, op: str, a: Node) -> Node | None:
        """Rounding a quotient: of the quotient itself, since 49 (1 / 49) is below 1."""
        if a.op == "mul" and a.args[0] in self._shares:
            quotient = self._make("div", (a.args[1], self._shares[a.args[0]]), None, PATH)
            return self._make(op, (quotient,), None, PATH)
        return None

    def _floor(self, a: Node) -> Node | None:
        return self._whole("floor", a)

    def _ceil(self, a: Node) -> Node | None:
        return self._whole("ceil", a)

    def _trunc(self, a: Node) -> Node | None:
        return self._whole("trunc", a)

    def _round(self, a: Node) -> Node | None:
        return self._whole("round", a)

    def _abs(self, a: Node) -> Node | None:
        return a if a.op in ("abs", "exp", "sqrt") else None

    def _pow(self, a: Node, b: Node) -> Node | None:
        if b.op != "literal":
            return None
        n = b.value
        if n == 0.5:
            return self("sqrt", a)
        if n == -0.5:
            return self("div", self.literal(1.0), self("sqrt", a))
        if not float(n).is_integer() or abs(n) > 64:
            return None
        if n < 0:
            return self("div", self.literal(1.0), self("pow", a, self.literal(-n)))
        power, square, left = self.literal(1.0), a, int(n)
        while left:
            if left & 1:
                power = self("mul", power, square)
            left >>= 1
            square = self("mul", square, square) if left else square
        return power

    def _where(self, condition: Node, a: Node, b: Node) -> Node | None:
        if a is b:
            return a
        if condition.op == "literal":
            return a if condition.value else b
        return None

    def _float(self, a: Node) -> Node | None:
        return None if a.boolean else a

    def _not(self, a: Node) -> Node | None:
        return a.args[0] if a.op == "not" else None

    def _and(self, a: Node, b: Node) -> Node | None:
        for one, other in ((a, b), (b, a)):
            if one.op == "literal":
                return other if one.value else one
        return a if a is b else None

    def _or(self, a: Node, b: Node) -> Node | None:
        for one, other in ((a, b), (b, a)):
            if one.op == "literal":
                return one if one.value else other
        return a if a is b else None

    def _min(self, a: Node, b: Node) -> Node | None:
        return a if a is b else None

    def _max(self, a: Node, b: Node) -> Node | None:
        return a if a is b else None


def _is(node: Node, value: float) -> bool:
    return node.op == "literal" and node.value == value and not node.boolean


def _ordinary(value: object) -> bool:
    """Whether this is a number within a million of one, either way."""
    return isinstance(value, float) and 2.0**-20 <= abs(value) <= 2.0**20


def order_of(outputs: Sequence[Node]) -> list[Node]:
    """Every node that the outputs need, each after its arguments."""
    order: list[Node] = []
    done: set[Node] = set()
    stack = [(node, False) for node in reversed(outputs)]
    while stack:
        node, ready = stack.pop()
        if node in done:
            continue
        if ready:
            done.add(node)
            order.append(node)
            continue
        stack.append((node, True))
        stack.extend((a, False) for a in reversed(node.args) if a not in done)
    return order
