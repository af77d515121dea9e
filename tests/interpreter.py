"""Triton's interpreter without what it does over and over, which is more than half of its time.

Before each call of a function by a kernel it looks through all names of ``triton.language`` and
replaces those that it has replaced already; for each array it writes a table of all types.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

__all__ = ["hasten"]


def hasten() -> None:
    """From here on names are replaced once a launch, and a type is looked up in one table."""
    from triton.runtime import interpreter

    interpreter._patch_lang = once_a_launch(interpreter._patch_lang, interpreter.tl)
    interpreter._get_np_dtype = by_name(interpreter._get_np_dtype)


def once_a_launch(replace: Any, language: Any) -> Any:
    """``replace(function)`` for the first function of a launch that sees its module."""
    known: dict[Any, set[str]] = {}
    ready: set[str] = set()

    def modules_of(function: Any) -> set[str]:
        if function not in known:
            names = function.__globals__.values()
            seen = (v for v in names if v is language or v is language.core)
            known[function] = {module.__name__ for module in seen}
        return known[function]

    def replace_new(function: Any) -> Any:
        modules = modules_of(function)
        if modules and modules <= ready:
            return SimpleNamespace(restore=lambda: None)
        launch = not ready
        ready.update(modules)
        scope = replace(function)
        if not launch or scope is None:  # the caller throws it away; older versions have none
            return scope

        def restore() -> None:
            ready.clear()
            scope.restore()

        return SimpleNamespace(restore=restore)

    return replace_new


def by_name(numpy_type: Any) -> Any:
    """``numpy_type(type)``, remembered by the name of a scalar type."""
    table: dict[str, Any] = {}

    def remembered(kind: Any) -> Any:
        scalar = kind.scalar
        if scalar.name not in table:
            table[scalar.name] = numpy_type(scalar)
        return table[scalar.name]

    return remembered
