"""The noise on the CPU: loops that LLVM turns into vector code.

Everything is done in passes over arrays of one block that stay in the first-level cache; every pass
is a plain loop over consecutive elements, which is what vectorizes: Philox with 64-bit integers,
what makes normals of its words with 32-bit ones (16 lanes with AVX-512, 8 with AVX2).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sdekit_kernels._cpu.jit import inline
from sdekit_kernels._cpu.ops import (
    add_u32,
    and_u32,
    bits_to_float,
    float_to_bits,
    fma,
    i32_to_f32,
    i32_to_f64,
    not_u32,
    sar_u32,
    shl_u32,
    sub_u32,
    u32_to_f32,
    u32_to_f64,
    xor_u32,
)
from sdekit_kernels.philox import constants as k

_M0, _M1 = np.uint64(k.PHILOX_M0), np.uint64(k.PHILOX_M1)
_W0, _W1 = np.uint64(k.PHILOX_W0), np.uint64(k.PHILOX_W1)
_LOW, _32 = np.uint64(0xFFFFFFFF), np.uint64(32)
_TOP = np.uint32(1 << 31)
_SECOND = np.uint32(1 << 30)
_EIGHTH_TURN = np.uint32(1 << 29)
_TWO = np.uint32(2)
_EXPONENT = np.uint32(0xFF800000)
_HALF_WORD = np.uint32(k.SQRT_HALF_WORD)
_SQRT_TWO_BITS = np.uint32(k.SQRT_HALF_BITS + (1 << 23))
_SCALE31 = np.float32(2.0**-31)
_SHIFT31 = np.float32(2.0**-32)
_SCALE32 = np.float32(2.0**-32)
_SHIFT32 = np.float32(2.0**-33)
_ANGLE32 = np.float32(2.0**-31)
_MINUS_TWO_LN2_32 = np.float32(k.MINUS_TWO_LN2 * 2.0**-23)
_TWO_32 = np.float32(2.0)
_ONE_32 = np.float32(1.0)
_L0, _L1, _L2, _L3, _L4, _L5, _L6, _L7 = (np.float32(c) for c in k.LOG_F32_IN_G)
_S0, _S1, _S2, _S3 = (np.float32(c) for c in k.SIN_F32)
_C0, _C1, _C2, _C3 = (np.float32(c) for c in k.COS_F32)
_D0, _D1, _D2, _D3, _D4, _D5, _D6, _D7 = k.LOG_F64
_E0, _E1, _E2, _E3, _E4, _E5, _E6, _E7 = k.SIN_F64
_G0, _G1, _G2, _G3, _G4, _G5, _G6 = k.COS_F64
_HALF_BITS_HIGH = np.uint32(k.SQRT_HALF_BITS_64 >> 32)
_20 = np.uint32(20)


@inline
def philox(c0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any) -> Any:
    """Ten rounds of Philox4x32 on one counter: four words.

    Counter and key are uint64 of which the lower half counts: what stands in the upper halves never
    comes down. A vector unit multiplies 32 bits by 32 to 64 in one operation; both halves of that
    product are wanted, and taken where they lie. In 32-bit lanes they would be moved together and
    one of them multiplied a second time.
    """
    for _ in range(9):
        p0, p1 = _M0 * (c0 & _LOW), _M1 * (c2 & _LOW)
        c0, c1 = (p1 >> _32) ^ c1 ^ k0, p1
        c2, c3 = (p0 >> _32) ^ c3 ^ k1, p0
        k0, k1 = k0 + _W0, k1 + _W1
    p0, p1 = _M0 * (c0 & _LOW), _M1 * (c2 & _LOW)
    w0, w2 = (p1 >> _32) ^ c1 ^ k0, (p0 >> _32) ^ c3 ^ k1
    return np.uint32(w0), np.uint32(p1), np.uint32(w2), np.uint32(p0)


@inline
def log_f32(e23: Any, g: Any) -> Any:
    """-2 ln((1 - g / 2) 2^e) for e23 = 2^23 e and 1 - g / 2 in [sqrt(1/2), sqrt 2).

    The exponent comes as it lies in the bits of a number, without a shift: the factor takes it up.
    """
    p = fma(_L7, g, _L6)
    p = fma(p, g, _L5)
    p = fma(p, g, _L4)
    p = fma(p, g, _L3)
    p = fma(p, g, _L2)
    p = fma(p, g, _L1)
    p = fma(p, g, _L0)
    return fma(g * g, p, fma(e23, _MINUS_TWO_LN2_32, g))


@inline
def split_f32(y: Any, least: Any) -> Any:
    """2^23 e and m of y = m 2^e with m in [c, 2 c), where ``least`` are the bits of c."""
    e23 = and_u32(sub_u32(float_to_bits(y), least), _EXPONENT)
    return i32_to_f32(e23), bits_to_float(sub_u32(float_to_bits(y), e23))


@inline
def radius_squared_f32(w: Any) -> Any:
    """-2 ln u for u = (w + 1/2) 2^-32, float32, good to 1.5 units in the last place."""
    near_one = w >= _HALF_WORD
    # y = 2 u = m 2^e with m in [sqrt 2, 2 sqrt 2), so that g = 2 - m, exactly; near one
    # y = 2 (1 - u) of the complement is g itself.
    y = fma(u32_to_f32(not_u32(w) if near_one else w), _SCALE31, _SHIFT31)
    e23, m = split_f32(y, _SQRT_TWO_BITS)
    return log_f32(np.float32(0.0) if near_one else e23, y if near_one else _TWO_32 - m)


@inline
def radius_squared_sum_f32(w: Any, v: Any) -> Any:
    """-2 ln u(w) - 2 ln u(v) by one logarithm of the product; absolute error 3e-7."""
    y = fma(u32_to_f32(w), _SCALE31, _SHIFT31) * fma(u32_to_f32(v), _SCALE32, _SHIFT32)
    e23, m = split_f32(y, _SQRT_TWO_BITS)
    return log_f32(e23, _TWO_32 - m)


@inline
def cos_sin_f32(w: Any) -> Any:
    """Cosine and sine of 2 pi w / 2^32 in float32."""
    v = add_u32(w, _EIGHTH_TURN)
    a = i32_to_f32(shl_u32(w, _TWO)) * _ANGLE32
    t = a * a
    s = a * fma(fma(fma(_S3, t, _S2), t, _S1), t, _S0)
    c = fma(fma(fma(fma(_C3, t, _C2), t, _C1), t, _C0), t, _ONE_32)
    swap = and_u32(v, _SECOND) != np.uint32(0)
    x = s if swap else c
    y = c if swap else s
    # Quadrants 1 and 2 turn the cosine negative, 2 and 3 the sine.
    x = bits_to_float(xor_u32(float_to_bits(x), and_u32(add_u32(v, _SECOND), _TOP)))
    y = bits_to_float(xor_u32(float_to_bits(y), and_u32(v, _TOP)))
    return x, y


@inline
def minus_two_log_f64(y: Any) -> Any:
    """-2 ln y for a normal y below 2."""
    bits = float_to_bits(y)
    high = np.uint32(bits >> np.uint64(32))
    e = sar_u32(sub_u32(high, _HALF_BITS_HIGH), _20)
    m = bits_to_float(bits - (np.uint64(shl_u32(e, _20)) << np.uint64(32)))
    f = m - 1.0
    s = f / (m + 1.0)
    t = s * s
    p = fma(_D7, t, _D6)
    p = fma(p, t, _D5)
    p = fma(p, t, _D4)
    p = fma(p, t, _D3)
    p = fma(p, t, _D2)
    p = fma(p, t, _D1)
    p = fma(p, t, _D0)
    p = fma(p, t, 2.0)
    return fma(i32_to_f64(e), k.MINUS_TWO_LN2, -2.0 * (s * p))


@inline
def radius_squared_f64(w: Any) -> Any:
    """-2 ln u for u = (w + 1/2) 2^-32 in float64."""
    return minus_two_log_f64((u32_to_f64(w) + 0.5) * 2.0**-32)


@inline
def radius_squared_sum_f64(w: Any, v: Any) -> Any:
    """-2 ln u(w) - 2 ln u(v) by one logarithm of the product."""
    return minus_two_log_f64((u32_to_f64(w) + 0.5) * (u32_to_f64(v) + 0.5) * 2.0**-64)


@inline
def cos_sin_f64(w: Any) -> Any:
    """Cosine and sine of 2 pi w / 2^32 in float64."""
    v = add_u32(w, _EIGHTH_TURN)
    a = i32_to_f64(shl_u32(w, _TWO)) * 2.0**-31
    t = a * a
    s = fma(fma(fma(_E7, t, _E6), t, _E5), t, _E4)
    s = a * fma(fma(fma(fma(s, t, _E3), t, _E2), t, _E1), t, _E0)
    c = fma(fma(fma(_G6, t, _G5), t, _G4), t, _G3)
    c = fma(fma(fma(fma(c, t, _G2), t, _G1), t, _G0), t, 1.0)
    swap = and_u32(v, _SECOND) != np.uint32(0)
    x = s if swap else c
    y = c if swap else s
    x = -x if and_u32(add_u32(v, _SECOND), _TOP) != np.uint32(0) else x
    y = -y if and_u32(v, _TOP) != np.uint32(0) else y
    return x, y
