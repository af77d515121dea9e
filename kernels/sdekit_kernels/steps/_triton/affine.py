"""x_mean = a x + b s and x_next = x_mean + C z on the GPU, one pass through memory."""

import triton
import triton.language as tl

from sdekit_kernels._gpu.ops import fma
from sdekit_kernels.philox._triton_tile import locate, tile_normals, tile_offsets


@triton.jit
def coefficient(
    pointer,
    number,
    row,
    component,
    offset,
    mask,
    KIND: tl.constexpr,
    DTYPE: tl.constexpr,
):
    """A coefficient as a tile that broadcasts; see ``steps/coefficients.py`` for the kinds."""
    if KIND == 0:
        return tl.full([1, 1], number, DTYPE)
    elif KIND == 1:
        return tl.load(pointer + tl.zeros([1, 1], tl.int32)).to(DTYPE)
    elif KIND == 2:
        inside = (tl.max(mask.to(tl.int32), axis=1) > 0)[:, None]
        return tl.load(pointer + row[:, None], mask=inside, other=0.0).to(DTYPE)
    elif KIND == 3:
        return tl.load(pointer + component, mask=mask, other=0.0).to(DTYPE)
    else:
        return tl.load(pointer + offset, mask=mask, other=0.0).to(DTYPE)


@triton.jit(do_not_specialize=["first_low", "first_high", "step", "k0", "k1", "magic", "shift"])
def affine_kernel(
    x,
    s,
    out,
    mean,
    a,
    a_number: tl.float64,
    b,
    b_number: tl.float64,
    c,
    c_number: tl.float64,
    n_calls,
    dim,
    per_row,
    magic: tl.uint32,
    shift: tl.uint32,
    first_low: tl.uint32,
    first_high: tl.uint32,
    step: tl.uint32,
    k0: tl.uint32,
    k1: tl.uint32,
    KIND_A: tl.constexpr,
    KIND_B: tl.constexpr,
    KIND_C: tl.constexpr,
    UNIT: tl.constexpr,
    ROOT: tl.constexpr,
    NOISY: tl.constexpr,
    WANT_MEAN: tl.constexpr,
    LANES: tl.constexpr,
    ALIGNED: tl.constexpr,
    BLOCK: tl.constexpr,
    F64: tl.constexpr,
):
    """UNIT: a is the number 1, and x is not multiplied."""
    DTYPE: tl.constexpr = tl.float64 if F64 else tl.float32
    call, row, place = locate(per_row, magic, shift, BLOCK)
    offset, mask, component = tile_offsets(call, row, place, n_calls, dim, LANES, ALIGNED)
    # The loads are issued first: the noise is made while they are under way.
    xs = tl.load(x + offset, mask=mask, other=0.0).to(DTYPE)
    ss = tl.load(s + offset, mask=mask, other=0.0).to(DTYPE)
    scaled = xs
    if not UNIT:
        scaled = coefficient(a, a_number, row, component, offset, mask, KIND_A, DTYPE) * xs
    cb = coefficient(b, b_number, row, component, offset, mask, KIND_B, DTYPE)
    cc = coefficient(c, c_number, row, component, offset, mask, KIND_C, DTYPE)
    if NOISY:
        z = tile_normals(row, place, first_low, first_high, step, k0, k1, LANES, BLOCK, F64)
        if ROOT:
            cc = cc * (tl.sqrt(tl.abs(cb)) if F64 else tl.sqrt_rn(tl.abs(cb)))
    shape: tl.constexpr = [BLOCK, LANES]
    m = fma(tl.broadcast_to(cb, shape), ss, scaled)
    if WANT_MEAN:
        tl.store(mean + offset, m.to(mean.dtype.element_ty), mask=mask)
    x_next = m
    if NOISY:
        x_next = fma(tl.broadcast_to(cc, shape), z, m)
    tl.store(out + offset, x_next.to(out.dtype.element_ty), mask=mask)
