"""Elementary functions on the CPU, written so that loops over them vectorize.

libm is called once a number and keeps LLVM from using vector registers. These are polynomials after
an argument reduction, good to a few units in the last place, correct at 0, infinity and NaN. The
generated kernels call them by operation and width, ``exp32`` or ``exp64``; the rare ones at the end
(erf, the inverse functions, atan2) do go to libm.

Sine and cosine reduce their argument by multiples of pi / 2 in twice the precision: good to the
last places for |x| < 2^30, bounded by 1 beyond.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sdekit_kernels._cpu.jit import inline
from sdekit_kernels._cpu.ops import (
    add_u32,
    bits_to_float,
    f32_to_u32,
    f64_to_u32,
    fma,
    nearbyint,
    shl_u32,
    trunc,
)
from sdekit_kernels.philox import constants as k
from sdekit_kernels.philox._numba import log_f32, minus_two_log_f64, split_f32

_F = np.float32
_INF32, _NAN32 = _F(np.inf), _F(np.nan)
# ln 2 as the nearest number and what is missing from it.
_LN2_HIGH32, _LN2_LOW32 = _F(math.log(2.0)), _F(math.log(2.0) - float(_F(math.log(2.0))))
_LN2_HIGH64, _LN2_LOW64 = math.log(2.0), 2.3190468138462996e-17
_LOG2E32, _LOG2E64 = _F(math.log2(math.e)), math.log2(math.e)
_TWO_OVER_PI = 2.0 / math.pi
# pi / 2 in three parts of 53 bits.
_HALF_PI_1, _HALF_PI_2, _HALF_PI_3 = math.pi / 2, 6.123233995736766e-17, -1.4973849048591833e-33
_FOUR_OVER_PI = 4.0 / math.pi
_S0, _S1, _S2, _S3 = (_F(c) for c in k.SIN_F32)
_C0, _C1, _C2, _C3 = (_F(c) for c in k.COS_F32)
_E0, _E1, _E2, _E3, _E4, _E5, _E6, _E7 = k.SIN_F64
_G0, _G1, _G2, _G3, _G4, _G5, _G6 = k.COS_F64
_T2, _T3, _T4, _T5, _T6, _T7 = (_F(1.0 / math.factorial(n)) for n in range(2, 8))
_U2, _U3, _U4, _U5, _U6, _U7, _U8, _U9, _U10, _U11, _U12, _U13 = (
    1.0 / math.factorial(n) for n in range(2, 14)
)
_0, _1, _2, _HALF = _F(0.0), _F(1.0), _F(2.0), _F(0.5)
_TINY32, _TINY64 = _F(2.0**-126), 2.0**-1022
_BIAS32, _BIAS64 = np.uint32(127), np.uint32(1023)
_23 = np.uint32(23)
_HALF_BITS = np.uint32(k.SQRT_HALF_BITS)
_52 = np.uint64(52)


@inline
def _power32(n: Any) -> Any:
    """2^n for an integer-valued float32 in [-126, 127]."""
    return bits_to_float(shl_u32(add_u32(f32_to_u32(n), _BIAS32), _23))


@inline
def _power64(n: Any) -> Any:
    """2^n for an integer-valued float64 in [-1022, 1023]."""
    return bits_to_float(np.uint64(add_u32(f64_to_u32(n), _BIAS64)) << _52)


@inline
def _reduced32(x: Any) -> Any:
    """n and expm1(r) for x = n ln 2 + r, |r| <= ln 2 / 2; Taylor's remainder is 6e-9."""
    n = nearbyint(x * _LOG2E32)
    r = fma(n, -_LN2_LOW32, fma(n, -_LN2_HIGH32, x))
    p = fma(fma(fma(fma(fma(_T7, r, _T6), r, _T5), r, _T4), r, _T3), r, _T2)
    return n, fma(r * r, p, r)


@inline
def _reduced64(x: Any) -> Any:
    """n and expm1(r) for x = n ln 2 + r, |r| <= ln 2 / 2; Taylor's remainder is 4e-18."""
    n = nearbyint(x * _LOG2E64)
    r = fma(n, -_LN2_LOW64, fma(n, -_LN2_HIGH64, x))
    p = fma(fma(fma(fma(fma(_U13, r, _U12), r, _U11), r, _U10), r, _U9), r, _U8)
    p = fma(fma(fma(fma(fma(fma(p, r, _U7), r, _U6), r, _U5), r, _U4), r, _U3), r, _U2)
    return n, fma(r * r, p, r)


@inline
def exp32(x: Any) -> Any:
    """e^x."""
    inside = x if x < _F(89.0) else _F(89.0)
    inside = inside if inside > _F(-104.0) else _F(-104.0)
    n, p = _reduced32(inside)
    # In two factors: 2^n itself leaves the normal numbers near the ends.
    half = trunc(n * _HALF)
    y = (p + _1) * _power32(half) * _power32(n - half)
    return x if x != x else y


