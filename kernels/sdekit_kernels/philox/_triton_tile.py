"""A tile of an (n_samples, dim) array and its normals on the GPU.

A program owns BLOCK Philox calls, numbered sample by sample. A call serves LANES elements of its
sample: 4 neighbouring components where dim >= 4, one where dim < 4. Tiles have shape
[BLOCK, LANES], so that loads and stores of a thread are 16 bytes wide in float32.
"""

import triton
import triton.language as tl

from sdekit_kernels.philox._triton import normal_pair, philox


@triton.jit
def locate(per_row, magic, shift, BLOCK: tl.constexpr):
    """Row and place in its row of each of this program's calls.

    Division by the run-time number ``per_row`` by multiplication (Granlund & Montgomery 1994):
    3 instructions instead of some 20. ``magic`` and ``shift`` come from ``magic_division``.
    """
    call = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    n = call.to(tl.uint32)
    row = ((tl.umulhi(n, magic.to(tl.uint32)) + n) >> shift.to(tl.uint32)).to(tl.int32)
    return call, row, call - row * per_row


@triton.jit
def tile_offsets(call, row, place, n_calls, dim, LANES: tl.constexpr, ALIGNED: tl.constexpr):
    """Offsets and mask of the tile in the flat array, and each element's component."""
    lane = tl.arange(0, LANES)[None, :]
    component = place[:, None] * LANES + lane
    if ALIGNED:
        offset = call.to(tl.int64)[:, None] * LANES + lane
        mask = (call < n_calls)[:, None] & (lane < LANES)
    else:
        offset = row.to(tl.int64)[:, None] * dim + component
        mask = (call < n_calls)[:, None] & (component < dim)
    return offset, mask, component


@triton.jit
def sample_words(row, first_low, first_high):
    """Low and high word of the sample number first + row."""
    base = first_low.to(tl.uint32)
    low = base + row.to(tl.uint32)
    high = tl.where(low < base, first_high.to(tl.uint32) + 1, first_high.to(tl.uint32))
    return low, high


@triton.jit
def tile_words(row, place, first_low, first_high, step, k0, k1, LANES: tl.constexpr):
    """The four words of each call of the tile."""
    low, high = sample_words(row, first_low, first_high)
    s = step.to(tl.uint32)
    c1 = s if LANES == 4 else s >> 2
    c1 = tl.zeros_like(low) + c1
    return philox(place.to(tl.uint32), c1, low, high, k0.to(tl.uint32), k1.to(tl.uint32))


@triton.jit
def tile_normals(
    row,
    place,
    first_low,
    first_high,
    step,
    k0,
    k1,
    LANES: tl.constexpr,
    BLOCK: tl.constexpr,
    F64: tl.constexpr,
):
    """Normals of the tile, shape [BLOCK, LANES]."""
    w0, w1, w2, w3 = tile_words(row, place, first_low, first_high, step, k0, k1, LANES)
    if LANES == 4:
        z0, z1 = normal_pair(w0, w1, F64)
        z2, z3 = normal_pair(w2, w3, F64)
        return tl.reshape(tl.join(tl.join(z0, z2), tl.join(z1, z3)), [BLOCK, LANES])
    else:
        s = step.to(tl.uint32)
        upper = (s & 2) != 0
        z0, z1 = normal_pair(tl.where(upper, w2, w0), tl.where(upper, w3, w1), F64)
        return tl.where((s & 1) != 0, z1, z0)[:, None]
