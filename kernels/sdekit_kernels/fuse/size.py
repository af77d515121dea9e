"""How long a step is in machine operations, on which the time to compile it depends."""

from __future__ import annotations

from typing import Final

from sdekit_kernels.fuse.program import Program

__all__ = ["operations_of"]

_FUNCTIONS: Final = {
    **dict.fromkeys(("exp", "log", "sin", "cos", "tan", "tanh", "asin", "acos"), 35),
    **dict.fromkeys(("cosh", "atan", "atan2", "expm1", "log1p", "erf"), 50),
    "pow": 145, "sinh": 75, "erfc": 75, "round": 10, "trunc": 7,
}  # fmt: skip
"""Operations of each function in float64, a fifth more than in float32; one of all others."""


def operations_of(program: Program) -> int:
    """Operations of one step of one path, functions written out, noise not counted."""
    return sum(_FUNCTIONS.get(node.op, 1) for node in program.body)
