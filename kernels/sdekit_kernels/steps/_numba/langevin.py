"""The snr corrector on the CPU where a sample fits into one block: noise, norms, update at once.

The noise is made once and used twice while it lies in the first-level cache. Larger samples take
the norms in a pass of their own (``norms.py``), as the GPU does.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sdekit_kernels._cpu.block import spread, store, widened
from sdekit_kernels._cpu.jit import kernel
from sdekit_kernels._cpu.ops import fma
from sdekit_kernels._cpu.parallel import fork
from sdekit_kernels.philox._block import block_normals, scratch_words
from sdekit_kernels.steps._numba.norms import add_rows


@kernel
def langevin_kernel(
    block0: int,
    block1: int,
    x: Any,
    x_bfloat: bool,
    s: Any,
    s_bfloat: bool,
    out: Any,
    mean: Any,
    want_mean: bool,
    scale: Any,
    stride: int,
    like: Any,
    n_samples: int,
    dim: int,
    rows: int,
    first: Any,
    step: Any,
    k0: Any,
    k1: Any,
) -> None:
    """x_mean = x + eps s, x_next = x_mean + sqrt(2 eps) z, eps = scale |z|^2 / |s|^2.

    All arrays are flat; what a block stores it has made in ``ys``, so that out may be x.
    """
    room = rows * ((dim + 3) // 4) * 4
    words = scratch_words(rows * ((dim + 3) // 4 if dim >= 4 else dim))
    scratch = np.empty((6, room), like.dtype)
    z, ys, xs, ss, cb, cc = (
        scratch[0],
        scratch[1],
        scratch[2],
        scratch[3],
        scratch[4],
        scratch[5],
    )
    eps, root = np.empty(rows, like.dtype), np.empty(rows, like.dtype)
    # Squares and sums in float64: a score of 10^20 is finite in float32, its square is not.
    squares = np.empty(room)
    per_row = np.empty((3, rows))
    norm_s, norm_z, factor = per_row[0], per_row[1], per_row[2]
    for block in range(block0, block1):
        r0 = block * rows
        nr = min(rows, n_samples - r0)
        n, start = nr * dim, r0 * dim
        block_normals(z, words, first, r0, nr, 0, dim, dim, step, k0, k1)
        xb, sb = widened(xs, x, x_bfloat, start, n), widened(ss, s, s_bfloat, start, n)
        for i in range(n):
            squares[i] = np.float64(sb[i]) * np.float64(sb[i])
        add_rows(norm_s, squares, nr, dim)
        for i in range(n):
            squares[i] = np.float64(z[i]) * np.float64(z[i])
        add_rows(norm_z, squares, nr, dim)
        spread(factor, scale, stride, 0, r0, nr, 0, 1)
        for r in range(nr):
            none = norm_s[r] == 0.0
            e = factor[r] * norm_z[r] / (1.0 if none else norm_s[r])
            e = 0.0 if none else e
            eps[r] = e
            root[r] = np.sqrt(2.0 * e)
        spread(cb, eps, 1, 0, 0, nr, 0, dim)
        spread(cc, root, 1, 0, 0, nr, 0, dim)
        for i in range(n):
            ys[i] = fma(cb[i], sb[i], xb[i])
        if want_mean:
            store(mean, x_bfloat, start, ys, n)
        for i in range(n):
            ys[i] = fma(cc[i], z[i], ys[i])
        store(out, x_bfloat, start, ys, n)


@kernel
def launch_langevin(threads: int, blocks: int, *arguments: Any) -> bool:
    """``langevin_kernel`` over all blocks, on several threads."""
    return fork(langevin_kernel, threads, blocks, arguments)
