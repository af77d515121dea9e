"""x_mean = a x + b s and x_next = x_mean + C z on the CPU, one pass through memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from sdekit_kernels._cpu.block import load, spread, store
from sdekit_kernels._cpu.jit import kernel
from sdekit_kernels._cpu.ops import fma
from sdekit_kernels._cpu.parallel import fork
from sdekit_kernels.philox._block import block_normals, scratch_words


@kernel
def affine_kernel(
    block0: int,
    block1: int,
    x: Any,
    x_bfloat: bool,
    s: Any,
    s_bfloat: bool,
    out: Any,
    mean: Any,
    want_mean: bool,
    a: Any,
    a_stride_b: int,
    a_stride_d: int,
    b: Any,
    b_stride_b: int,
    b_stride_d: int,
    c: Any,
    c_stride_b: int,
    c_stride_d: int,
    root: bool,
    noisy: bool,
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
    """All arrays are flat; each block is loaded whole before it is stored, so out may be x.

    Without ``noisy`` C is zero, and no noise is made (x + 0 z = x, z is finite).
    """
    per_sample = (dim + cols - 1) // cols
    room = rows * ((cols + 3) // 4) * 4
    for block in range(block0, block1):
        r0 = (block // per_sample) * rows
        c0 = (block % per_sample) * cols
        nr = min(rows, n_samples - r0)
        nc = min(cols, dim - c0)
        n, start = nr * nc, r0 * dim + c0
        words = scratch_words(rows * ((cols + 3) // 4 if dim >= 4 else cols))
        scratch = np.empty((6, room), like.dtype)
        z, xs, ss, ca, cb, cc = (
            scratch[0],
            scratch[1],
            scratch[2],
            scratch[3],
            scratch[4],
            scratch[5],
        )
        if noisy:
            block_normals(z, words, first, r0, nr, c0, nc, dim, step, k0, k1)
        load(xs, x, x_bfloat, start, n)
        load(ss, s, s_bfloat, start, n)
        spread(ca, a, a_stride_b, a_stride_d, r0, nr, c0, nc)
        spread(cb, b, b_stride_b, b_stride_d, r0, nr, c0, nc)
        spread(cc, c, c_stride_b, c_stride_d, r0, nr, c0, nc)
        if root:
            for i in range(n):
                cc[i] = cc[i] * np.sqrt(abs(cb[i]))
        for i in range(n):
            xs[i] = fma(cb[i], ss[i], ca[i] * xs[i])
        if want_mean:
            store(mean, x_bfloat, start, xs, n)
        if noisy:
            for i in range(n):
                xs[i] = fma(cc[i], z[i], xs[i])
        store(out, x_bfloat, start, xs, n)


@kernel
def launch_affine(threads: int, blocks: int, *arguments: Any) -> bool:
    """``affine_kernel`` over all blocks, on several threads."""
    return fork(affine_kernel, threads, blocks, arguments)
