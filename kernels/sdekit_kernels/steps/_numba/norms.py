"""|s|^2 and |z|^2 of each sample on the CPU."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba import prange

from sdekit_kernels._cpu.block import load
from sdekit_kernels._cpu.jit import kernel
from sdekit_kernels.philox._block import block_call_norms, block_normals, scratch_words


# The one place where additions may be reordered: a norm needs no fixed bits, and the vector sum is
# eight times as fast. Only the step size sees it, never the noise.
@numba.njit(forceinline=True, fastmath={"reassoc"}, error_model="numpy")
def _sum_squares(v: Any, start: int, n: int) -> Any:
    part = v[start : start + n]
    total = part.dtype.type(0)
    for i in range(n):
        total += part[i] * part[i]
    return total


@numba.njit(forceinline=True, fastmath={"reassoc"}, error_model="numpy")
def _sum(v: Any, start: int, n: int) -> Any:
    part = v[start : start + n]
    total = part.dtype.type(0)
    for i in range(n):
        total += part[i]
    return total


@kernel
def norms_kernel(
    s: Any,
    bfloat: bool,
    partial: Any,
    like: Any,
    n_samples: int,
    dim: int,
    rows: int,
    cols: int,
    first: Any,
    step: Any,
    k0: Any,
    k1: Any,
) -> None:
    """partial[0, b, chunk] = sum of s^2, partial[1, b, chunk] = sum of z^2."""
    per_sample = (dim + cols - 1) // cols
    blocks = ((n_samples + rows - 1) // rows) * per_sample
    quads = (cols + 3) // 4
    for block in prange(blocks):
        r0 = (block // per_sample) * rows
        chunk = block % per_sample
        c0 = chunk * cols
        nr = min(rows, n_samples - r0)
        nc = min(cols, dim - c0)
        words = scratch_words(rows * (quads if dim >= 4 else cols))
        z = np.empty(rows * quads * 4, like.dtype)
        v = np.empty(rows * cols, like.dtype)
        load(v, s, bfloat, r0 * dim + c0, nr * nc)
        if dim % 4 == 0:
            block_call_norms(z, words, first, r0, nr, c0, nc, step, k0, k1)
            for r in range(nr):
                partial[0, r0 + r, chunk] = _sum_squares(v, r * nc, nc)
                partial[1, r0 + r, chunk] = _sum(z, r * (nc // 4), nc // 4)
        else:
            block_normals(z, words, first, r0, nr, c0, nc, dim, step, k0, k1)
            for r in range(nr):
                partial[0, r0 + r, chunk] = _sum_squares(v, r * nc, nc)
                partial[1, r0 + r, chunk] = _sum_squares(z, r * nc, nc)
