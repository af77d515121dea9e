"""|s|^2 and |z|^2 of each sample on the GPU."""

import triton
import triton.language as tl

from sdekit_kernels.philox._triton import normal_pair, radius_squared_sum
from sdekit_kernels.philox._triton_tile import tile_words


@triton.jit(do_not_specialize=["first_low", "first_high", "step", "k0", "k1"])
def norms_kernel(
    s,
    partial,
    n_samples,
    dim,
    per_row,
    chunks,
    first_low: tl.uint32,
    first_high: tl.uint32,
    step: tl.uint32,
    k0: tl.uint32,
    k1: tl.uint32,
    LANES: tl.constexpr,
    WHOLE: tl.constexpr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    F64: tl.constexpr,
):
    """A program sums ROWS samples x WIDTH Philox calls (LANES components each).

    partial[0, b, chunk] = sum of s^2, partial[1, b, chunk] = sum of z^2, where chunk is the
    program's second number: a sample's sums never depend on its neighbours.
    """
    DTYPE: tl.constexpr = tl.float64 if F64 else tl.float32
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    chunk = tl.program_id(1)
    live = row < n_samples
    column = chunk * (WIDTH * LANES) + tl.arange(0, WIDTH * LANES)
    # Where rows are whole calls, this spelling tells the compiler that they are 16-byte aligned.
    stride = per_row * LANES if WHOLE else dim
    offset = (row.to(tl.int64) * stride)[:, None] + column[None, :]
    inside = live[:, None] & (column < stride)[None, :]
    v = tl.load(s + offset, mask=inside, other=0.0).to(DTYPE)

    place = chunk * WIDTH + tl.arange(0, WIDTH)[None, :] + tl.zeros([ROWS, 1], tl.int32)
    rows = row[:, None] + tl.zeros([1, WIDTH], tl.int32)
    w0, w1, w2, w3 = tile_words(rows, place, first_low, first_high, step, k0, k1, LANES)
    if LANES == 1:
        st = step.to(tl.uint32)
        upper = (st & 2) != 0
        z0, z1 = normal_pair(tl.where(upper, w2, w0), tl.where(upper, w3, w1), F64)
        z = tl.where((st & 1) != 0, z1, z0)
        zz = tl.where(place < dim, z * z, 0.0)
    elif WHOLE:
        zz = radius_squared_sum(w0, w2, F64)
        zz = tl.where(place * 4 < dim, zz, 0.0)
    else:
        z0, z1 = normal_pair(w0, w1, F64)
        z2, z3 = normal_pair(w2, w3, F64)
        c = place * 4
        zz = tl.where(c < dim, z0 * z0, 0.0) + tl.where(c + 1 < dim, z1 * z1, 0.0)
        zz += tl.where(c + 2 < dim, z2 * z2, 0.0) + tl.where(c + 3 < dim, z3 * z3, 0.0)
    target = row.to(tl.int64) * chunks + chunk
    tl.store(partial + target, tl.sum(v * v, axis=1), mask=live)
    second = partial + n_samples.to(tl.int64) * chunks
    tl.store(second + target, tl.sum(zz, axis=1), mask=live)


@triton.jit
def step_size_kernel(
    partial,
    scale,
    scale_number: tl.float64,
    eps,
    root,
    n_samples,
    chunks,
    KIND: tl.constexpr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    F64: tl.constexpr,
):
    """eps = scale |z|^2 / |s|^2 (0 where |s| = 0) and root = sqrt(2 eps), one a sample.

    KIND as in ``steps/coefficients.py``: 0 a number, 1 one entry, 2 one a sample.
    """
    DTYPE: tl.constexpr = tl.float64 if F64 else tl.float32
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    live = row < n_samples
    column = tl.arange(0, WIDTH)
    base = row.to(tl.int64)[:, None] * chunks + column[None, :]
    second = partial + n_samples.to(tl.int64) * chunks
    ss = tl.zeros([ROWS], DTYPE)
    zz = tl.zeros([ROWS], DTYPE)
    for c in range(0, chunks, WIDTH):
        inside = live[:, None] & (column + c < chunks)[None, :]
        ss += tl.sum(tl.load(partial + base + c, mask=inside, other=0.0), axis=1)
        zz += tl.sum(tl.load(second + base + c, mask=inside, other=0.0), axis=1)
    if KIND == 0:
        factor = tl.full([1], scale_number, DTYPE)
    elif KIND == 1:
        factor = tl.load(scale + tl.zeros([1], tl.int32))
    else:
        factor = tl.load(scale + row, mask=live, other=0.0)
    e = tl.where(ss == 0.0, 0.0, factor * zz / tl.where(ss == 0.0, 1.0, ss))
    # |s|^2 past float32's range must not read as "no step": the sample's status shall say so.
    e = tl.where(ss == float("inf"), float("nan"), e)
    tl.store(eps + row, e.to(eps.dtype.element_ty), mask=live)
    tl.store(root + row, tl.sqrt(2.0 * e).to(root.dtype.element_ty), mask=live)
