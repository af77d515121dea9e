"""Why a step cannot become one kernel, and where in the user's code the reason stands."""

from __future__ import annotations

import traceback

__all__ = ["CannotFuse", "line_of", "line_of_user"]

_HERE = __file__.replace("\\", "/").rsplit("/", 1)[0]
_OTHERS = ("/torch/", "/numpy/", "/sdekit/solvers/", "/sdekit/solve/")
"""Whose frames are not the equation's."""


class CannotFuse(Exception):
    """Why a step cannot become one kernel: the operation, the line it stands on, what to do.

    batch: whether it is that samples of the batch would depend on each other, which a batch of
    another size, that no other axis has, might not say.
    """

    def __init__(self, message: str, batch: bool = False) -> None:
        super().__init__(message)
        self.batch = batch


def line_of_user() -> str:
    """Where the innermost frame outside torch and this package stands: function, file, line."""
    return _innermost(traceback.extract_stack())


def line_of(error: BaseException) -> str:
    """The same for where an exception was raised."""
    return _innermost(traceback.extract_tb(error.__traceback__))


def _innermost(frames: traceback.StackSummary) -> str:
    for frame in reversed(frames):
        name = frame.filename.replace("\\", "/")
        if name.startswith((_HERE, "<frozen")) or any(part in name for part in _OTHERS):
            continue
        return f" in {frame.name}, {name.rsplit('/', 1)[-1]} line {frame.lineno}"
    return ""
