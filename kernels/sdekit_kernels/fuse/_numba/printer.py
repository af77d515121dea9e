"""A program as the source of a Numba kernel.

The kernel takes a block of paths through all steps. State, noise and counters of the block stand
in one scratch array, row after row of ``ROWS`` paths, so that they stay in the first-level cache,
and so that LLVM, which sees constant distances between the rows of one array, needs no run-time
checks to vectorize a loop over the paths. A step is one such loop, its body a text for
``step_function``; before it run the Philox calls, one for four steps where a path has fewer than
four normals, one for four normals otherwise (see ``fuse/streams.py``). Those, and all else that is
the same in every kernel, are functions of their own (``block.py``).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Final

import torch

from sdekit_kernels.fuse.graph import Node
from sdekit_kernels.fuse.program import Program
from sdekit_kernels.fuse.size import operations_of
from sdekit_kernels.fuse.streams import Call, calls_of

__all__ = ["block_rows", "print_numba"]

_SCRATCH: Final = 6144
"""Numbers of a block: 24 KiB of float32 leave room in a 32 KiB cache."""

_LONG: Final = 100
"""Operations of a step from which on the loop over paths is made of groups of a constant length.

Such a loop has no remainder, whose scalar code takes as long to compile as the vectorized one: of
steps with elementary functions a third to a half of all. The places of a last group that no path
takes hold zeros. A group is one vector of 512 bits, or what a processor makes of it, so that few
paths take no more than that; a single path of a long step takes up to twice its time, three take
less than before. Short steps gain nothing: they compile fast, and LLVM interleaves several of their
vectors.
"""

_HEAD: Final = '''"""A trajectory kernel, generated from one step of a solver: do not edit."""

import numpy as np

from sdekit_kernels._cpu.jit import kernel
from sdekit_kernels._cpu.parallel import fork
from sdekit_kernels.fuse._numba.block import clear_row, copy_row, failures_of, normals_of
from sdekit_kernels.fuse._numba.body import step_function
from sdekit_kernels.fuse._numba.statistics import keep

F = np.float{bits}
ROWS = {rows}
failures = failures_of({bits})
{normals}
step_path = step_function(
    """
{body}
    """,
    {places},
    {lanes},
)


@kernel
def trajectory(
    block0, block1, state, steps, constants, paths, bad, slots, saved, n, share, first, step0, keys
):
    """state (S, n) over len(steps) steps; see fuse/launch.py for the arguments.

    The blocks are dealt out in shares of so many.
    """
    count = len(steps)
    for block in range(block0 * share, min(block1 * share, (n + ROWS - 1) // ROWS)):
        start = block * ROWS
        rows = min(ROWS, n - start)
        s = np.empty({scratch}, F)
{clear}        sample = first + np.uint64(start)
        base_low = np.uint32(sample & np.uint64(0xFFFFFFFF))
        base_high = np.uint32(sample >> np.uint64(32))
{load}
        clear_row(s, {latch}, rows)
        clear_row(s, {alive}, rows)
'''

_TAIL: Final = '''
        for j in range({states}):
            copy_row(state, j * n + start, s, j * ROWS, rows)
        failures(bad, start, s, {alive}, rows, count, np.int64(step0))


@kernel
def launch(threads, blocks, *arguments):
    """``trajectory`` over all blocks, on several threads."""
    return fork(trajectory, threads, blocks, arguments)
'''


class _Rows:
    """Which row of the scratch array holds what."""

    def __init__(self, program: Program) -> None:
        self.states = len(program.state)
        self.path = self.states
        self.latch = self.path + len(program.path_parameters)
        self.alive = self.latch + 1
        self.noise = self.alive + 1
        # Calls of one stream and kind stand together, so that one loop makes them.
        self.calls = sorted(program.calls, key=lambda c: (c.grouped, c.stream, c.place))
        self.row = {c: self.noise + 4 * j for j, c in enumerate(self.calls)}
        self.total = self.noise + 4 * len(self.calls)
        self.slot = {}
        for m in program.noise:
            (call,) = calls_of([m], program.streams)
            self.slot[m] = self.row[call] + m - call.first

    def batches(self, grouped: bool) -> list[list[Call]]:
        """The calls of one kind, one list a stream."""
        calls = [c for c in self.calls if c.grouped == grouped]
        return [list(g) for _, g in groupby(calls, key=lambda c: c.stream)]


def block_rows(program: Program) -> int:
    """Paths of a block: a multiple of 64 whose rows fit into the cache, at least 64."""
    return max(64, min(1024, _SCRATCH // _Rows(program).total // 64 * 64))


def print_numba(program: Program, antithetic: bool) -> str:
    """The module's source: a kernel ``trajectory`` and its launcher ``launch``."""
    rows, size = _Rows(program), block_rows(program)
    bits = 64 if program.dtype == torch.float64 else 32
    places = {
        **{f"x{j}": j * size for j in range(rows.states)},
        **{f"y{j}": j * size for j in range(rows.states)},
        **{f"p{j}": (rows.path + j) * size for j in range(len(program.path_parameters))},
        **{f"z{m}": rows.slot[m] * size for m in program.noise},
        "finite": rows.latch * size,
        "y_finite": rows.latch * size,
        "alive": rows.alive * size,
        "y_alive": rows.alive * size,
    }
    grouped = {c.first for c in rows.calls if c.grouped}
    lanes = tuple(f"z{m}" for m in program.noise if m in grouped)
    noisy = bool(rows.calls)
    group = 512 // bits if operations_of(program) >= _LONG else None
    clear = f"        clear_row(s, 0, {rows.total * size} if rows < ROWS else 0)\n"
    head = _HEAD.format(
        bits=bits,
        normals=f"normals = normals_of({bits}, {antithetic})\n" if noisy else "",
        rows=size,
        scratch=rows.total * size,
        clear=clear if group else "",
        latch=rows.latch * size,
        alive=rows.alive * size,
        body="\n".join(f"    {line}" for line in _body(program)),
        places=places,
        lanes=lanes,
        load="\n".join(_loads(program, rows, size)),
    )
    lines = list(_loop(rows, size, group))
    tail = _TAIL.format(states=rows.states, alive=rows.alive * size)
    return head + "\n".join(lines) + tail


