"""The array of normals on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np

from sdekit_kernels._cpu.block import store
from sdekit_kernels._cpu.jit import kernel
from sdekit_kernels._cpu.parallel import fork
from sdekit_kernels.philox._block import block_normals, scratch_words


@kernel
def fill_normals(
    block0: int,
    block1: int,
    out: Any,
    bfloat: bool,
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
    """out (flat, n_samples x dim) = normals, computed in the type of ``like``.

    Blocks of ``rows`` samples x ``cols`` components; one of the two is 1 or all.
    """
    per_sample = (dim + cols - 1) // cols
    z = np.empty(rows * ((cols + 3) // 4) * 4, like.dtype)
    words = scratch_words(rows * ((cols + 3) // 4 if dim >= 4 else cols))
    for block in range(block0, block1):
        r0 = (block // per_sample) * rows
        c0 = (block % per_sample) * cols
        nr = min(rows, n_samples - r0)
        nc = min(cols, dim - c0)
        block_normals(z, words, first, r0, nr, c0, nc, dim, step, k0, k1)
        store(out, bfloat, r0 * dim + c0, z, nr * nc)


@kernel
def launch_normals(threads: int, blocks: int, *arguments: Any) -> bool:
    """``fill_normals`` over all blocks, on several threads."""
    return fork(fill_normals, threads, blocks, arguments)
