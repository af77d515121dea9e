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
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import torch

from sdekit_kernels.fuse._triton.reductions import FUNCTIONS, POINTERS, SIZES, WHERE, reductions
from sdekit_kernels.fuse._triton.registers import Care, care_of
from sdekit_kernels.fuse._triton.size import UNROLL_LIMIT, unrolls
from sdekit_kernels.fuse.graph import PATH, Node
from sdekit_kernels.fuse.program import Program
from sdekit_kernels.fuse.statistics import Group
from sdekit_kernels.fuse.streams import Call

__all__ = ["UNROLL_LIMIT", "print_triton"]

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
from sdekit_kernels.fuse._triton.rows import load_rows, store_rows
{noise}
F: tl.constexpr = tl.{dtype}
F64: tl.constexpr = tl.constexpr({f64})
'''


def print_triton(program: Program, groups: Sequence[Group] = ()) -> str:
    """The module's source: the kernel ``trajectory`` and the functions that it calls.

    groups: what is reduced in place of saving states.
    """
    return "\n".join(map(_wrapped, _Printer(program, groups).module())) + "\n"


class _Printer:
    """Names, and the pieces of the module."""

    def __init__(self, program: Program, groups: Sequence[Group]) -> None:
        self.program, self.groups = program, groups
        self.x = [f"x{j}" for j in range(len(program.state))]
        self.shared = [c for c in program.calls if c.grouped]  # by four steps
        self.own = [c for c in program.calls if not c.grouped]
        self.z = [f"z{c.first}" for c in self.shared]
        self.c = [f"c{j}" for j in range(len(program.constants))]
        self.p = [f"p{j}" for j in range(len(program.path_parameters))]
        self.literals: dict[str, str] = {}
        self.used = {"fma"}
        self.names: dict[Node, str] = {}
        for prefix, nodes in (("u", program.steps), ("c", program.constants), ("v", program.body)):
            self.names.update((node, f"{prefix}{j}") for j, node in enumerate(nodes))
        self.columns = {p: f"p{j}" for j, p in enumerate(program.path_parameters)}
        self.grouped = bool(self.shared)
        sums = len(groups[0].entries) if groups else 0  # some 16 operations each
        self.unrolled = unrolls(program, 16 * sums)
        # What is carried from step to step, and what stays.
        self.carried = [*self.x, "finite", "alive"]
        self.care: Care = care_of(program)
        self.kept = [*(["constants", "origin"] if self.care.reload else self.c), *self.p]
        self.where = ["saved", "slots", "n", "path", "inside"]
        if groups:
            self.where = [*WHERE]
        self.keys = [f"k{j}" for j in range(2 * len(program.streams))]
        self.noise = ["low", "high", "flip", *self.keys]

    def module(self) -> Iterator[str]:
        f64 = self.program.dtype == torch.float64
        step = list(self.step())
        noise = ["four_normals", *(["pick"] if self.grouped else []), "sample_words"]
        yield _HEAD.format(
            dtype="float64" if f64 else "float32",
            f64=f64,
            functions=", ".join(sorted(self.used)),
            noise=_import("noise", noise if self.program.noise else [])
            + _import("hidden", ["hidden"] if self.care.hide else [])
            + _import("statistics", FUNCTIONS if self.groups else []),
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
        given = [*self.z, *([*self.noise, "number", "PAIRS: tl.constexpr"] if self.own else [])]
        yield "\n@triton.jit"
        yield f"def step(steps, k, {_list(self.carried, self.kept, given)}):"
        yield '    """Step k; ``finite`` becomes NaN with the state, ``alive`` counts up to it."""'
        yield f"    row = steps + {_times(max(len(self.program.steps), 1), 'k')}"
        if self.care.reload:
            yield "    fixed = constants + origin * k"
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
        """The program's body, and what it reads or draws before its first use."""
        due = {c.first // 4: c for c in self.own}
        hide = self.program.state if self.care.hide else ()
        tables = [(self.program.steps, "row")]
        if self.care.reload:
            tables.append((self.program.constants, "fixed"))
        place = {
            n: f"{t}{f' + {j}' if j else ''}" for nodes, t in tables for j, n in enumerate(nodes)
        }

        def needed(nodes: Iterable[Node]) -> Iterator[str]:
            for node in nodes:
                if node in place:
                    yield f"{self.name(node)} = {_number_at(place.pop(node), node, 'finite.shape')}"
                elif node.op == "noise" and node.value[0] // 4 in due:
                    call = due.pop(node.value[0] // 4)
                    names = [f"z{m}" for m in range(call.first, call.first + 4)]
                    yield self.normals(call, names, "number")

        for j, node in enumerate(self.program.body):
            yield from needed(node.args)
            made = self.operation(node)
            yield f"v{j} = {f'hidden({made})' if node in hide else made}"
        yield from needed(self.program.state)

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
            return self.columns[node.value]
        return f"{node.op.replace('state', 'x').replace('noise', 'z')}{node.value[0]}"

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
            return f"{a[0]} * -1.0"  # see ``negative`` in ``_gpu/ops.py``
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
        if self.groups:
            yield from reductions(self.groups, self.x)
            return
        yield "\n@triton.jit"
        yield f"def save(k, {_list(self.where, self.x)}):"
        yield '    """Store the state after step k where the step has a slot."""'
        yield "    slot = tl.load(slots + k)"
        first = f"slot.to(tl.int64) * {len(self.x)}"
        yield f"    store_rows(saved, {first}, n, path, inside, {_pack(self.x)}, slot >= 0)"
        yield ""

    def advance(self, k: str, noise: Iterable[str]) -> Iterator[str]:
        """Lines that carry the state through the step number ``k``."""
        made = _tuple(self.carried)
        yield f"{made} = step(steps, {k}, {_list(self.carried, self.kept, noise)})"
        yield "if SAVE:"
        yield f"    save({k}, {_list(self.where, self.x)})"

    # -- loops -------------------------------------------------------------------------------------

    def normals(self, call: Call, names: list[str], counter: str) -> str:
        keys = [f"k{2 * call.stream}", f"k{2 * call.stream + 1}", "PAIRS", "F64"]
        hide = [] if call.grouped or not self.care.hide else [f"HIDE={self.care.hide}"]
        given = _list(["low", "high", "flip"], keys, hide)
        return f"{', '.join(names)} = four_normals({call.place}, {counter}, {given})"

    def group_normals(self) -> Iterator[str]:
        for call, z in zip(self.shared, self.z, strict=True):
            yield self.normals(call, [f"{z}_{j}" for j in range(4)], "group + q")

    def given(self, z: list[str]) -> list[str]:
        """What ``step`` gets of the noise: shared normals ``z``, and what makes the others."""
        return [*z, *([*self.noise, "number", "PAIRS"] if self.own else [])]

    def number(self, k: str) -> Iterator[str]:
        """The number of the step, where a call needs it."""
        if self.own:
            yield f"number = (first_step + {k}).to(tl.uint32)"

    def cut_groups(self) -> Iterator[str]:
        flags = ["SAVE: tl.constexpr", "PAIRS: tl.constexpr"]
        yield "\n@triton.jit"
        yield (
            f"def cut_groups(q0, q1, skip, count, first_step, group, steps, "
            f"{_list(self.carried, self.kept, self.where, self.noise, flags)}):"
        )
        yield '    """Steps 0 .. count - 1 as far as they lie in groups q0 .. q1 - 1."""'
        yield "    for q in range(q0, q1):"
        yield from _indent(2, self.group_normals())
        yield "        start = 4 * q - skip"
        yield "        for k in range(tl.maximum(start, 0), tl.minimum(start + 4, count)):"
        yield "            lane = (k + skip) & 3"
        for z in self.z:
            yield f"            {z} = pick(lane, {_list(f'{z}_{j}' for j in range(4))})"
        yield from _indent(3, self.number("k"))
        yield from _indent(3, self.advance("k", self.given(self.z)))
        yield f"    return {_tuple(self.carried)}"
        yield ""

    def trajectory(self) -> Iterator[str]:
        numbers = ["n", "count", "first_sample", "first_step", *self.keys]
        targets = ["saved"]
        if self.groups:
            numbers += SIZES
            targets = [*POINTERS, *(f"{size}: tl.int32" for size in SIZES)]
        yield ""
        yield f"@triton.jit(do_not_specialize={numbers})"
        yield "def trajectory("
        yield "    state, steps, constants, paths, bad, slots,"
        yield f"    {_list(targets)},"
        yield "    n: tl.int64, count: tl.int32,"
        keys = _list(f"{key}: tl.uint32" for key in self.keys)
        yield f"    first_sample: tl.int64, first_step: tl.int64, {keys},"
        yield "    SAVE: tl.constexpr, PAIRS: tl.constexpr, BLOCK: tl.constexpr,"
        yield "):"
        yield '    """``count`` steps of n paths; see fuse/launch.py for the arguments."""'
        yield "    path = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)"
        yield "    # Hides that paths are neighbours: else a thread loads two of them, and noise,"
        yield "    # made by another, comes to them through shared memory in every step."
        yield "    path = tl.max_contiguous(path, 1)"
        yield "    inside = path < n"
        if self.groups:
            yield "    part = tl.program_id(0).to(tl.int64)"
            yield "    shard = part % shards"
        if self.program.noise:
            yield "    low, high, flip = sample_words(first_sample + path, PAIRS)"
            for key in self.keys:
                yield f"    {key} = {key}.to(tl.uint32)"
        yield from _load("state", self.x)
        yield from self.constants()
        yield from _load("paths", self.p)
        yield "    finite = tl.zeros([BLOCK], F)"
        yield "    alive = tl.zeros([BLOCK], tl.float32)"
        yield from _indent(1, self.loop())
        if self.groups:
            yield "    if last != 0:"
            yield f"        save_last({_list(self.where[1:], self.x)})"
        yield f"    store_rows(state, origin, n, path, inside, {_pack(self.x)}, n > 0)"
        yield "    (before,) = load_rows(bad, 0, n, path, inside, 1)"
        yield "    fell = inside & (alive < count) & (before < 0)"
        yield "    where = first_step + alive.to(tl.int64)"
        yield "    store_rows(bad, origin, n, path, fell, (where,), n > 0)"

    def constants(self) -> Iterator[str]:
        """The numbers that are one in all, unless each step loads those that it needs."""
        yield "    # Zero, but the compiler cannot know it: what depends on it stays where it is,"
        yield "    # and takes no registers in the meantime."
        yield "    origin = n >> 62"
        if self.care.reload:
            return
        for j, node in enumerate(self.program.constants):
            place = f"constants + {j}" if j else "constants"
            yield f"    c{j} = {_number_at(place, node, '[BLOCK]')}"

    def loop(self) -> Iterator[str]:
        if self.grouped:
            yield from self.grouped_loop()
            return
        yield "for k in range(count):"
        yield from _indent(1, self.number("k"))
        yield from _indent(1, self.advance("k", self.given([])))

    def grouped_loop(self) -> Iterator[str]:
        """Groups of four steps: the whole ones here, those cut at an end in ``cut_groups``."""
        yield "group = first_step.to(tl.uint32) >> 2"
        yield "skip = (first_step & 3).to(tl.int32)"
        yield "groups = (skip + count + 3) // 4"
        names = _list(self.carried, self.kept, self.where, self.noise)
        cut = f"skip, count, first_step, group, steps, {names}"
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
            k = f"k + {j}" if j else "k"
            yield from _indent(1, self.number(f"({k})" if j else k))
            yield from _indent(1, self.advance(k, self.given([f"{z}_{j}" for z in self.z])))
        yield f"{made} = cut_groups(tail, groups, {cut}, SAVE, PAIRS)"


def _import(module: str, names: Iterable[str]) -> str:
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


def _pack(names: list[str]) -> str:
    """A tuple of these names."""
    return f"({', '.join(names)}{',' if len(names) == 1 else ''})"


def _load(array: str, names: list[str]) -> Iterator[str]:
    """The path's numbers in an array of one row a name."""
    if names:
        made = names[0] + "," if len(names) == 1 else _tuple(names)
        yield f"    {made} = load_rows({array}, 0, n, path, inside, {len(names)})"


def _times(j: int, name: str) -> str:
    return name if j == 1 else f"{j} * {name}"


def _number(value: object) -> str:
    if isinstance(value, bool):
        return repr(value)
    v = float(value)
    return repr(v) if math.isfinite(v) else f'float("{v!r}")'
