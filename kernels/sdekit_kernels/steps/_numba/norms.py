"""|s|^2 and |z|^2 of each sample on the CPU."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from sdekit_kernels._cpu.block import widened
from sdekit_kernels._cpu.jit import inline, kernel
from sdekit_kernels._cpu.parallel import fork
from sdekit_kernels.philox._block import block_call_norms, block_normals, scratch_words

_LONG = 32
"""Shortest row whose sum is vectorized along the row."""


# The one place where additions may be reordered: a norm needs no fixed bits, and the vector sum is
# eight times as fast. Only the step size sees it, never the noise.
@numba.njit(forceinline=True, fastmath={"reassoc"}, error_model="numpy")
def _sum(v: Any, start: int, n: int) -> Any:
    part = v[start : start + n]
    total = part.dtype.type(0)
    for i in range(n):
        total += part[i]
    return total


@inline
def add_rows(total: Any, v: Any, rows: int, cols: int) -> None:
    """total[r] = sum over row r of v, rows of ``cols`` entries one after the other."""
    if cols >= _LONG:
        for r in range(rows):
            total[r] = _sum(v, r * cols, cols)
    elif cols == 1:
        for r in range(rows):
            total[r] = v[r]
    else:
        # Short rows: setting up a vector loop for each would cost more than the sum.
        for r in range(rows):
            start = r * cols
            row = v[start]
            for c in range(1, cols):
                row += v[start + c]
            total[r] = row


@kernel
def norms_kernel(
    block0: int,
    block1: int,
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
    quads = (cols + 3) // 4
    words = scratch_words(rows * (quads if dim >= 4 else cols))
    z, wide = np.empty(rows * quads * 4, like.dtype), np.empty(rows * cols, like.dtype)
    squares = np.empty(rows * cols)
    for block in range(block0, block1):
        r0 = (block // per_sample) * rows
        chunk = block % per_sample
        c0 = chunk * cols
        nr = min(rows, n_samples - r0)
        nc = min(cols, dim - c0)
        v = widened(wide, s, bfloat, r0 * dim + c0, nr * nc)
        # In float64: a score of 10^20 is finite in float32, its square is not.
        for i in range(nr * nc):
            squares[i] = np.float64(v[i]) * np.float64(v[i])
        add_rows(partial[0, r0 : r0 + nr, chunk], squares, nr, nc)
        if dim % 4 == 0:
            block_call_norms(z, words, first, r0, nr, c0, nc, step, k0, k1)
            add_rows(partial[1, r0 : r0 + nr, chunk], z, nr, nc // 4)
        else:
            block_normals(z, words, first, r0, nr, c0, nc, dim, step, k0, k1)
            for i in range(nr * nc):
                z[i] = z[i] * z[i]
            add_rows(partial[1, r0 : r0 + nr, chunk], z, nr, nc)


@kernel
def step_size_kernel(
    block0: int, block1: int, partial: Any, scale: Any, stride: int, eps: Any, root: Any
) -> None:
    """eps = scale |z|^2 / |s|^2 (0 where |s| = 0) and root = sqrt(2 eps), one a sample."""
    for b in range(block0, block1):
        ss, zz = partial[0, b, 0], partial[1, b, 0]
        for c in range(1, partial.shape[2]):
            ss += partial[0, b, c]
            zz += partial[1, b, c]
        e = 0.0 if ss == 0.0 else scale[b * stride] * zz / ss
        eps[b] = e
        root[b] = np.sqrt(2.0 * e)


@kernel
def launch_norms(threads: int, blocks: int, *arguments: Any) -> bool:
    """``norms_kernel`` over all blocks, on several threads."""
    return fork(norms_kernel, threads, blocks, arguments)


@kernel
def launch_step_size(threads: int, blocks: int, *arguments: Any) -> bool:
    """``step_size_kernel`` over all blocks, on several threads."""
    return fork(step_size_kernel, threads, blocks, arguments)
