"""The array of normals on the GPU."""

import triton
import triton.language as tl

from sdekit_kernels.philox._triton_tile import locate, tile_normals, tile_offsets


@triton.jit(do_not_specialize=["first_low", "first_high", "step", "k0", "k1", "magic", "shift"])
def fill_normals(
    out,
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
    LANES: tl.constexpr,
    ALIGNED: tl.constexpr,
    BLOCK: tl.constexpr,
    F64: tl.constexpr,
):
    call, row, place = locate(per_row, magic, shift, BLOCK)
    offset, mask, _ = tile_offsets(call, row, place, n_calls, dim, LANES, ALIGNED)
    z = tile_normals(row, place, first_low, first_high, step, k0, k1, LANES, BLOCK, F64)
    tl.store(out + offset, z.to(out.dtype.element_ty), mask=mask)
