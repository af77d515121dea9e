"""What every trajectory kernel does with a block of paths, beside its step: one compiled function.

Its normals first of all: a Philox call and its two Box-Muller pairs are more machine code than the
step of most solvers. Inlined into each kernel, this module's functions took half of the time in
which one is compiled; so they are compiled once for each type, kept on disk, and called by the name
of a symbol, once a block, as OpenMP's functions are (``_cpu/parallel.py``).

Rows are moved by ``copy_row`` and ``clear_row``: slices and loops would be as much work for Numba's
front end as the rest of a kernel.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.errors import TypingError
from numba.extending import intrinsic

from sdekit_kernels._cpu.symbols import call_symbol, name_symbol, pointer_to
from sdekit_kernels.cache import generated

__all__ = ["clear_row", "copy_row", "failures_of", "normals_of"]

_HEAD = '''"""A function of all trajectory kernels, generated: do not edit."""

import numba
import numpy as np
from numba.core import types

from sdekit_kernels._cpu.jit import callback
from sdekit_kernels._cpu.ops import add_u32, float_to_bits
from sdekit_kernels.philox._numba import cos_sin_f{bits}, philox, radius_squared_f{bits}

F, WORD, WIDE = np.float{bits}, np.uint32, np.uint64
ROWS, SIZE, U32 = types.CPointer(types.float{bits}), types.intp, types.uint32

'''

_NORMALS = '''
@callback(types.void(types.voidptr, SIZE, SIZE, U32, U32, U32, U32, U32, U32))
def function(out, size, rows, place, step, base_low, base_high, k0, k1):
    """Rows 0 to 3 of ``out``, each ``size`` long: the normals of samples base, base + 1, ...

    The words lie where their normals will, as integers of the same width, in a pass of their own:
    Philox has 64-bit lanes, what follows those of the normals.
    """
    w = numba.carray(out, 4 * size, np.uint{bits})
    w0, w1 = w[:rows], w[size : size + rows]
    w2, w3 = w[2 * size : 2 * size + rows], w[3 * size : 3 * size + rows]
    base = (WIDE(base_high) << WIDE(32)) | WIDE(base_low)
    place, step, k0, k1 = WIDE(place), WIDE(step), WIDE(k0), WIDE(k1)
    for i in range(rows):
        at = {sample}
        w0[i], w1[i], w2[i], w3[i] = philox(place, step, at, at >> WIDE(32), k0, k1)
    for i in range(rows):
        r = {sign}np.sqrt(radius_squared_f{bits}(WORD(w0[i])))
        c, d = cos_sin_f{bits}(WORD(w1[i]))
        w0[i] = float_to_bits(r * c)
        w1[i] = float_to_bits(r * d)
    for i in range(rows):
        r = {sign}np.sqrt(radius_squared_f{bits}(WORD(w2[i])))
        c, d = cos_sin_f{bits}(WORD(w3[i]))
        w2[i] = float_to_bits(r * c)
        w3[i] = float_to_bits(r * d)
'''

_ALONE = {"sample": "base + WIDE(i)", "sign": ""}
_PAIRS = {
    "sample": "(base + WIDE(i)) >> WIDE(1)",
    "sign": "(F(-1.0) if add_u32(base_low, WORD(i)) & WORD(1) else F(1.0)) * ",
}
"""Of antithetic pairs: samples 2 n and 2 n + 1 have the normals of n, with opposite signs."""

_FAILURES = '''
@callback(types.void(types.CPointer(types.int64), ROWS, SIZE, SIZE, types.int64))
def function(bad, alive, rows, count, step0):
    """bad[i] = step0 + alive[i], where path i was finite for fewer than ``count`` steps."""
    first, finite = numba.carray(bad, rows), numba.carray(alive, rows)
    for i in range(rows):
        n = np.int64(finite[i])
        if n < count and first[i] < 0:
            first[i] = step0 + n
'''


def _symbol(name: str, body: str, **words: Any) -> str:
    """The name by which kernels call a function, which is compiled or read from disk for it."""
    source = (_HEAD + body).format(**words)
    compiled = generated(f"cpu_{name}", lambda: source).function
    return name_symbol(f"sdekit_{name}", compiled)


@lru_cache(maxsize=4)
def normals_of(bits: int, antithetic: bool) -> Any:
    """The intrinsic ``normals(s, at, size, rows, place, step, low, high, keys, stream)``.

    s: a flat array of float32 or float64 as ``bits`` says; from ``at`` on, the first ``rows``
    numbers of each of four rows, ``size`` long, are written. place and step: the counter's first
    two words; low and high: the number of the first sample; keys: two words for each stream.
    Kernels that use it can only be loaded after this call.
    """
    name = f"normals_f{bits}{'_pairs' if antithetic else ''}"
    symbol = _symbol(name, _NORMALS, bits=bits, **(_PAIRS if antithetic else _ALONE))

    @intrinsic
    def normals(typingctx, s, at, size, rows, place, step, low, high, keys, stream):
        word = types.uint32

        def codegen(context, builder, signature, args):
            out = pointer_to(context, builder, signature, args, 0, args[1])
            at_key = builder.shl(args[9], ir.Constant(args[9].type, 1))
            key = pointer_to(context, builder, signature, args, 8, at_key)
            other = builder.gep(key, [ir.Constant(ir.IntType(32), 1)])
            inputs = [out, *args[2:8], builder.load(key), builder.load(other)]
            call_symbol(builder, symbol, inputs)
            return context.get_dummy_value()

        sizes = (types.intp,) * 3
        return types.void(s, *sizes, word, word, word, word, keys, types.intp), codegen

    return normals


@lru_cache(maxsize=2)
def failures_of(bits: int) -> Any:
    """The intrinsic ``failures(bad, start, s, at, rows, count, step0)``.

    ``bad[start + i]`` gets step0 + s[at + i] where that number of finite steps is below count, and
    ``bad`` is still negative. Kernels that use it can only be loaded after this call.
    """
    symbol = _symbol(f"failures_f{bits}", _FAILURES, bits=bits)

    @intrinsic
    def failures(typingctx, bad, start, s, at, rows, count, step0):
        def codegen(context, builder, signature, args):
            first = pointer_to(context, builder, signature, args, 0, args[1])
            finite = pointer_to(context, builder, signature, args, 2, args[3])
            call_symbol(builder, symbol, [first, finite, *args[4:]])
            return context.get_dummy_value()

        size = types.intp
        return types.void(bad, size, s, size, size, size, types.int64), codegen

    return failures


@intrinsic
def copy_row(typingctx, target, to, source, at, n):
    """target[to : to + n] = source[at : at + n] of contiguous arrays, both read as flat ones."""
    if target.dtype != source.dtype or {target.layout, source.layout} != {"C"}:
        raise TypingError(f"copy_row takes contiguous arrays of one type, got {target}, {source}")

    def codegen(context, builder, signature, args):
        out = pointer_to(context, builder, signature, args, 0, args[1])
        given = pointer_to(context, builder, signature, args, 2, args[3])
        width = context.get_abi_sizeof(out.type.pointee)
        cgutils.raw_memcpy(builder, out, given, args[4], width)
        return context.get_dummy_value()

    return types.void(target, types.intp, source, types.intp, types.intp), codegen


@intrinsic
def clear_row(typingctx, target, to, n):
    """target[to : to + n] = 0 of a contiguous array of floats, read as a flat one."""

    def codegen(context, builder, signature, args):
        out = pointer_to(context, builder, signature, args, 0, args[1])
        width = context.get_abi_sizeof(out.type.pointee)
        size = builder.mul(args[2], ir.Constant(args[2].type, width))
        cgutils.memset(builder, out, size, 0)
        return context.get_dummy_value()

    return types.void(target, types.intp, types.intp), codegen
