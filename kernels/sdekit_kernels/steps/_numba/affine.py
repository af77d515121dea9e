"""x_mean = a x + b s and x_next = x_mean + C z on the CPU, one pass through memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from sdekit_kernels._cpu.block import spread, store, widened
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
    """All arrays are flat; what a block stores it has made in ``ys``, so that out may be x.

    Without ``noisy`` C is zero, and no noise is made (x + 0 z = x, z is finite).
    """
    per_sample = (dim + cols - 1) // cols
    room = rows * ((cols + 3) // 4) * 4
    words = scratch_words(rows * ((cols + 3) // 4 if dim >= 4 else cols))
    scratch = np.empty((7, room), like.dtype)
    z, ys, xs, ss = scratch[0], scratch[1], scratch[2], scratch[3]
    ca, cb, cc = scratch[4], scratch[5], scratch[6]
    numbers = a_stride_b + a_stride_d + b_stride_b + b_stride_d + c_stride_b + c_stride_d == 0
    for block in range(block0, block1):
        r0 = (block // per_sample) * rows
        c0 = (block % per_sample) * cols
        nr = min(rows, n_samples - r0)
        nc = min(cols, dim - c0)
        n, start = nr * nc, r0 * dim + c0
        if noisy:
            block_normals(z, words, first, r0, nr, c0, nc, dim, step, k0, k1)
        xb, sb = widened(xs, x, x_bfloat, start, n), widened(ss, s, s_bfloat, start, n)
        if numbers:
            # Three numbers need no arrays of their own, and the root is taken once.
            av, bv, cv = a[0], b[0], c[0]
            cv = cv * np.sqrt(abs(bv)) if root else cv
            for i in range(n):
                ys[i] = fma(bv, sb[i], av * xb[i])
            if want_mean:
                store(mean, x_bfloat, start, ys, n)
            if noisy:
                for i in range(n):
                    ys[i] = fma(cv, z[i], ys[i])
        else:
            spread(ca, a, a_stride_b, a_stride_d, r0, nr, c0, nc)
            spread(cb, b, b_stride_b, b_stride_d, r0, nr, c0, nc)
            spread(cc, c, c_stride_b, c_stride_d, r0, nr, c0, nc)
            if root:
                for i in range(n):
                    cc[i] = cc[i] * np.sqrt(abs(cb[i]))
            for i in range(n):
                ys[i] = fma(cb[i], sb[i], ca[i] * xb[i])
            if want_mean:
                store(mean, x_bfloat, start, ys, n)
            if noisy:
                for i in range(n):
                    ys[i] = fma(cc[i], z[i], ys[i])
        store(out, x_bfloat, start, ys, n)


@kernel
def launch_affine(threads: int, blocks: int, *arguments: Any) -> bool:
    """``affine_kernel`` over all blocks, on several threads."""
    return fork(affine_kernel, threads, blocks, arguments)