@inline
def exp64(x: Any) -> Any:
    """e^x."""
    inside = x if x < 710.0 else 710.0
    inside = inside if inside > -746.0 else -746.0
    n, p = _reduced64(inside)
    half = trunc(n * 0.5)
    y = (p + 1.0) * _power64(half) * _power64(n - half)
    return x if x != x else y


@inline
def expm132(x: Any) -> Any:
    """e^x - 1."""
    inside = x if x < _F(60.0) else _F(60.0)
    inside = inside if inside > _F(-30.0) else _F(-30.0)
    n, p = _reduced32(inside)
    scale = _power32(n)
    y = fma(scale, p, scale - _1)
    y = exp32(x) if x > _F(60.0) else y
    return x if x != x else y


@inline
def expm164(x: Any) -> Any:
    """e^x - 1."""
    inside = x if x < 80.0 else 80.0
    inside = inside if inside > -50.0 else -50.0
    n, p = _reduced64(inside)
    scale = _power64(n)
    y = fma(scale, p, scale - 1.0)
    y = exp64(x) if x > 80.0 else y
    return x if x != x else y


@inline
def log32(x: Any) -> Any:
    """ln x."""
    small = x < _TINY32
    y = x * _F(2.0**24) if small else x
    e23, m = split_f32(y if y > _0 else _1, _HALF_BITS)
    e23 = e23 - _F(24 * 2.0**23) if small else e23
    y = _0 - _HALF * log_f32(e23, _2 - _2 * m)  # so that ln 1 is 0 and not -0
    y = x if x == _INF32 else y
    y = -_INF32 if x == _0 else y
    return _NAN32 if (x < _0 or x != x) else y


@inline
def log64(x: Any) -> Any:
    """ln x."""
    small = x < _TINY64
    y = x * 2.0**54 if small else x
    y = -0.5 * minus_two_log_f64(y if y > 0.0 else 1.0)
    y = y - 54.0 * math.log(2.0) if small else y
    y = x if x == np.inf else y
    y = -np.inf if x == 0.0 else y
    return np.nan if (x < 0.0 or x != x) else y


@inline
def log1p32(x: Any) -> Any:
    """ln(1 + x)."""
    u = _1 + x
    y = log32(u) + (x - (u - _1)) / u
    return log32(u) if (x == -_1 or x == _INF32) else y


@inline
def log1p64(x: Any) -> Any:
    """ln(1 + x)."""
    u = 1.0 + x
    y = log64(u) + (x - (u - 1.0)) / u
    return log64(u) if (x == -1.0 or x == np.inf) else y


@inline
def _quadrant(x: Any) -> Any:
    """Multiples of pi / 2 in x, modulo 4, and the rest in [-pi / 4, pi / 4]; x is float64."""
    n = nearbyint(x * _TWO_OVER_PI)
    r = fma(n, -_HALF_PI_3, fma(n, -_HALF_PI_2, fma(n, -_HALF_PI_1, x)))
    bound = 0.79
    r = bound if r > bound else r
    r = -bound if r < -bound else r
    q = n - 4.0 * trunc(n * 0.25)
    return (q + 4.0 if q < 0.0 else q), r


@inline
def _sine_and_cosine32(r: Any) -> Any:
    """Of r in [-pi / 4, pi / 4], given in float64."""
    a = _F(r * _FOUR_OVER_PI)
    t = a * a
    s = a * fma(fma(fma(_S3, t, _S2), t, _S1), t, _S0)
    return s, fma(fma(fma(fma(_C3, t, _C2), t, _C1), t, _C0), t, _1)


@inline
def _sine_and_cosine64(r: Any) -> Any:
    """Of r in [-pi / 4, pi / 4]."""
    a = r * _FOUR_OVER_PI
    t = a * a
    s = fma(fma(fma(_E7, t, _E6), t, _E5), t, _E4)
    s = a * fma(fma(fma(fma(s, t, _E3), t, _E2), t, _E1), t, _E0)
    c = fma(fma(fma(_G6, t, _G5), t, _G4), t, _G3)
    return s, fma(fma(fma(fma(c, t, _G2), t, _G1), t, _G0), t, 1.0)


@inline
def sin32(x: Any) -> Any:
    """Sine."""
    q, r = _quadrant(np.float64(x))
    s, c = _sine_and_cosine32(r)
    y = c if (q == 1.0 or q == 3.0) else s
    return -y if q >= 2.0 else y


@inline
def cos32(x: Any) -> Any:
    """Cosine."""
    q, r = _quadrant(np.float64(x))
    s, c = _sine_and_cosine32(r)
    y = s if (q == 1.0 or q == 3.0) else c
    return -y if (q == 1.0 or q == 2.0) else y


@inline
def sin64(x: Any) -> Any:
    """Sine."""
    q, r = _quadrant(x)
    s, c = _sine_and_cosine64(r)
    y = c if (q == 1.0 or q == 3.0) else s
    return -y if q >= 2.0 else y


