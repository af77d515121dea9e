"""What a step asks of a GPU's thread: registers, and what is done to need few."""

from __future__ import annotations

from itertools import accumulate
from typing import Final, NamedTuple

import torch

from sdekit_kernels.fuse.graph import PATH, Node
from sdekit_kernels.fuse.program import Program

__all__ = ["Care", "care_of", "live_words"]

_SOME: Final = 48
"""Words above which the order of a body is kept even where it makes no noise."""
_CALLS: Final = 8
"""Philox calls whose unchanging parts, three words each, shall not wait in registers."""
_SHARED: Final = 128
"""Words, with the constants, up to which the constants stay in registers from step to step."""


class Care(NamedTuple):
    """What a kernel does to need few registers.

    hide: 0, or that it hides values from LLVM: 1 or 2 as in ``noise.four_normals``. reload: whether
    each step loads the constants that it needs, where they are needed.
    """

    hide: int
    reload: bool


def care_of(program: Program) -> Care:
    """The care that this program needs."""
    own = sum(not call.grouped for call in program.calls)
    live = live_words(program)
    hide = 2 if own >= _CALLS else 1 if own > 1 or live > _SOME else 0
    return Care(hide, live + _words(program) * len(program.constants) > _SHARED)


def live_words(program: Program) -> int:
    """The most 32-bit registers that hold numbers of a path at once, in the order of the body.

    A number is there from where it is made to where it is used last: the state from the start, the
    next state to the end, the normals of a call from the first use of one of them. What all paths
    share, and what making a normal or an elementary function takes for itself, is not counted.
    """
    end = len(program.body)
    call = {n: c.first for c in program.calls if not c.grouped for n in range(c.first, c.first + 4)}
    born: dict[Node, int] = {}
    made: dict[int, int] = {}  # where the call of a normal stands
    last: dict[Node, int] = {}
    for place, node in enumerate(program.body):
        born[node] = place
        for a in node.args:
            last[a] = place
            if a.op == "noise" and a.value[0] in call:
                born[a] = made.setdefault(call[a.value[0]], place)
    last.update(dict.fromkeys(program.state, end))
    change = [0] * (end + 2)
    for node, place in last.items():
        if node.level == PATH and node.op != "path_parameter" and not node.boolean:
            change[born.get(node, 0)] += 1
            change[place + 1] -= 1
    grouped = sum(4 for c in program.calls if c.grouped)
    return _words(program) * (max(accumulate(change)) + grouped + len(program.path_parameters))


def _words(program: Program) -> int:
    """32-bit registers of one number."""
    return 2 if program.dtype == torch.float64 else 1
