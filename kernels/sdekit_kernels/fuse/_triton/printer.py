"""A program as the source of a Triton kernel.

A lane is a path. ``step`` takes it through one step: the body of the program, line by line, under
the names of ``Program.text`` (u a number a step, c a constant, p a path parameter, x the state, z
the normals, v what is computed). ``trajectory`` loads the state, repeats ``step`` and stores the
state again; in between nothing but the rows of the step table is read, by scalar loads.

Where a path has fewer than four normals a step, a Philox call serves four steps, and the loop runs
over such groups. The groups cut at the first and the last step go through ``cut_groups``, which
picks one normal of four at run time, so that the loop between them selects nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Final

import torch

from sdekit_kernels.fuse.graph import PATH, Node
from sdekit_kernels.fuse.program import Program

__all__ = ["UNROLL_LIMIT", "print_triton"]

UNROLL_LIMIT: Final = 256
"""Operations of a step up to which four steps stand in the loop one after the other."""

_INFIX: Final = {
    "add": "+", "sub": "-", "mul": "*",
    "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!=",
    "and": "&", "or": "|", "xor": "^",
}  # fmt: skip
_NAMES: Final = {"sqrt": "root", "div": "divide", "abs": "tl.abs", "floor": "tl.floor",
                 "ceil": "tl.ceil", "round": "nearest", "min": "smaller", "max": "larger",
                 "pow": "power", "where": "tl.where"}  # fmt: skip

_HEAD: Final = '''"""A trajectory kernel, generated from one step of a solver: do not edit."""

import triton
import triton.language as tl

from sdekit_kernels.fuse._triton.math import {functions}
{noise}
F: tl.constexpr = tl.{dtype}
F64: tl.constexpr = tl.constexpr({f64})
'''

_RUN_TIME: Final = '["n", "count", "first_sample", "first_step", "k0", "k1"]'


def print_triton(program: Program) -> str:
    """The module's source: the kernel ``trajectory`` and the functions that it calls."""
    return "\n".join(map(_wrapped, _Printer(program).module())) + "\n"


