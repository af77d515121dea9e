"""One block of normals on the CPU: counters, words, Box-Muller, in the order of the array.

A block is ``rows`` whole samples, or a run of ``cols`` components of one sample; the noise of a
block is written as the flat array of its elements. Every kernel of a step that needs noise calls
``block_normals`` (or ``block_call_norms``), so the layout of DESIGN ("which counter, which lane")
stands here once for the CPU's steps.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numba
import numpy as np
from numba.core import cgutils, types
from numba.extending import intrinsic, overload

from sdekit_kernels._cpu.jit import callback, inline
from sdekit_kernels._cpu.ops import add_u32, f32_to_u32, mullo_u32, sub_u32, u32_to_f32
from sdekit_kernels._cpu.symbols import call_symbol, name_symbol
from sdekit_kernels.philox._numba import (
    cos_sin_f32,
    cos_sin_f64,
    philox,
    radius_squared_f32,
    radius_squared_f64,
    radius_squared_sum_f32,
    radius_squared_sum_f64,
)

_32 = np.uint64(32)


def radius_squared(w: Any, like: Any) -> Any:
    """-2 ln u in the type of ``like``."""
    raise NotImplementedError("runs inside Numba kernels only")


def radius_squared_sum(w: Any, v: Any, like: Any) -> Any:
    """-2 ln u(w) - 2 ln u(v) in the type of ``like``."""
    raise NotImplementedError("runs inside Numba kernels only")


def cos_sin(w: Any, like: Any) -> Any:
    """Cosine and sine of the word's angle in the type of ``like``."""
    raise NotImplementedError("runs inside Numba kernels only")


@overload(radius_squared, jit_options={"forceinline": True})
def _radius_squared(w, like):
    if like == types.float32:
        return lambda w, like: radius_squared_f32(w)
    return lambda w, like: radius_squared_f64(w)


@overload(radius_squared_sum, jit_options={"forceinline": True})
def _radius_squared_sum(w, v, like):
    if like == types.float32:
        return lambda w, v, like: radius_squared_sum_f32(w, v)
    return lambda w, v, like: radius_squared_sum_f64(w, v)


@overload(cos_sin, jit_options={"forceinline": True})
def _cos_sin(w, like):
    if like == types.float32:
        return lambda w, like: cos_sin_f32(w)
    return lambda w, like: cos_sin_f64(w)


@inline
def scratch_words(items: int) -> Any:
    """Room for the four words of each Philox call of a block."""
    return np.empty((4, items), np.uint32)


@inline
def block_words(
    words: Any, first: Any, r0: int, rows: int, c0: int, per_row: int, c1: Any, k0: Any, k1: Any
) -> None:
    """Four words for each of ``rows * per_row`` counters (c0 + j, c1, sample low, sample high).

    One flat loop, so that short rows vectorize as long ones do. Row and place in the row are laid
    into the words' own room before it: they come from a multiplication in float32, exact as long as
    a block has fewer than 2^22 calls, and Philox has 64-bit lanes.
    """
    sample, step = first + np.uint64(r0), np.uint64(c1)
    key0, key1 = np.uint64(k0), np.uint64(k1)
    first_call, width = np.uint32(c0), np.uint32(per_row)
    inverse = np.float32(1.0) / np.float32(per_row)
    count = rows * per_row
    w0, w1, w2, w3 = words[0][:count], words[1][:count], words[2][:count], words[3][:count]
    for i in range(count):
        k = np.uint32(i)
        row = f32_to_u32((u32_to_f32(k) + np.float32(0.5)) * inverse)
        w0[i] = add_u32(first_call, sub_u32(k, mullo_u32(row, width)))
        w1[i] = row
    for i in range(count):
        at = sample + np.uint64(w1[i])
        a, b, c, d = philox(np.uint64(w0[i]), step, at, at >> _32, key0, key1)
        w0[i] = a
        w1[i] = b
        w2[i] = c
        w3[i] = d


@inline
def _word_pair(
    radius: Any, angle: Any, upper: bool, sample: Any, place: Any, c1: Any, k0: Any, k1: Any
) -> None:
    """Words 0 and 1, or 2 and 3 (``upper``), of (place, c1, sample + i low, sample + i high)."""
    for i in range(len(radius)):
        at = sample + np.uint64(i)
        a, b, c, d = philox(place, c1, at, at >> _32, k0, k1)
        radius[i] = c if upper else a
        angle[i] = d if upper else b


@inline
def _interleave(out: Any, planes: Any, rows: int, cols: int) -> None:
    """out[r cols + j] = planes[j rows + r], for two or three columns."""
    first, second = planes[:rows], planes[rows : 2 * rows]
    if cols == 2:
        for r in range(rows):
            out[2 * r] = first[r]
            out[2 * r + 1] = second[r]
    else:
        third = planes[2 * rows : 3 * rows]
        for r in range(rows):
            out[3 * r] = first[r]
            out[3 * r + 1] = second[r]
            out[3 * r + 2] = third[r]