def _loads(program: Program, rows: _Rows, size: int) -> Iterator[str]:
    for array, first, count in (
        ("state", 0, rows.states),
        ("paths", rows.path, len(program.path_parameters)),
    ):
        if count:
            yield f"        for j in range({count}):"
            yield f"            copy_row(s, (j + {first}) * ROWS, {array}, j * n + start, rows)"


def _loop(rows: _Rows, size: int, group: int | None) -> Iterator[str]:
    """The loop over the steps, from Philox to the saved states."""
    take = "step_path(s, steps, k, constants, {}, {})"
    lane = "0"
    if rows.batches(grouped=True):
        lane = "lane"
        yield "        first_call = np.int64(step0) // 4"
        yield "        for call in range(first_call, (np.int64(step0) + count + 3) // 4):"
        for calls in rows.batches(grouped=True):
            yield from _noise(rows, calls, "np.uint32(call)", 12)
        yield "            low_step = max(0, 4 * call - np.int64(step0))"
        yield "            for k in range(low_step, min(count, 4 * call + 4 - np.int64(step0))):"
        yield f"                lane = ((np.int64(step0) + k) % 4) * {size}"
    else:
        yield "        if True:"
        yield "            for k in range(count):"
    for calls in rows.batches(grouped=False):
        step = "np.uint32(np.int64(step0) + k)"
        yield from _noise(rows, calls, step, 16)
    if group:
        yield f"                for i in range(0, rows, {group}):"
        yield f"                    for j in range({group}):"
        yield f"                        {take.format('i + j', lane)}"
    else:
        yield "                for i in range(rows):"
        yield f"                    {take.format('i', lane)}"
    yield "                keep(saved, slots, k, s, ROWS, start, rows)"


def _noise(rows: _Rows, calls: list[Call], step: str, indent: int) -> Iterator[str]:
    """Four normals a path from each of these Philox calls of one stream, into four rows."""
    pad, stream, first = " " * indent, calls[0].stream, rows.row[calls[0]]
    places = ", ".join(f"{c.place}" for c in calls)
    yield f"{pad}for j in range({len(calls)}):"
    pad += "    "
    yield f"{pad}place, at = np.uint32(({places},)[j]), ({first} + 4 * j) * ROWS"
    words = f"place, {step}, base_low, base_high, keys, {stream}"
    yield f"{pad}normals(s, at, ROWS, rows, {words})"


def _body(program: Program) -> Iterator[str]:
    """One step of one path, an operation a line, and the check for finite numbers."""
    names: dict[Node, str] = {}
    for prefix, nodes in (("u", program.steps), ("c", program.constants)):
        for j, node in enumerate(nodes):
            names[node] = f"{prefix}{j}"
            if node.boolean:
                yield f"{prefix}{j}_true = test({prefix}{j})"
                names[node] = f"{prefix}{j}_true"
    for j, node in enumerate(program.body):
        names[node] = f"v{j}"
    columns = {p: f"p{j}" for j, p in enumerate(program.path_parameters)}

    def word(node: Node) -> str:
        if node in names:
            return names[node]
        if node.op in ("state", "noise"):
            return f"{'x' if node.op == 'state' else 'z'}{node.value[0]}"
        if node.op == "path_parameter":
            return columns[node.value]
        return repr(node.value)

    for node in program.body:
        yield f"{names[node]} = {node.op}({', '.join(map(word, node.args))})"
    latch = "finite"
    for j, node in enumerate(program.state):
        yield f"y{j} = is({word(node)})"
        if j < program.watched:
            # Zero, or no number once the state is none: it stays so.
            following = f"finite{j}" if j + 1 < program.watched else "y_finite"
            yield f"{following} = fma(y{j}, 0.0, {latch})"
            latch = following
    yield "is_finite = eq(y_finite, y_finite)"
    yield "one_step = float(is_finite)"
    yield "y_alive = add(alive, one_step)"
