"""One block of normals on the CPU: counters, words, Box-Muller, in the order of the array.

A block is ``rows`` whole samples, or a run of ``cols`` components of one sample; the noise of a
block is written as the flat array of its elements. Every kernel that needs noise calls
``block_normals`` (or ``block_radii``), so the layout of DESIGN ("which counter, which lane") stands
here once for the CPU.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core import types
from numba.extending import overload

from sdekit_kernels._cpu.jit import inline
from sdekit_kernels._cpu.ops import add_u32, f32_to_u32, mullo_u32, sub_u32, u32_to_f32
from sdekit_kernels.philox._numba import (
    cos_sin_f32,
    cos_sin_f64,
    philox,
    radius_squared_f32,
    radius_squared_f64,
    radius_squared_sum_f32,
    radius_squared_sum_f64,
)


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

    One flat loop, so that short rows vectorize as long ones do: row and place in the row come from
    a multiplication in float32, exact as long as a block has fewer than 2^22 calls.
    """
    sample = first + np.uint64(r0)
    base_low = np.uint32(sample & np.uint64(0xFFFFFFFF))
    base_high = np.uint32(sample >> np.uint64(32))
    first_call, width = np.uint32(c0), np.uint32(per_row)
    inverse = np.float32(1.0) / np.float32(per_row)
    w0, w1, w2, w3 = words[0], words[1], words[2], words[3]
    if per_row == 1:  # one call a row: nothing to divide
        for i in range(rows):
            low = add_u32(base_low, np.uint32(i))
            high = add_u32(base_high, np.uint32(1)) if low < base_low else base_high
            a, b, c, d = philox(first_call, c1, low, high, k0, k1)
            w0[i] = a
            w1[i] = b
            w2[i] = c
            w3[i] = d
        return
    for i in range(rows * per_row):
        k = np.uint32(i)
        row = f32_to_u32((u32_to_f32(k) + np.float32(0.5)) * inverse)
        place = add_u32(first_call, sub_u32(k, mullo_u32(row, width)))
        low = add_u32(base_low, row)
        high = add_u32(base_high, np.uint32(1)) if low < base_low else base_high
        a, b, c, d = philox(place, c1, low, high, k0, k1)
        w0[i] = a
        w1[i] = b
        w2[i] = c
        w3[i] = d


@inline
def block_word_pair(
    words: Any,
    upper: bool,
    first: Any,
    r0: int,
    rows: int,
    width: int,
    c1: Any,
    k0: Any,
    k1: Any,
) -> None:
    """Words 0 and 1, or 2 and 3 (``upper``), of counters (j < width, c1, sample low, sample high).

    What a step of D < 4 components needs: half the stores of ``block_words``, and LLVM drops the
    products of the last round that lead to the other pair.
    """
    sample = first + np.uint64(r0)
    base_low = np.uint32(sample & np.uint64(0xFFFFFFFF))
    base_high = np.uint32(sample >> np.uint64(32))
    inverse = np.float32(1.0) / np.float32(width)
    radius, angle = words[0], words[1]
    if width == 1:
        for i in range(rows):
            low = add_u32(base_low, np.uint32(i))
            high = add_u32(base_high, np.uint32(1)) if low < base_low else base_high
            a, b, c, d = philox(np.uint32(0), c1, low, high, k0, k1)
            radius[i] = c if upper else a
            angle[i] = d if upper else b
        return
    for i in range(rows * width):
        k = np.uint32(i)
        row = f32_to_u32((u32_to_f32(k) + np.float32(0.5)) * inverse)
        place = sub_u32(k, mullo_u32(row, np.uint32(width)))
        low = add_u32(base_low, row)
        high = add_u32(base_high, np.uint32(1)) if low < base_low else base_high
        a, b, c, d = philox(place, c1, low, high, k0, k1)
        radius[i] = c if upper else a
        angle[i] = d if upper else b


@inline
def block_normals(
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
    """z[: rows * cols] = the normals of samples r0.. and components c0.. at one step.

    ``first`` is the number of the array's first sample (uint64); c0 is a multiple of 4.
    ``z`` has room for rows * 4 ceil(cols / 4) entries.
    """
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
            block_word_pair(words, True, first, r0, rows, cols, call, k0, k1)
        else:
            block_word_pair(words, False, first, r0, rows, cols, call, k0, k1)
        wr, wa = words[0], words[1]
        if lane & np.uint32(1):
            for i in range(rows * cols):
                x, y = cos_sin(wa[i], like)
                z[i] = np.sqrt(radius_squared(wr[i], like)) * y
        else:
            for i in range(rows * cols):
                x, y = cos_sin(wa[i], like)
                z[i] = np.sqrt(radius_squared(wr[i], like)) * x


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
