"""The registry: the name of a torch operation, and the handler that carries it out on entries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

__all__ = ["TABLE", "Handler", "handles"]

Handler = Callable[..., Any]
"""(tracer, the operation's own arguments) to its result."""

TABLE: Final[dict[str, Handler]] = {}
"""Handlers by the operation's name without namespace and overload, such as ``add``."""


def handles(*names: str) -> Callable[[Handler], Handler]:
    """Enter a handler under these names."""

    def register(handler: Handler) -> Handler:
        for name in names:
            TABLE[name] = handler
        return handler

    return register
