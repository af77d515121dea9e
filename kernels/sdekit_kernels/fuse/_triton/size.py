"""How long a kernel is in Triton's intermediate language, on which the time to compile depends."""

from __future__ import annotations

from typing import Final

from sdekit_kernels.fuse._triton.registers import live_words
from sdekit_kernels.fuse.program import Program
from sdekit_kernels.fuse.size import operations_of

__all__ = ["UNROLL_LIMIT", "lines_of", "unrolls"]

UNROLL_LIMIT: Final = 256
"""Operations of a step up to which four steps stand in the loop one after the other."""
_UNROLL_LINES: Final = 8000
_UNROLL_WORDS: Final = 64

_CALL: Final = 240
"""Operations of a Philox call and its four normals."""


def lines_of(program: Program) -> int:
    """Operations of the kernel, functions and noise written out."""
    return _lines(program, 6 if unrolls(program) else 1)


def unrolls(program: Program, more: int = 0) -> bool:
    """Whether four steps stand in the loop one after the other; each has ``more`` operations.

    That saves some instructions a normal where calls are shared by four steps. Of a long step they
    are nothing, and of a large state the registers would not hold what four steps need early.
    """
    grouped = any(call.grouped for call in program.calls)
    short = len(program.body) + more <= UNROLL_LIMIT and live_words(program) <= _UNROLL_WORDS
    return grouped and short and _lines(program, 6) <= _UNROLL_LINES


def _lines(program: Program, copies: int) -> int:
    """The same if the body stands so many times: two of six at the cut ends of the groups."""
    own = sum(not call.grouped for call in program.calls)
    shared = len(program.calls) - own
    loads = len(program.steps) + len(program.constants)
    return copies * (operations_of(program) + 3 * loads + _CALL * own) + 3 * _CALL * shared
