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
from collections.abc import Callable, Iterable
from typing import Final

__all__ = ["CONSTANT", "LITERAL", "PATH", "STEP", "Graph", "Node"]

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
}
"""Leaves and their levels; ``value`` holds what is named in parentheses."""

COMPARISONS: Final = frozenset({"lt", "le", "gt", "ge", "eq", "ne"})
BOOLEAN: Final = COMPARISONS | {"and", "or", "xor", "not", "isnan"}


class Node:
    """One scalar expression: an operation on other nodes, a literal, or a leaf."""

    __slots__ = ("args", "boolean", "level", "number", "op", "value")

    def __init__(
        self, op: str, args: tuple[Node, ...], value: object, level: int, number: int
    ) -> None:
        self.op, self.args, self.value, self.level, self.number = op, args, value, level, number
        self.boolean = op in BOOLEAN or isinstance(value, bool)

    def __repr__(self) -> str:
        if self.op == "literal":
            return repr(self.value)
        inside = self.args if self.args else self.value
        return f"{self.op}{inside!r}"


_FOLD: Final[dict[str, Callable[..., float | bool]]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "neg": lambda a: -a,
    "abs": abs,
    "sqrt": math.sqrt,
    "exp": math.exp,
    "log": math.log,
    "sin": math.sin,
    "cos": math.cos,
    "tanh": math.tanh,
    "expm1": math.expm1,
    "log1p": math.log1p,
    "erf": math.erf,
    "floor": lambda a: float(math.floor(a)),
    "pow": lambda a, b: math.pow(a, b),
    "min": lambda a, b: a if a != a else b if b != b else min(a, b),
    "max": lambda a, b: a if a != a else b if b != b else max(a, b),
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "and": lambda a, b: a and b,
    "or": lambda a, b: a or b,
    "xor": lambda a, b: a != b,
    "not": lambda a: not a,
    "isnan": lambda a: a != a,
    "float": float,
}
"""Operations on literals; what is not here, or raises, is left to the kernel."""


class Graph:
    """Builds nodes, each once.

    Rewrites keep values up to rounding and keep NaN and infinity: x + 0, x 1, x / literal and the
    like fold, x 0 does not (infinity times zero is no number).
    """

    def __init__(self) -> None:
        self._nodes: dict[tuple[object, ...], Node] = {}

    def __len__(self) -> int:
        return len(self._nodes)

    def _make(self, op: str, args: tuple[Node, ...], value: object, level: int) -> Node:
        key = (op, *map(id, args), value.__class__, repr(value))
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
        if op in _FOLD and all(a.op == "literal" for a in args):
            try:
                return self.literal(_FOLD[op](*(a.value for a in args)))
            except (ValueError, OverflowError, ZeroDivisionError):
                pass
        rule = getattr(self, f"_{op}", None)
        simple = rule(*args) if rule is not None else None
        if simple is not None:
            return simple  # type: ignore[no-any-return]
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
        # u (v p) = (u v) p moves work from the paths to the table of steps; one rounding differs.
        if a.level < PATH == b.level and b.op == "mul" and b.args[0].level < PATH:
            return self("mul", self("mul", a, b.args[0]), b.args[1])
        if a.level == b.level == PATH and a.op == "mul" and a.args[0].level < PATH:
            return self("mul", a.args[0], self("mul", a.args[1], b))
        if a.level == b.level == PATH and b.op == "mul" and b.args[0].level < PATH:
            return self("mul", b.args[0], self("mul", a, b.args[1]))
        if a.level == b.level and a.number > b.number:
            a, b = b, a  # one order for both, so that equal products are one node
        return self._make("mul", (a, b), None, b.level)

    def _div(self, a: Node, b: Node) -> Node | None:
        if _is(b, 1.0):
            return a
        if b.op == "literal" and _is_power_of_two(b.value):
            return self("mul", self.literal(1.0 / b.value), a)  # type: ignore[operator]
        if b.level < PATH == a.level:  # one division a step instead of one a path
            return self("mul", self("div", self.literal(1.0), b), a)
        return None

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
        if not float(n).is_integer() or abs(n) > 64:  # type: ignore[arg-type]
            return None
        if n < 0:  # type: ignore[operator]
            return self("div", self.literal(1.0), self("pow", a, self.literal(-n)))  # type: ignore[operator]
        power, square, left = self.literal(1.0), a, int(n)  # type: ignore[call-overload]
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


def _is_power_of_two(value: object) -> bool:
    return isinstance(value, float) and math.isfinite(value) and abs(math.frexp(value)[0]) == 0.5