@inline
def block_word_pairs(
    words: Any,
    upper: bool,
    first: Any,
    r0: int,
    rows: int,
    cols: int,
    c1: Any,
    k0: Any,
    k1: Any,
) -> None:
    """Words 0 and 1, or 2 and 3 (``upper``), of counters (j < cols, c1, sample low, sample high).

    What a step of D < 4 components needs: half the stores of ``block_words``, and LLVM drops the
    products of the last round that lead to the other pair. In words[0] and words[1], in the order
    of the array; component by component before, where all but the sample is the same.
    """
    sample, step = first + np.uint64(r0), np.uint64(c1)
    key0, key1 = np.uint64(k0), np.uint64(k1)
    to = 0 if cols == 1 else 2
    for j in range(cols):
        start, end = j * rows, (j + 1) * rows
        radius, angle = words[to][start:end], words[to + 1][start:end]
        _word_pair(radius, angle, upper, sample, np.uint64(j), step, key0, key1)
    if cols > 1:
        _interleave(words[0], words[2], rows, cols)
        _interleave(words[1], words[3], rows, cols)


@inline
def _normals(
    z: Any,
    words: Any,
    first: Any,
    r0: int,
    rows: int,
    c0: int,
    cols: int,
    dim: int,
    step: Any,
    k0: Any,
    k1: Any,
) -> None:
    """What ``block_normals`` does, on two arrays."""
    like = z.dtype.type(0)
    if dim >= 4:
        quads = (cols + 3) // 4
        block_words(words, first, r0, rows, c0 // 4, quads, step, k0, k1)
        w0, w1, w2, w3 = words[0], words[1], words[2], words[3]
        for i in range(rows * quads):
            r = np.sqrt(radius_squared(w0[i], like))
            x, y = cos_sin(w1[i], like)
            z[4 * i] = r * x
            z[4 * i + 1] = r * y
            r = np.sqrt(radius_squared(w2[i], like))
            x, y = cos_sin(w3[i], like)
            z[4 * i + 2] = r * x
            z[4 * i + 3] = r * y
        if cols != 4 * quads:
            # Close the gaps that the unused lanes of each row's last call leave, left to right.
            for r in range(1, rows):
                for c in range(cols):
                    z[r * cols + c] = z[r * 4 * quads + c]
    else:
        lane = step & np.uint32(3)
        call = np.uint32(step >> np.uint32(2))
        # Two calls with constants where one would do: the compiler makes a loop for each.
        if lane >= np.uint32(2):
            block_word_pairs(words, True, first, r0, rows, cols, call, k0, k1)
        else:
            block_word_pairs(words, False, first, r0, rows, cols, call, k0, k1)
        wr, wa = words[0], words[1]
        if lane & np.uint32(1):
            for i in range(rows * cols):
                x, y = cos_sin(wa[i], like)
                z[i] = np.sqrt(radius_squared(wr[i], like)) * y
        else:
            for i in range(rows * cols):
                x, y = cos_sin(wa[i], like)
                z[i] = np.sqrt(radius_squared(wr[i], like)) * x


def _signature(dtype: Any) -> Any:
    """z and words as pointers with a length each, then ``block_normals``' other arguments."""
    arrays = (types.CPointer(dtype), types.intp, types.CPointer(types.uint32), types.intp)
    return types.void(*arrays, types.uint64, *(types.intp,) * 5, *(types.uint32,) * 3)


def _block(z, room, words, items, first, r0, rows, c0, cols, dim, step, k0, k1):
    out, calls = numba.carray(z, room), numba.carray(words, (4, items))
    _normals(out, calls, first, r0, rows, c0, cols, dim, step, k0, k1)


@lru_cache(maxsize=2)
def block_symbol(bits: int) -> str:
    """The name by which kernels call the function for float32 or float64, compiled or read for it.

    A kernel that was kept on disk can only be loaded after this call: who launches one makes it.
    """
    function = callback(_signature(types.float32 if bits == 32 else types.float64))(_block)
    return name_symbol(f"sdekit_block_f{bits}", function)


def ready(like: Any) -> Any:
    """``like`` itself, whose type a kernel computes in: asked before the kernel is loaded."""
    block_symbol(8 * like.itemsize)
    return like


@intrinsic
def block_normals(typingctx, z, words, first, r0, rows, c0, cols, dim, step, k0, k1):
    """z[: rows * cols] = the normals of samples r0.. and components c0.. at one step.

    ``first`` is the number of the array's first sample (uint64); c0 is a multiple of 4.
    ``z`` has room for rows * 4 ceil(cols / 4) entries, ``words`` is from ``scratch_words``. Both
    are contiguous.
    """

    def codegen(context, builder, signature, args):
        inputs = []
        for which in (0, 1):
            array = context.make_array(signature.args[which])(context, builder, args[which])
            inputs += [array.data, cgutils.unpack_tuple(builder, array.shape)[-1]]
        call_symbol(builder, block_symbol(z.dtype.bitwidth), [*inputs, *args[2:]])
        return context.get_dummy_value()

    word, size = types.uint32, types.intp
    given = (types.uint64, size, size, size, size, size, word, word, word)
    return types.void(z, words, *given), codegen


@inline
def block_call_norms(
    norms: Any,
    words: Any,
    first: Any,
    r0: int,
    rows: int,
    c0: int,
    cols: int,
    step: Any,
    k0: Any,
    k1: Any,
) -> None:
    """norms[: rows * cols / 4] = z0^2 + z1^2 + z2^2 + z3^2 of each Philox call; cols % 4 == 0.

    r^2 cos^2 + r^2 sin^2 = r^2 = -2 ln u: four components cost one logarithm, of the product of
    their two u, and no sine.
    """
    like = norms.dtype.type(0)
    block_words(words, first, r0, rows, c0 // 4, cols // 4, step, k0, k1)
    w0, w2 = words[0], words[2]
    for i in range(rows * (cols // 4)):
        norms[i] = radius_squared_sum(w0[i], w2[i], like)
