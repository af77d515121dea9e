"""The noise on the GPU: device functions, everything in registers.

Compile what uses these with ``enable_fp_fusion=False``: every fused multiply-add below is written
as one, and nothing else may be fused, or the bits would differ from the CPU's.
"""

import triton
import triton.language as tl
from triton.language.target_info import is_cuda

from sdekit_kernels._gpu.ops import INTERPRETED, fma, negative
from sdekit_kernels.philox import constants as k

_M0: tl.constexpr = tl.constexpr(k.PHILOX_M0)
_M1: tl.constexpr = tl.constexpr(k.PHILOX_M1)
_W0: tl.constexpr = tl.constexpr(k.PHILOX_W0)
_W1: tl.constexpr = tl.constexpr(k.PHILOX_W1)
_HALF_WORD: tl.constexpr = tl.constexpr(k.SQRT_HALF_WORD)
_SQRT_TWO_BITS: tl.constexpr = tl.constexpr(k.SQRT_HALF_BITS + (1 << 23))
_HALF_BITS_HIGH: tl.constexpr = tl.constexpr(k.SQRT_HALF_BITS_64 >> 32)
_MINUS_TWO_LN2: tl.constexpr = tl.constexpr(k.MINUS_TWO_LN2)
_L: tl.constexpr = tl.constexpr(k.LOG_F32_IN_G)
_S: tl.constexpr = tl.constexpr(k.SIN_F32)
_C: tl.constexpr = tl.constexpr(k.COS_F32)
_L64: tl.constexpr = tl.constexpr(k.LOG_F64)
_S64: tl.constexpr = tl.constexpr(k.SIN_F64)
_C64: tl.constexpr = tl.constexpr(k.COS_F64)


@triton.jit
def _product(c, M: tl.constexpr):
    """High and low word of c M, by one instruction on NVIDIA and one on AMD."""
    m = tl.full([], M, tl.uint32)
    if INTERPRETED:
        return tl.umulhi(c, m), c * m
    elif is_cuda():
        # LLVM would make two multiplications of it wherever it sees both words taken.
        return tl.inline_asm_elementwise(
            "{.reg .u64 p; mul.wide.u32 p, $2, $3; mov.b64 {$1, $0}, p;}",
            "=r,=r,r,r",
            [c, m],
            (tl.uint32, tl.uint32),
            True,
            1,
        )
    else:
        product = c.to(tl.uint64) * tl.full([], M, tl.uint64)
        return (product >> 32).to(tl.uint32), product.to(tl.uint32)


@triton.jit
def philox(c0, c1, c2, c3, k0, k1):
    """Ten rounds of Philox4x32 on uint32 tensors."""
    w0 = tl.full([], _W0, tl.uint32)
    w1 = tl.full([], _W1, tl.uint32)
    for _ in tl.static_range(10):
        h0, l0 = _product(c0, _M0)
        h1, l1 = _product(c2, _M1)
        c0 = h1 ^ c1 ^ k0
        c1 = l1
        c2 = h0 ^ c3 ^ k1
        c3 = l0
        k0 = k0 + w0
        k1 = k1 + w1
    return c0, c1, c2, c3


@triton.jit
def _horner(t, C: tl.constexpr, N: tl.constexpr, dtype: tl.constexpr):
    """C[0] + ... + C[N - 1] t^(N - 1) by fused multiply-adds, from the last coefficient."""
    p = tl.full(t.shape, C[N - 1], dtype)
    for i in tl.static_range(N - 1):
        p = fma(p, t, tl.full(t.shape, C[N - 2 - i], dtype))
    return p


@triton.jit
def minus_two_log_f64(y):
    """-2 ln y for a normal y below 2."""
    bits = y.to(tl.int64, bitcast=True)
    e = ((bits >> 32).to(tl.int32) - _HALF_BITS_HIGH) >> 20
    m = (bits - (e.to(tl.int64) << 52)).to(tl.float64, bitcast=True)
    f = m - 1.0
    s = f / (m + 1.0)
    t = s * s
    p = fma(_horner(t, _L64, 8, tl.float64), t, tl.full(t.shape, 2.0, tl.float64))
    c = tl.full(t.shape, _MINUS_TWO_LN2, tl.float64)
    return fma(e.to(tl.float64), c, -2.0 * (s * p))


@triton.jit
def log_f32(e23, g):
    """-2 ln((1 - g / 2) 2^e) for e23 = 2^23 e and 1 - g / 2 in [sqrt(1/2), sqrt 2).

    The exponent comes as it lies in the bits of a number, without a shift: the factor takes it up.
    """
    c = tl.full(g.shape, _MINUS_TWO_LN2 * 2.0**-23, tl.float32)
    return fma(g * g, _horner(g, _L, 8, tl.float32), fma(e23.to(tl.float32), c, g))