class _Printer:
    """Names, and the pieces of the module."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.x = [f"x{j}" for j in range(len(program.state))]
        self.z = [f"z{m}" for m in program.noise]
        self.c = [f"c{j}" for j in range(len(program.constants))]
        self.p = [f"p{j}" for j in range(len(program.path_parameters))]
        self.literals: dict[str, str] = {}
        self.used = {"fma"}
        self.names: dict[Node, str] = {}
        for prefix, nodes in (("u", program.steps), ("c", program.constants), ("v", program.body)):
            self.names.update((node, f"{prefix}{j}") for j, node in enumerate(nodes))
        self.columns = {p: f"p{j}" for j, p in enumerate(program.path_parameters)}
        self.grouped = program.channels < 4 and bool(program.noise)
        self.unrolled = self.grouped and len(program.body) <= UNROLL_LIMIT
        # What is carried from step to step, and what stays.
        self.carried = [*self.x, "finite", "alive"]
        self.kept = [*self.c, *self.p]
        self.where = ["saved", "slots", "n", "path", "inside"]
        self.noise = ["low", "high", "flip", "k0", "k1"]

    def module(self) -> Iterator[str]:
        f64 = self.program.dtype == torch.float64
        step = list(self.step())
        noise = ["four_normals", *(["pick"] if self.grouped else []), "sample_words"]
        yield _HEAD.format(
            dtype="float64" if f64 else "float32",
            f64=f64,
            functions=", ".join(sorted(self.used)),
            noise=_import("noise", noise if self.program.noise else []),
        )
        yield from step
        yield from self.save()
        if self.grouped:
            yield from self.cut_groups()
        yield from self.trajectory()

    # -- one step ----------------------------------------------------------------------------------

    def step(self) -> Iterator[str]:
        body = list(self.body())
        made = [self.output(node) for node in self.program.state]
        given = self.z if self.grouped else [*self.noise, "number", "PAIRS: tl.constexpr"]
        given = given if self.program.noise else []
        yield "\n@triton.jit"
        yield f"def step(steps, k, {_list(self.carried, self.kept, given)}):"
        yield '    """Step k; ``finite`` becomes NaN with the state, ``alive`` counts up to it."""'
        width = max(len(self.program.steps), 1)
        for j, node in enumerate(self.program.steps):
            place = f"steps + {_times(width, 'k')}{f' + {j}' if j else ''}"
            yield f"    u{j} = {_number_at(place, node, 'finite.shape')}"
        for value, name in self.literals.items():
            kind = "tl.int1" if value in ("True", "False") else "F"
            yield f"    {name} = tl.full([], {value}, {kind})"
        yield from (f"    {line}" for line in body)
        yield "    zero = tl.zeros_like(finite)"
        for name in made[: self.program.watched]:
            yield f"    finite = fma({name}, zero, finite)"
        yield "    alive += (finite == finite).to(tl.float32)"
        yield f"    return {_tuple([*made, 'finite', 'alive'])}"
        yield ""

    def body(self) -> Iterator[str]:
        """The program's body, and before the first use of a call's normals the call."""
        made: set[int] = set()

        def calls(nodes: Iterable[Node]) -> Iterator[str]:
            for call in [a.value[0] // 4 for a in nodes if a.op == "noise"]:  # type: ignore[index]
                if not self.grouped and call not in made:
                    made.add(call)
                    names = [f"z{m}" for m in range(4 * call, 4 * call + 4)]
                    yield self.normals(call, names, "number")

        for j, node in enumerate(self.program.body):
            yield from calls(node.args)
            yield f"v{j} = {self.operation(node)}"
        yield from calls(self.program.state)

    def operand(self, node: Node) -> str:
        """A name, or a literal of the kernel's type under a name."""
        if node.op != "literal" or node in self.names:
            return self.name(node)
        return self.literals.setdefault(_number(node.value), f"n{len(self.literals)}")

    def output(self, node: Node) -> str:
        """The same as a number a path."""
        name = self.operand(node)
        return name if node.level == PATH else f"tl.broadcast_to({name}, finite.shape)"

    def name(self, node: Node) -> str:
        if node in self.names:
            return self.names[node]
        if node.op == "path_parameter":
            return self.columns[node.value]  # type: ignore[index]
        return f"{node.op.replace('state', 'x').replace('noise', 'z')}{node.value[0]}"  # type: ignore[index]

    def operation(self, node: Node) -> str:
        """One operation on operands."""
        op = node.op
        if op in _INFIX:
            # An operator takes the type of its other operand, so that a literal may stand as it is.
            a, b = (
                _number(x.value)
                if x.op == "literal" and not x.boolean and x not in self.names
                else self.operand(x)
                for x in node.args
            )
            return f"{a} {_INFIX[op]} {b}"
        a = [self.operand(x) for x in node.args]
        if op == "neg":
            return f"-{a[0]}"
        if op == "not":
            return f"{a[0]} == 0"
        if op == "isnan":
            return f"{a[0]} != {a[0]}"
        if op == "float":
            return f"{a[0]}.to(F)"
        function = _NAMES.get(op, op)
        if not function.startswith("tl."):
            self.used.add(function)
        return f"{function}({', '.join(a)})"

    # -- saving ------------------------------------------------------------------------------------

    def save(self) -> Iterator[str]:
        yield "\n@triton.jit"
        yield f"def save(k, {_list(self.where, self.x)}):"
        yield '    """Store the state after step k where the step has a slot."""'
        yield "    slot = tl.load(slots + k)"
        yield "    if slot >= 0:"
        yield f"        row = saved + slot * {_times(len(self.x), 'n')} + path"
        for j, x in enumerate(self.x):
            yield f"        tl.store(row{_rows(j)}, {x}, mask=inside)"
        yield ""

    def advance(self, k: str, noise: Iterable[str]) -> Iterator[str]:
        """Lines that carry the state through the step number ``k``."""
        made = _tuple(self.carried)
        yield f"{made} = step(steps, {k}, {_list(self.carried, self.kept, noise)})"
        yield "if SAVE:"
        yield f"    save({k}, {_list(self.where, self.x)})"

    # -- loops -------------------------------------------------------------------------------------

    def lanes(self, m: int) -> list[str]:
        return [f"z{m}_{j}" for j in range(4)]

    def normals(self, call: int, names: list[str], counter: str) -> str:
        keys = _list(self.noise, ["PAIRS", "F64"])
        return f"{', '.join(names)} = four_normals({call}, {counter}, {keys})"

    def group_normals(self) -> Iterator[str]:
        for m in self.program.noise:
            yield self.normals(m, self.lanes(m), "group + q")

    def cut_groups(self) -> Iterator[str]:
        flags = ["SAVE: tl.constexpr", "PAIRS: tl.constexpr"]
        yield "\n@triton.jit"
        yield (
            f"def cut_groups(q0, q1, skip, count, group, steps, "
            f"{_list(self.carried, self.kept, self.where, self.noise, flags)}):"
        )
        yield '    """Steps 0 .. count - 1 as far as they lie in groups q0 .. q1 - 1."""'
        yield "    for q in range(q0, q1):"
        yield from _indent(2, self.group_normals())
        yield "        start = 4 * q - skip"
        yield "        for k in range(tl.maximum(start, 0), tl.minimum(start + 4, count)):"
        yield "            lane = (k + skip) & 3"
        for m in self.program.noise:
            yield f"            z{m} = pick(lane, {_list(self.lanes(m))})"
        yield from _indent(3, self.advance("k", self.z))
        yield f"    return {_tuple(self.carried)}"
        yield ""

    def trajectory(self) -> Iterator[str]:
        yield f"\n@triton.jit(do_not_specialize={_RUN_TIME})"
        yield "def trajectory("
        yield "    state, steps, constants, paths, bad, slots, saved, n: tl.int64, count: tl.int32,"
        yield "    first_sample: tl.int64, first_step: tl.int64, k0: tl.uint32, k1: tl.uint32,"
        yield "    SAVE: tl.constexpr, PAIRS: tl.constexpr, BLOCK: tl.constexpr,"
        yield "):"
        yield '    """``count`` steps of n paths; see fuse/launch.py for the arguments."""'
        yield "    path = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)"
        yield "    # Hides that paths are neighbours: else a thread loads two of them, and noise,"
        yield "    # made by another, comes to them through shared memory in every step."
        yield "    path = tl.max_contiguous(path, 1)"
        yield "    inside = path < n"
        if self.program.noise:
            yield "    low, high, flip = sample_words(first_sample + path, PAIRS)"
            yield "    k0, k1 = k0.to(tl.uint32), k1.to(tl.uint32)"
        for j, x in enumerate(self.x):
            yield f"    {x} = tl.load(state + path{_rows(j)}, mask=inside, other=0.0)"
        for j, node in enumerate(self.program.constants):
            place = f"constants + {j}" if j else "constants"
            yield f"    c{j} = {_number_at(place, node, '[BLOCK]')}"
        for j, p in enumerate(self.p):
            yield f"    {p} = tl.load(paths + path{_rows(j)}, mask=inside, other=0.0)"
        yield "    finite = tl.zeros([BLOCK], F)"
        yield "    alive = tl.zeros([BLOCK], tl.float32)"
        yield from _indent(1, self.loop())
        for j, x in enumerate(self.x):
            yield f"    tl.store(state + path{_rows(j)}, {x}, mask=inside)"
        yield "    before = tl.load(bad + path, mask=inside, other=0)"
        yield "    fell = inside & (alive < count) & (before < 0)"
        yield "    tl.store(bad + path, first_step + alive.to(tl.int64), mask=fell)"

    def loop(self) -> Iterator[str]:
        if self.grouped:
            yield from self.grouped_loop()
            return
        noise = [*self.noise, "number", "PAIRS"] if self.program.noise else []
        yield "for k in range(count):"
        if noise:
            yield "    number = (first_step + k).to(tl.uint32)"
        yield from _indent(1, self.advance("k", noise))

    def grouped_loop(self) -> Iterator[str]:
        """Groups of four steps: the whole ones here, those cut at an end in ``cut_groups``."""
        yield "group = first_step.to(tl.uint32) >> 2"
        yield "skip = (first_step & 3).to(tl.int32)"
        yield "groups = (skip + count + 3) // 4"
        cut = f"skip, count, group, steps, {_list(self.carried, self.kept, self.where, self.noise)}"
        made = _tuple(self.carried)
        if not self.unrolled:
            yield f"{made} = cut_groups(0, groups, {cut}, SAVE, PAIRS)"
            return
        yield "head = (skip + 3) // 4"
        yield "tail = tl.maximum((skip + count) // 4, head)"
        yield f"{made} = cut_groups(0, head, {cut}, SAVE, PAIRS)"
        yield "for q in range(head, tail):"
        yield from _indent(1, self.group_normals())
        yield "    k = 4 * q - skip"
        for j in range(4):
            yield from _indent(
                1, self.advance(f"k + {j}" if j else "k", [f"{z}_{j}" for z in self.z])
            )
        yield f"{made} = cut_groups(tail, groups, {cut}, SAVE, PAIRS)"


