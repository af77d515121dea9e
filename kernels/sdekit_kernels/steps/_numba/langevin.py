"""The snr corrector on the CPU where a sample fits into one block: noise, norms, update at once.

The noise is made once and used twice while it lies in the first-level cache. Larger samples take
the norms in a pass of their own (``norms.py``), as the GPU does.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sdekit_kernels._cpu.block import load, spread, store
from sdekit_kernels._cpu.jit import kernel
from sdekit_kernels._cpu.ops import fma
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

    All arrays are flat; each block is loaded whole before it is stored, so out may be x.
    """
    room = rows * ((dim + 3) // 4) * 4
    for block in range(block0, block1):
        r0 = block * rows
        nr = min(rows, n_samples - r0)
        n, start = nr * dim, r0 * dim
        words = scratch_words(rows * ((dim + 3) // 4 if dim >= 4 else dim))
        scratch = np.empty((5, room), like.dtype)
        z, xs, ss, cb, cc = scratch[0], scratch[1], scratch[2], scratch[3], scratch[4]
        per_row = np.empty((4, rows), like.dtype)
        eps, root, norm_s, norm_z = per_row[0], per_row[1], per_row[2], per_row[3]
        block_normals(z, words, first, r0, nr, 0, dim, dim, step, k0, k1)
        load(xs, x, x_bfloat, start, n)
        load(ss, s, s_bfloat, start, n)
        for i in range(n):
            cb[i] = ss[i] * ss[i]
            cc[i] = z[i] * z[i]
        add_rows(norm_s, cb, nr, dim)
        add_rows(norm_z, cc, nr, dim)
        for r in range(nr):
            none = norm_s[r] == 0.0
            e = scale[(r0 + r) * stride] * norm_z[r] / (like.dtype.type(1) if none else norm_s[r])
            eps[r] = like.dtype.type(0) if none else e
            root[r] = np.sqrt(eps[r] + eps[r])
        spread(cb, eps, 1, 0, 0, nr, 0, dim)
        spread(cc, root, 1, 0, 0, nr, 0, dim)
        for i in range(n):
            xs[i] = fma(cb[i], ss[i], xs[i])
        if want_mean:
            store(mean, x_bfloat, start, xs, n)
        for i in range(n):
            xs[i] = fma(cc[i], z[i], xs[i])
        store(out, x_bfloat, start, xs, n)