@inline
def cos64(x: Any) -> Any:
    """Cosine."""
    q, r = _quadrant(x)
    s, c = _sine_and_cosine64(r)
    y = s if (q == 1.0 or q == 3.0) else c
    return -y if (q == 1.0 or q == 2.0) else y


@inline
def tan32(x: Any) -> Any:
    """Tangent."""
    q, r = _quadrant(np.float64(x))
    s, c = _sine_and_cosine32(r)
    return -c / s if (q == 1.0 or q == 3.0) else s / c


@inline
def tan64(x: Any) -> Any:
    """Tangent."""
    q, r = _quadrant(x)
    s, c = _sine_and_cosine64(r)
    return -c / s if (q == 1.0 or q == 3.0) else s / c


@inline
def tanh32(x: Any) -> Any:
    """(e^2x - 1) / (e^2x + 1)."""
    a = abs(x)
    e = expm132(_2 * (a if a < _F(10.0) else _F(10.0)))
    y = e / (e + _2)
    y = x if x != x else y
    return -y if x < _0 else y


@inline
def tanh64(x: Any) -> Any:
    """(e^2x - 1) / (e^2x + 1)."""
    a = abs(x)
    e = expm164(2.0 * (a if a < 20.0 else 20.0))
    y = e / (e + 2.0)
    y = x if x != x else y
    return -y if x < 0.0 else y


@inline
def sinh32(x: Any) -> Any:
    """(e^x - e^-x) / 2."""
    a = abs(x)
    e = expm132(_F(20.0) if a > _F(20.0) else a)
    root = exp32(_HALF * a)
    y = _HALF * root * root if a > _F(19.0) else _HALF * (e + e / (e + _1))
    return -y if x < _0 else y


@inline
def sinh64(x: Any) -> Any:
    """(e^x - e^-x) / 2."""
    a = abs(x)
    e = expm164(40.0 if a > 40.0 else a)
    root = exp64(0.5 * a)
    y = 0.5 * root * root if a > 39.0 else 0.5 * (e + e / (e + 1.0))
    return -y if x < 0.0 else y


@inline
def cosh32(x: Any) -> Any:
    """(e^x + e^-x) / 2."""
    root = exp32(_HALF * abs(x))
    e = root * root
    return _HALF * root * root if abs(x) > _F(19.0) else _HALF * e + _HALF / e


@inline
def cosh64(x: Any) -> Any:
    """(e^x + e^-x) / 2."""
    root = exp64(0.5 * abs(x))
    e = root * root
    return 0.5 * root * root if abs(x) > 39.0 else 0.5 * e + 0.5 / e


@inline
def pow32(x: Any, y: Any) -> Any:
    """x^y, through float64."""
    wide = np.float64(y)
    size = _F(exp64(wide * log64(np.float64(abs(x)))))
    whole = trunc(wide) == wide
    odd = whole and trunc(wide * 0.5) * 2.0 != wide
    signed = -size if odd else size
    z = (signed if (whole or x == -_INF32) else _NAN32) if x < _0 else size
    return _1 if (y == _0 or x == _1) else z


@inline
def pow64(x: Any, y: Any) -> Any:
    """x^y, by libm."""
    return math.pow(x, y)


@inline
def min32(a: Any, b: Any) -> Any:
    """The smaller; NaN if either is."""
    return a if (a < b or a != a) else b


@inline
def max32(a: Any, b: Any) -> Any:
    """The larger; NaN if either is."""
    return a if (a > b or a != a) else b


min64, max64 = min32, max32


@inline
def erf32(x: Any) -> Any:
    """Error function, by libm."""
    return _F(math.erf(np.float64(x)))


@inline
def erf64(x: Any) -> Any:
    """Error function, by libm."""
    return math.erf(x)


@inline
def erfc32(x: Any) -> Any:
    """1 - erf, by libm."""
    return _F(math.erfc(np.float64(x)))


@inline
def erfc64(x: Any) -> Any:
    """1 - erf, by libm."""
    return math.erfc(x)


@inline
def asin32(x: Any) -> Any:
    """Arc sine, by libm."""
    return _F(np.arcsin(np.float64(x)))


@inline
def asin64(x: Any) -> Any:
    """Arc sine, by libm."""
    return np.arcsin(x)


@inline
def acos32(x: Any) -> Any:
    """Arc cosine, by libm."""
    return _F(np.arccos(np.float64(x)))


@inline
def acos64(x: Any) -> Any:
    """Arc cosine, by libm."""
    return np.arccos(x)


@inline
def atan32(x: Any) -> Any:
    """Arc tangent, by libm."""
    return _F(math.atan(np.float64(x)))


@inline
def atan64(x: Any) -> Any:
    """Arc tangent, by libm."""
    return math.atan(x)


@inline
def atan232(y: Any, x: Any) -> Any:
    """Angle of (x, y), by libm."""
    return _F(math.atan2(np.float64(y), np.float64(x)))


@inline
def atan264(y: Any, x: Any) -> Any:
    """Angle of (x, y), by libm."""
    return math.atan2(y, x)
