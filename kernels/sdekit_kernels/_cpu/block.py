"""Moving one block of a (B, D) array into and out of the cache, whatever its type.

Kernels compute on contiguous scratch arrays of float32 or float64. float16 and bfloat16 tensors
arrive as their bits in uint16 (NumPy has no bfloat16, and Numba computes on neither), with a flag
that says which of the two they are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core import types
from numba.extending import overload

from sdekit_kernels._cpu.jit import inline
from sdekit_kernels._cpu.ops import (
    add_u32,
    and_u32,
    bits_to_float,
    float_to_bits,
    float_to_half,
    half_to_float,
    shl_u32,
    shr_u32,
)

_16 = np.uint32(16)
_ONE = np.uint32(1)
_ROUND = np.uint32(0x7FFF)
_QUIET = np.uint32(0x7FC0)


@inline
def _bfloat_to_float(bits: Any) -> Any:
    return bits_to_float(shl_u32(np.uint32(bits), _16))


@inline
def _float_to_bfloat(value: Any) -> Any:
    """Round to nearest, ties to even: add half a unit, and one more where the kept bit is odd."""
    bits = float_to_bits(value)
    odd = and_u32(shr_u32(bits, _16), _ONE)
    rounded = shr_u32(add_u32(add_u32(bits, _ROUND), odd), _16)
    return np.uint16(_QUIET if value != value else rounded)


def load(block: Any, source: Any, bfloat: bool, start: int, n: int) -> None:
    """block[:n] = source[start : start + n], widened (``source`` is flat)."""
    raise NotImplementedError("runs inside Numba kernels only")


def store(target: Any, bfloat: bool, start: int, block: Any, n: int) -> None:
    """target[start : start + n] = block[:n], rounded to nearest (``target`` is flat)."""
    raise NotImplementedError("runs inside Numba kernels only")


@overload(load, jit_options={"forceinline": True})
def _load(block, source, bfloat, start, n):
    if source.dtype == types.uint16:

        def halves(block, source, bfloat, start, n):
            part = source[start : start + n]
            if bfloat:
                for i in range(n):
                    block[i] = _bfloat_to_float(part[i])
            else:
                for i in range(n):
                    block[i] = half_to_float(part[i])

        return halves

    def native(block, source, bfloat, start, n):
        part = source[start : start + n]
        for i in range(n):
            block[i] = part[i]

    return native


@overload(store, jit_options={"forceinline": True})
def _store(target, bfloat, start, block, n):
    if target.dtype == types.uint16:

        def halves(target, bfloat, start, block, n):
            part = target[start : start + n]
            if bfloat:
                for i in range(n):
                    part[i] = _float_to_bfloat(block[i])
            else:
                for i in range(n):
                    part[i] = float_to_half(block[i])

        return halves

    def native(target, bfloat, start, block, n):
        part = target[start : start + n]
        for i in range(n):
            part[i] = block[i]

    return native


def widened(block: Any, source: Any, bfloat: bool, start: int, n: int) -> Any:
    """source[start : start + n] where it lies, or in ``block`` where it must be widened first."""
    raise NotImplementedError("runs inside Numba kernels only")


@overload(widened, jit_options={"forceinline": True})
def _widened(block, source, bfloat, start, n):
    if source.dtype != block.dtype:

        def moved(block, source, bfloat, start, n):
            load(block, source, bfloat, start, n)
            return block[:n]

        return moved
    return lambda block, source, bfloat, start, n: source[start : start + n]


@inline
def spread(
    block: Any, coef: Any, stride_b: int, stride_d: int, r0: int, rows: int, c0: int, cols: int
) -> None:
    """block[:rows * cols] = a coefficient, one entry an element.

    ``coef`` is flat; its entry for (sample b, component d) stands at b stride_b + d stride_d, so
    that both strides are 0 for one number; stride_d is 0 for one number a sample, and else 1.
    """
    if stride_b == 0 and stride_d == 0:
        value = coef[0]
        for i in range(rows * cols):
            block[i] = value
    elif cols == 1:
        for r in range(rows):
            block[r] = coef[(r0 + r) * stride_b + c0 * stride_d]
    elif stride_d == 0:
        for r in range(rows):
            part, value = block[r * cols : (r + 1) * cols], coef[(r0 + r) * stride_b]
            for c in range(cols):
                part[c] = value
    else:
        # By a stride that the compiler does not know, each entry would be read by itself.
        for r in range(rows):
            part = block[r * cols : (r + 1) * cols]
            base = (r0 + r) * stride_b + c0
            given = coef[base : base + cols]
            for c in range(cols):
                part[c] = given[c]