@triton.jit
def split_f32(y, LEAST: tl.constexpr):
    """2^23 e and m of y = m 2^e with m in [c, 2 c), where LEAST are the bits of c."""
    bits = y.to(tl.int32, bitcast=True)
    e23 = (bits - LEAST) & -0x800000
    return e23, (bits - e23).to(tl.float32, bitcast=True)


@triton.jit
def _uniform_f32(w, SCALE: tl.constexpr):
    """(w + 1/2) SCALE in float32, for a power of two."""
    scale = tl.full(w.shape, SCALE, tl.float32)
    return fma(w.to(tl.float32), scale, tl.full(w.shape, 0.5 * SCALE, tl.float32))


@triton.jit
def radius_squared(w, F64: tl.constexpr):
    """-2 ln u for u = (w + 1/2) 2^-32."""
    if F64:
        return minus_two_log_f64((w.to(tl.float64) + 0.5) * 2.3283064365386963e-10)
    else:
        near_one = w >= tl.full([], _HALF_WORD, tl.uint32)
        # y = 2 u = m 2^e with m in [sqrt 2, 2 sqrt 2), so that g = 2 - m, exactly; near one
        # y = 2 (1 - u) of the complement is g itself.
        y = _uniform_f32(tl.where(near_one, w ^ 0xFFFFFFFF, w), 2.0**-31)
        e23, m = split_f32(y, _SQRT_TWO_BITS)
        return log_f32(tl.where(near_one, 0, e23), tl.where(near_one, y, 2.0 - m))


@triton.jit
def radius_squared_sum(w, v, F64: tl.constexpr):
    """-2 ln u(w) - 2 ln u(v) by one logarithm of the product; absolute error 3e-7 in float32."""
    if F64:
        product = (w.to(tl.float64) + 0.5) * (v.to(tl.float64) + 0.5)
        return minus_two_log_f64(product * 5.421010862427522e-20)  # 2^-64
    else:
        e23, m = split_f32(_uniform_f32(w, 2.0**-31) * _uniform_f32(v, 2.0**-32), _SQRT_TWO_BITS)
        return log_f32(e23, 2.0 - m)


@triton.jit
def cos_sin(w, F64: tl.constexpr):
    """Cosine and sine of 2 pi w / 2^32: the quadrant from the top bits, so no range reduction."""
    v = w + 0x20000000
    rest = (w << 2).to(tl.int32, bitcast=True)
    if F64:
        a = rest.to(tl.float64) * 4.656612873077393e-10  # 2^-31
        t = a * a
        s = a * _horner(t, _S64, 8, tl.float64)
        c = fma(_horner(t, _C64, 7, tl.float64), t, tl.full(t.shape, 1.0, tl.float64))
    else:
        a = rest.to(tl.float32) * 4.656612873077393e-10
        t = a * a
        s = a * _horner(t, _S, 4, tl.float32)
        c = fma(_horner(t, _C, 4, tl.float32), t, tl.full(t.shape, 1.0, tl.float32))
    swap = (v & 0x40000000) != 0
    x = tl.where(swap, s, c)
    y = tl.where(swap, c, s)
    cos_sign = (v + 0x40000000) & 0x80000000
    sin_sign = v & 0x80000000
    if F64:
        x = tl.where(cos_sign != 0, negative(x), x)
        y = tl.where(sin_sign != 0, negative(y), y)
    else:
        # One three-input logic operation a sign, where a select would also need a comparison.
        x = (x.to(tl.uint32, bitcast=True) ^ cos_sign).to(tl.float32, bitcast=True)
        y = (y.to(tl.uint32, bitcast=True) ^ sin_sign).to(tl.float32, bitcast=True)
    return x, y


@triton.jit
def root_f32(x):
    """The correctly rounded square root of x in [2^-60, 2^60].

    The stock root serves every x, by 14 instructions and a call in place of these 5. On NVIDIA
    this is what it does for such x, operation by operation (a test reads both). Elsewhere one step
    of Newton's is made first; then an estimate of 1 / sqrt x that is good to 2^-20 will do (a test
    takes every x and every such estimate), and AMD's is good to 2^-23.
    """
    y = tl.rsqrt(x)
    s = x * y
    h = 0.5 * y
    if INTERPRETED or not is_cuda():
        e = fma(negative(h), s, tl.full(x.shape, 0.5, tl.float32))
        s = fma(s, e, s)
        h = fma(h, e, h)
    return fma(fma(negative(s), s, x), h, s)


@triton.jit
def normal_pair(w0, w1, F64: tl.constexpr):
    """Two independent normals from two words (Box & Muller 1958)."""
    r2 = radius_squared(w0, F64)
    r = tl.sqrt(r2) if F64 else root_f32(r2)
    c, s = cos_sin(w1, F64)
    return r * c, r * s
