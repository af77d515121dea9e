"""Machine operations that Numba's own typing rules would widen.

Numba types ``uint32 + uint32`` as ``uint64``, and one 64-bit integer in a loop halves the number of
lanes that LLVM can use. Each intrinsic here is one LLVM instruction on exactly the type it is
given. ``fma`` is always one rounding: LLVM may not split it, nor fuse anything else, as long as
fast-math flags stay off.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.errors import TypingError
from numba.extending import intrinsic

__all__ = [
    "add_u32",
    "and_u32",
    "bits_to_float",
    "f32_to_u32",
    "f64_to_u32",
    "float_to_bits",
    "float_to_half",
    "fma",
    "half_to_float",
    "i32_to_f32",
    "i32_to_f64",
    "mullo_u32",
    "nearbyint",
    "not_u32",
    "sar_u32",
    "shl_u32",
    "shr_u32",
    "sub_u32",
    "trunc",
    "u32_to_f32",
    "u32_to_f64",
    "xor_u32",
]


def _u32_binary(name: str, build: Callable[[Any, Any, Any], Any]) -> Any:
    def op(typingctx: Any, a: Any, b: Any) -> Any:
        if a != types.uint32 or b != types.uint32:
            raise TypingError(f"{name} takes two uint32, got {a} and {b}")

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return build(builder, args[0], args[1])

        return types.uint32(types.uint32, types.uint32), codegen

    op.__name__ = name
    return intrinsic(op)


add_u32 = _u32_binary("add_u32", lambda b, x, y: b.add(x, y))
sub_u32 = _u32_binary("sub_u32", lambda b, x, y: b.sub(x, y))
mullo_u32 = _u32_binary("mullo_u32", lambda b, x, y: b.mul(x, y))
xor_u32 = _u32_binary("xor_u32", lambda b, x, y: b.xor(x, y))
and_u32 = _u32_binary("and_u32", lambda b, x, y: b.and_(x, y))
shl_u32 = _u32_binary("shl_u32", lambda b, x, y: b.shl(x, y))
shr_u32 = _u32_binary("shr_u32", lambda b, x, y: b.lshr(x, y))
sar_u32 = _u32_binary("sar_u32", lambda b, x, y: b.ashr(x, y))
"""Shift right, copying the top bit: the sign of the same bits read as int32."""


@intrinsic
def not_u32(typingctx, a):
    """All 32 bits flipped."""
    return types.uint32(types.uint32), lambda ctx, builder, sig, args: builder.not_(args[0])


@intrinsic
def fma(typingctx, a, b, c):
    """a b + c with one rounding, in float32 or float64."""
    if not (a == b == c) or a not in (types.float32, types.float64):
        raise TypingError(f"fma takes three floats of one type, got {a}, {b}, {c}")

    def codegen(context, builder, sig, args):
        return builder.fma(*args)

    return a(a, a, a), codegen


@intrinsic
def u32_to_f32(typingctx, a):
    """Nearest float32 of an unsigned integer."""

    def codegen(context, builder, sig, args):
        return builder.uitofp(args[0], ir.FloatType())

    return types.float32(types.uint32), codegen


@intrinsic
def i32_to_f32(typingctx, a):
    """Nearest float32 of 32 bits read as a signed integer."""

    def codegen(context, builder, sig, args):
        return builder.sitofp(args[0], ir.FloatType())

    return types.float32(types.uint32), codegen


@intrinsic
def f32_to_u32(typingctx, a):
    """Integer part of a float32 in (-2^31, 2^31), negative ones as their two's complement."""

    def codegen(context, builder, sig, args):
        return builder.fptosi(args[0], ir.IntType(32))

    return types.uint32(types.float32), codegen


@intrinsic
def f64_to_u32(typingctx, a):
    """Integer part of a float64 in (-2^31, 2^31), negative ones as their two's complement."""

    def codegen(context, builder, sig, args):
        return builder.fptosi(args[0], ir.IntType(32))

    return types.uint32(types.float64), codegen


@intrinsic
def u32_to_f64(typingctx, a):
    """Exact float64 of an unsigned integer."""

    def codegen(context, builder, sig, args):
        return builder.uitofp(args[0], ir.DoubleType())

    return types.float64(types.uint32), codegen


@intrinsic
def i32_to_f64(typingctx, a):
    """Exact float64 of 32 bits read as a signed integer."""

    def codegen(context, builder, sig, args):
        return builder.sitofp(args[0], ir.DoubleType())

    return types.float64(types.uint32), codegen


@intrinsic
def float_to_bits(typingctx, a):
    """The bits of a float: float32 as uint32, float64 as uint64."""
    bits = types.uint32 if a == types.float32 else types.uint64
    width = 32 if a == types.float32 else 64

    def codegen(context, builder, sig, args):
        return builder.bitcast(args[0], ir.IntType(width))

    return bits(a), codegen


@intrinsic
def bits_to_float(typingctx, a):
    """The float of these bits: uint32 as float32, uint64 as float64."""
    result = types.float32 if a == types.uint32 else types.float64

    def codegen(context, builder, sig, args):
        llvm = ir.FloatType() if a == types.uint32 else ir.DoubleType()
        return builder.bitcast(args[0], llvm)

    return result(a), codegen


@intrinsic
def half_to_float(typingctx, a):
    """float32 of the float16 whose bits are given (exact)."""

    def codegen(context, builder, sig, args):
        half = builder.bitcast(args[0], ir.HalfType())
        return builder.fpext(half, ir.FloatType())

    return types.float32(types.uint16), codegen


@intrinsic
def float_to_half(typingctx, a):
    """Bits of the float16 nearest to a float32 (ties to even)."""

    def codegen(context, builder, sig, args):
        half = builder.fptrunc(args[0], ir.HalfType())
        return builder.bitcast(half, ir.IntType(16))

    return types.uint16(types.float32), codegen


def _rounding(name: str) -> Any:
    def op(typingctx: Any, a: Any) -> Any:
        if a not in (types.float32, types.float64):
            raise TypingError(f"{name} takes a float, got {a}")

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            kind = args[0].type
            function = builder.module.declare_intrinsic(f"llvm.{name}", [kind])
            return builder.call(function, args)

        return a(a), codegen

    op.__name__ = name
    return intrinsic(op)


trunc = _rounding("trunc")
nearbyint = _rounding("nearbyint")
"""To the nearest integer, ties to even."""
