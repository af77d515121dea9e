"""From the outputs of a trace to what a kernel needs: a body, and the table of its arguments.

A ``Program`` is one step of one path, in the order in which a kernel computes it. What does not
differ between paths is not in it: such expressions are evaluated once, in torch, for all steps
(``Program.table``), and the body names them by column. So two equations that differ in the values
of their parameters, tensors or numbers, have the same body, the same ``key``, the same kernel.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import torch

from sdekit_kernels.fuse.graph import PATH, STEP, Graph, Node, order_of
from sdekit_kernels.fuse.streams import Call, calls_of

__all__ = ["Program", "make_program"]

_VERSION: Final = 1
"""Counted up when printed kernels change without the body's text changing."""


@dataclass(frozen=True)
class Program:
    """One step of one path.

    state: expressions of the next state, S of them (leaves ``state``: 0 .. S - 1).
    body: path-level operations, each after its arguments.
    steps, constants: expressions that the body takes from the table, one number a step or one in
    all; a boolean one is stored as 0.0 or 1.0. path_parameters: (slot, entry) of each number that
    differs between paths. streams: normals that a path has each step, of each stream (see
    ``streams``); noise: the numbers of those that are used. watched: how many of the state must
    stay finite. parameters: the real tensors behind the slots (not in ``key``). learns: whether a
    tensor that the step reads requires a gradient.
    """

    state: tuple[Node, ...]
    body: tuple[Node, ...]
    steps: tuple[Node, ...]
    constants: tuple[Node, ...]
    path_parameters: tuple[tuple[int, int], ...]
    noise: tuple[int, ...]
    streams: tuple[int, ...]
    watched: int
    dtype: torch.dtype
    text: str
    parameters: tuple[torch.Tensor, ...] = field(compare=False, repr=False)
    learns: bool = field(default=False, compare=False)

    @property
    def channels(self) -> int:
        """Normals of the first stream."""
        return self.streams[0]

    @property
    def calls(self) -> list[Call]:
        """The Philox calls of a step."""
        return calls_of(self.noise, self.streams)

    @property
    def key(self) -> str:
        """Name of the kernel: a hash of the body's text."""
        return hashlib.sha256(f"{_VERSION}\n{self.text}".encode()).hexdigest()[:20]

    def table(
        self, times: Mapping[str, torch.Tensor], device: torch.device
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(step table (N, len(steps)), constants (len(constants),)) in the state's type.

        times: each time leaf's N values, of the state's type and on its device.
        """
        n = next(iter(times.values())).shape[0]
        value: dict[Node, torch.Tensor] = {}
        flat: dict[int, tuple[torch.Tensor, ...]] = {}
        for node in order_of((*self.steps, *self.constants)):
            if node.op == "literal":
                kind = torch.bool if node.boolean else self.dtype
                value[node] = torch.tensor(node.value, dtype=kind, device=device)
            elif node.op == "time":
                value[node] = times[node.value[0]]
            elif node.op == "parameter":
                slot, entry = node.value
                if slot not in flat:
                    whole = self.parameters[slot].detach().reshape(-1)
                    flat[slot] = whole.to(dtype=self.dtype, device=device).unbind()
                value[node] = flat[slot][entry]
            else:
                value[node] = _apply(node.op, [value[a] for a in node.args], self.dtype)
        steps = torch.empty((n, max(len(self.steps), 1)), dtype=self.dtype, device=device)
        for j, node in enumerate(self.steps):
            steps[:, j] = value[node]
        if not self.constants:
            return steps, torch.empty(1, dtype=self.dtype, device=device)
        return steps, torch.stack([value[node].to(self.dtype) for node in self.constants])

    def path_table(self) -> list[torch.Tensor]:
        """Each path parameter's (B,) numbers, in the state's type."""
        columns = []
        for slot, entry in self.path_parameters:
            value = self.parameters[slot].detach()
            columns.append(value.reshape(value.shape[0], -1)[:, entry].to(self.dtype))
        return columns

    def step_torch(
        self,
        state: Sequence[torch.Tensor],
        noise: Sequence[torch.Tensor],
        steps: torch.Tensor,
        constants: torch.Tensor,
        path: Sequence[torch.Tensor] = (),
    ) -> list[torch.Tensor]:
        """The body in torch: the readable reference of the kernels, for one row of the table."""
        value: dict[Node, torch.Tensor] = {}
        for rows, values in ((self.steps, steps), (self.constants, constants)):
            for j, node in enumerate(rows):
                value[node] = values[j] != 0 if node.boolean else values[j]
        columns = dict(zip(self.path_parameters, path, strict=True))

        def leaf(node: Node) -> torch.Tensor:
            if node.op == "literal":
                kind = torch.bool if node.boolean else self.dtype
                return torch.tensor(node.value, dtype=kind, device=steps.device)
            if node.op == "path_parameter":
                return columns[node.value]
            return (state if node.op == "state" else noise)[node.value[0]]

        for node in self.body:
            args = [value[a] if a in value else leaf(a) for a in node.args]
            value[node] = _apply(node.op, args, self.dtype)
        return [value[node] if node in value else leaf(node) for node in self.state]

    def outline(self) -> list[tuple[object, ...]]:
        """All that the step computes, the table's columns too; parameters by slot, not by value."""
        order = order_of(self.state)
        place = {node: j for j, node in enumerate(order)}
        lines = [(n.op, repr(n.value), *(place[a] for a in n.args)) for n in order]
        return [(self.text,), *lines]


def _apply(op: str, args: Sequence[torch.Tensor], dtype: torch.dtype) -> torch.Tensor:
    if op == "float":
        return args[0].to(dtype)
    return TORCH[op](*args)


def _fma(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    """a b + c rounded once: in float64 from float32; else from the product's own rounding error."""
    if a.dtype == torch.float32:
        return (a.double() * b.double() + c.double()).to(a.dtype)
    (a_high, a_low), (b_high, b_low) = _halves(a), _halves(b)
    product = a * b
    lost = a_low * b_low - (((product - a_high * b_high) - a_low * b_high) - a_high * b_low)
    total = product + c
    part = total - product
    exact = total + (((product - (total - part)) + (c - part)) + lost)
    return torch.where(exact.isfinite(), exact, total)


def _halves(a: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """a in two parts of 26 bits (Veltkamp)."""
    scaled = a * (2.0**27 + 1.0)
    high = scaled - (scaled - a)
    return high, a - high


TORCH: Final[dict[str, Any]] = {
    **{
        name: getattr(torch, name)
        for name in ("sqrt", "exp", "log", "sin", "cos", "tan", "tanh", "sinh", "cosh", "asin")
    },
    **{
        name: getattr(torch, name)
        for name in ("acos", "atan", "expm1", "log1p", "erf", "erfc", "floor", "ceil", "round")
    },
    **{name: getattr(torch, name) for name in ("trunc", "neg", "abs", "atan2", "pow", "isnan")},
    **{name: getattr(torch, name) for name in ("add", "sub", "mul", "div")},
    **{name: getattr(torch, name) for name in ("lt", "le", "gt", "ge", "eq", "ne")},
    "min": torch.minimum,
    "max": torch.maximum,
    "and": torch.logical_and,
    "or": torch.logical_or,
    "xor": torch.logical_xor,
    "not": torch.logical_not,
    "where": torch.where,
    "fma": _fma,
}
"""What each operation means, in torch."""


def make_program(
    graph: Graph,
    state: Sequence[Node],
    streams: Sequence[int],
    dtype: torch.dtype,
    parameters: Sequence[torch.Tensor],
    watched: int | None = None,
    learns: bool = False,
) -> Program:
    """The program that computes these next states.

    Products that are used once, in a sum, are fused into it. Numbers that are not small integers or
    powers of two become constants of the table, so that changing one compiles nothing.
    """
    state = _fuse_products(graph, state)
    order = order_of(state)
    body, steps, constants, path, noise = [], [], [], [], []
    seen: set[Node] = set()
    for node in order:
        for a in (node, *(node.args if node.level == PATH else ())):
            if a in seen or (a is node and node.level < PATH and node not in state):
                continue
            seen.add(a)
            if a.level == STEP:
                steps.append(a)
            elif a.level < STEP and not _plain(a):
                constants.append(a)
            elif a.op == "path_parameter":
                path.append(a.value)
            elif a.op == "noise":
                noise.append(a.value[0])
            elif a.level == PATH and a.args:
                body.append(a)
    body.sort(key={n: i for i, n in enumerate(order)}.__getitem__)
    watched = len(state) if watched is None else watched
    text = _text(state, body, steps, constants, path, streams, dtype)
    text = f"{text}\nfinite: state[:{watched}]"
    return Program(
        tuple(state),
        tuple(body),
        tuple(steps),
        tuple(constants),
        tuple(path),
        tuple(sorted(noise)),
        tuple(streams),
        watched,
        dtype,
        text,
        tuple(parameters),
        learns,
    )


def _plain(node: Node) -> bool:
    """Whether a literal is written into the kernel."""
    if node.op != "literal":
        return False
    v = node.value
    if isinstance(v, bool) or not math.isfinite(v):
        return True
    small = float(v).is_integer() and abs(v) <= 64
    return small or abs(math.frexp(v)[0]) == 0.5


def _fuse_products(graph: Graph, outputs: Sequence[Node]) -> list[Node]:
    """a b + c as one operation where the product serves nothing else."""
    order = order_of(outputs)
    uses: dict[Node, int] = {}
    for node in order:
        for a in node.args:
            uses[a] = uses.get(a, 0) + 1
    for node in outputs:
        uses[node] = uses.get(node, 0) + 1
    new: dict[Node, Node] = {}

    def free(node: Node) -> bool:
        return node.op == "mul" and node.level == PATH and uses[node] == 1

    for node in order:
        args = tuple(new[a] for a in node.args)
        made = node
        if node.level == PATH and node.op in ("add", "sub"):
            a, b = node.args
            if free(b):
                u, v = (new[p] for p in b.args)
                made = graph("fma", graph("neg", u) if node.op == "sub" else u, v, args[0])
            elif free(a):
                u, v = (new[p] for p in a.args)
                made = graph("fma", u, v, graph("neg", args[1]) if node.op == "sub" else args[1])
            else:
                made = graph._make(node.op, args, None, PATH)
        elif node.args and node.level == PATH and args != node.args:
            made = graph._make(node.op, args, None, PATH)
        new[node] = made
    return [new[node] for node in outputs]


def _text(
    state: Sequence[Node],
    body: Sequence[Node],
    steps: Sequence[Node],
    constants: Sequence[Node],
    path: Sequence[Any],
    streams: Sequence[int],
    dtype: torch.dtype,
) -> str:
    """The body in a form that is the same for all values of all parameters."""
    name: dict[Node, str] = {}
    for prefix, nodes in (("u", steps), ("c", constants), ("v", body)):
        for j, node in enumerate(nodes):
            name[node] = f"{prefix}{j}{'?' if node.boolean and prefix != 'v' else ''}"
    columns = {p: f"p{j}" for j, p in enumerate(path)}

    def word(node: Node) -> str:
        if node in name:
            return name[node]
        if node.op == "literal":
            return repr(node.value)
        if node.op == "path_parameter":
            return columns[node.value]
        return f"{node.op}[{node.value[0]}]"

    lines = [f"{dtype} channels={'+'.join(map(str, streams))} paths={len(path)}"]
    lines += [f"{name[n]} = {n.op}({', '.join(map(word, n.args))})" for n in body]
    lines += [f"state[{j}] = {word(n)}" for j, n in enumerate(state)]
    return "\n".join(lines)
