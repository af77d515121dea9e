"""The Triton kernels of ``probes``; imported only when they are used."""

import triton
import triton.language as tl
from sdekit_kernels.philox._triton import normal_pair, philox, root_f32


@triton.jit
def words_kernel(counters, keys, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = i < n
    c0 = tl.load(counters + 4 * i, mask=inside, other=0).to(tl.uint32)
    c1 = tl.load(counters + 4 * i + 1, mask=inside, other=0).to(tl.uint32)
    c2 = tl.load(counters + 4 * i + 2, mask=inside, other=0).to(tl.uint32)
    c3 = tl.load(counters + 4 * i + 3, mask=inside, other=0).to(tl.uint32)
    k0 = tl.load(keys + 2 * i, mask=inside, other=0).to(tl.uint32)
    k1 = tl.load(keys + 2 * i + 1, mask=inside, other=0).to(tl.uint32)
    w0, w1, w2, w3 = philox(c0, c1, c2, c3, k0, k1)
    tl.store(out + 4 * i, w0.to(tl.int64), mask=inside)
    tl.store(out + 4 * i + 1, w1.to(tl.int64), mask=inside)
    tl.store(out + 4 * i + 2, w2.to(tl.int64), mask=inside)
    tl.store(out + 4 * i + 3, w3.to(tl.int64), mask=inside)


@triton.jit
def pairs_kernel(words0, words1, z, n, F64: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = i < n
    w0 = tl.load(words0 + i, mask=inside, other=0).to(tl.uint32)
    w1 = tl.load(words1 + i, mask=inside, other=0).to(tl.uint32)
    x, y = normal_pair(w0, w1, F64)
    tl.store(z + i, x, mask=inside)
    tl.store(z + n + i, y, mask=inside)


@triton.jit
def root_kernel(x, out, STOCK: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    v = tl.load(x + i)
    tl.store(out + i, tl.sqrt_rn(v) if STOCK else root_f32(v))