def _import(module: str, names: list[str]) -> str:
    start = f"from sdekit_kernels.fuse._triton.{module} import "
    return f"{start}{', '.join(names)}\n" if names else ""


def _list(*names: Iterable[str]) -> str:
    return ", ".join(name for part in names for name in part)


def _tuple(names: list[str]) -> str:
    """The left side of an assignment, in parentheses where it may be broken into lines."""
    inner = ", ".join(names)
    return f"({inner})" if len(names) > 6 else inner


def _wrapped(line: str) -> str:
    """The line broken at 100 characters, inside parentheses alone."""
    if len(line) <= 100 or "\n" in line:
        return line
    indent = " " * (len(line) - len(line.lstrip()))
    chunks, depth = [], 0
    for word in line.split():
        if depth > 0:
            chunks.append(word)
        else:
            chunks[-1:] = [" ".join([*chunks[-1:], word])]
        depth += word.count("(") - word.count(")")
    lines = [indent + chunks[0]]
    for chunk in chunks[1:]:
        if len(lines[-1]) + 1 + len(chunk) > 100:
            lines.append(f"{indent}    {chunk}")
        else:
            lines[-1] += f" {chunk}"
    return "\n".join(lines)


def _indent(levels: int, lines: Iterable[str]) -> Iterator[str]:
    return (f"{'    ' * levels}{line}" for line in lines)


def _number_at(place: str, node: Node, shape: str) -> str:
    """A number of the table; a boolean is one a path, as the interpreter spreads none right."""
    return (
        f"tl.broadcast_to(tl.load({place}), {shape}) != 0" if node.boolean else f"tl.load({place})"
    )


def _rows(j: int) -> str:
    """The offset of row j of an array with n columns."""
    return "" if j == 0 else f" + {_times(j, 'n')}"


def _times(j: int, name: str) -> str:
    return name if j == 1 else f"{j} * {name}"


def _number(value: object) -> str:
    if isinstance(value, bool):
        return repr(value)
    v = float(value)  # type: ignore[arg-type]
    return repr(v) if math.isfinite(v) else f'float("{v!r}")'
