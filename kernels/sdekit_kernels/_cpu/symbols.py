"""Calls of a compiled function by the name of a symbol, and what they are given of an array.

A function that several kernels share is compiled once (``jit.callback``) and named to LLVM before
any kernel that calls it is loaded. Inlined into each of them it would be compiled as often.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba.core import cgutils

__all__ = ["call_symbol", "name_symbol", "pointer_to"]

_KEPT: list[Any] = []
"""Compiled functions live as long as somebody holds them."""


def name_symbol(symbol: str, function: Any) -> str:
    """Give a compiled function the name by which kernels call it; the name."""
    llvmlite.binding.add_symbol(symbol, function.address)
    _KEPT.append(function)
    return symbol


def pointer_to(context: Any, builder: Any, signature: Any, args: Any, which: int, at: Any) -> Any:
    """The address of entry ``at`` of an argument, an array."""
    array = context.make_array(signature.args[which])(context, builder, value=args[which])
    return builder.gep(array.data, [at])


def call_symbol(builder: Any, symbol: str, inputs: list[Any]) -> None:
    """Emit a call of the function of this name, which returns nothing."""
    called = ir.FunctionType(ir.VoidType(), [value.type for value in inputs])
    builder.call(cgutils.get_or_insert_function(builder.module, called, symbol), inputs)
