"""Elementary functions on the GPU: in registers, good to a few units in the last place.

The stock sine and cosine keep tables in local memory, the stock float32 exponential loses digits
where it is large, and none of the rarer functions runs in Triton's interpreter. Each function here
takes float32 or float64 and is right at 0, infinity and NaN. exp, expm1, log, log1p, tanh, sinh,
cosh and the float32 power make the roundings of ``fuse/_numba/math.py``, one by one, so that the
bits do not depend on the device. Compile with ``enable_fp_fusion=False``.

Sine, cosine and tangent subtract multiples of pi / 2 in three parts: good for |x| < 10^6 in float32
(where neighbouring numbers are 1/16 apart) and |x| < 10^15 in float64; sine and cosine are bounded
by 1 beyond.
"""

import math

import triton
import triton.language as tl

from sdekit_kernels._gpu.ops import INTERPRETED, negative
from sdekit_kernels._gpu.ops import fma as _fma
from sdekit_kernels.fuse._triton import coefficients as k
from sdekit_kernels.philox._triton import log_f32, minus_two_log_f64, split_f32
from sdekit_kernels.philox.constants import LOG_F64, SQRT_HALF_BITS

__all__ = [
    "acos", "asin", "atan", "atan2", "cos", "cosh", "divide", "erf", "erfc", "exp", "expm1", "fma",
    "larger", "log", "log1p", "nearest", "power", "root", "sin", "sinh", "smaller", "tan", "tanh",
    "trunc",
]  # fmt: skip

_INF: tl.constexpr = tl.constexpr(math.inf)
_HALF_BITS: tl.constexpr = tl.constexpr(SQRT_HALF_BITS)
_ALL: tl.constexpr = tl.constexpr(tl.PropagateNan.ALL)
# Adding 1.5 times the last power of two with a unit of 1 rounds to an integer, and leaves it in the
# low bits.
_ROUND_32: tl.constexpr = tl.constexpr(1.5 * 2.0**23)
_ROUND_64: tl.constexpr = tl.constexpr(1.5 * 2.0**52)
_ROUND_BITS_32: tl.constexpr = tl.constexpr(0x4B400000)
_LOG2E: tl.constexpr = tl.constexpr(math.log2(math.e))
# ln 2 as the nearest number and what is missing from it; then in 42 bits, so that multiples of it
# are exact, and the rest.
_LN2_32: tl.constexpr = tl.constexpr(0.693147182464599609375)
_LN2_LOW_32: tl.constexpr = tl.constexpr(math.log(2.0) - 0.693147182464599609375)
_LN2_64: tl.constexpr = tl.constexpr(math.log(2.0))
_LN2_LOW_64: tl.constexpr = tl.constexpr(2.3190468138462996e-17)
_LN2_42: tl.constexpr = tl.constexpr(float.fromhex("0x1.62e42fefa38p-1"))
_LN2_REST: tl.constexpr = tl.constexpr(float.fromhex("0x1.ef35793c7673p-45"))
# pi / 2 in three parts.
_HALF_PI_32: tl.constexpr = tl.constexpr(
    (1.5707963705062866, -4.371138828673793e-08, -1.7151245100058819e-15)
)
_HALF_PI_64: tl.constexpr = tl.constexpr(
    (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591698e-33)
)
_PI: tl.constexpr = tl.constexpr(math.pi)
_HALF_PI: tl.constexpr = tl.constexpr(math.pi / 2.0)
_QUARTER_PI: tl.constexpr = tl.constexpr(math.pi / 4.0)
_TWO_OVER_PI: tl.constexpr = tl.constexpr(2.0 / math.pi)
_TAN_EIGHTH: tl.constexpr = tl.constexpr(math.sqrt(2.0) - 1.0)
_EXPM1_32: tl.constexpr = tl.constexpr(tuple(1.0 / math.factorial(n) for n in range(2, 8)))
_EXPM1_64: tl.constexpr = tl.constexpr(tuple(1.0 / math.factorial(n) for n in range(2, 14)))
_SIN_32: tl.constexpr = tl.constexpr(k.SIN_F32)
_SIN_64: tl.constexpr = tl.constexpr(k.SIN_F64)
_COS_32: tl.constexpr = tl.constexpr(k.COS_F32)
_COS_64: tl.constexpr = tl.constexpr(k.COS_F64)
_ATAN_32: tl.constexpr = tl.constexpr(k.ATAN_F32)
_ATAN_64: tl.constexpr = tl.constexpr(k.ATAN_F64)
_ASIN_32: tl.constexpr = tl.constexpr(k.ASIN_F32)
_ASIN_64: tl.constexpr = tl.constexpr(k.ASIN_F64)
_ERFC_32: tl.constexpr = tl.constexpr(k.ERFC_F32)
_ERFC_64: tl.constexpr = tl.constexpr(k.ERFC_F64)
# ln((1 + s) / (1 - s)) = 2 s + s^3 (A[0] + A[1] s^2 + ...), with A[0] in two parts.
_LOG_FIRST: tl.constexpr = tl.constexpr((LOG_F64[0], -1.9639232512494783e-17))
_LOG_64: tl.constexpr = tl.constexpr(LOG_F64[1:])
_SIGN_64: tl.constexpr = tl.constexpr(-(1 << 63))


# -- arithmetic ------------------------------------------------------------------------------------


@triton.jit
def _like(value, x):
    """A constant in the shape and type of x."""
    return tl.full(x.shape, value, x.dtype)


@triton.jit
def fma(a, b, c):
    """a b + c with one rounding.

    Triton's interpreter rounds twice. There the error of the float64 product (Dekker 1971) and that
    of the sum are added to it, which leaves a double rounding in rare cases only.
    """
    if INTERPRETED:
        a, b = tl.broadcast(a, b)
        a, c = tl.broadcast(a, c)
        b, c = tl.broadcast(b, c)
        if c.dtype != tl.float64:
            return _fma(a, b, c)
        else:
            p, s = a * b, a * b + c
            ah, bh = _upper_half(a), _upper_half(b)
            al, bl = a - ah, b - bh
            error = ((ah * bh - p) + ah * bl + al * bh) + al * bl
            back = s - p
            r = s + (((p - (s - back)) + (c - back)) + error)
            return tl.where(r == r, r, s)
    else:
        return tl.fma(a, b, c)


@triton.jit
def _upper_half(a):
    """The upper 26 bits of a float64."""
    t = a * 134217729.0
    return t - (t - a)


@triton.jit
def _polynomial(t, C: tl.constexpr, N: tl.constexpr):
    """C[0] + C[1] t + ... + C[N - 1] t^(N - 1)."""
    p = _like(C[N - 1], t)
    for i in tl.static_range(N - 1):
        p = fma(p, t, _like(C[N - 2 - i], t))
    return p


@triton.jit
def smaller(a, b):
    """The minimum; NaN if either is."""
    return tl.minimum(a, b, propagate_nan=_ALL)


@triton.jit
def larger(a, b):
    """The maximum; NaN if either is."""
    return tl.maximum(a, b, propagate_nan=_ALL)


@triton.jit
def _between(x, low, high):
    """x moved into [low, high]; NaN stays."""
    return larger(smaller(x, _like(high, x)), _like(low, x))


@triton.jit
def divide(a, b):
    """a / b, rounded once."""
    a, b = tl.broadcast(a, b)
    if a.dtype == tl.float64:
        return a / b
    else:
        return tl.div_rn(a, b)


@triton.jit
def root(x):
    """The square root, rounded once."""
    if x.dtype == tl.float64:
        return tl.sqrt(x)
    else:
        return tl.sqrt_rn(x)


@triton.jit
def with_sign(y, x):
    """y >= 0 with the sign of x."""
    if x.dtype == tl.float64:
        sign = x.to(tl.int64, bitcast=True) & tl.full([], _SIGN_64, tl.int64)
        return (y.to(tl.int64, bitcast=True) | sign).to(tl.float64, bitcast=True)
    else:
        sign = x.to(tl.uint32, bitcast=True) & 0x80000000
        return (y.to(tl.uint32, bitcast=True) | sign).to(tl.float32, bitcast=True)


@triton.jit
def trunc(x):
    """Towards zero."""
    return with_sign(tl.floor(tl.abs(x)), x)


@triton.jit
def nearest(x):
    """To the nearest integer, ties to even."""
    a = tl.abs(x)
    if x.dtype == tl.float64:
        y = tl.where(a < 2.0**52, (a + 2.0**52) - 2.0**52, a)
    else:
        y = tl.where(a < 2.0**23, (a + 2.0**23) - 2.0**23, a)
    return with_sign(y, x)


# -- exponentials ----------------------------------------------------------------------------------


@triton.jit
def _reduced(x):
    """n and expm1(r) for x = n ln 2 + r, |r| <= ln 2 / 2, as far as 2^n is a number.

    Taylor's remainder is 6e-9 in float32 and 4e-18 in float64.
    """
    if x.dtype == tl.float64:
        shifted = x * _LOG2E + _ROUND_64
        n = shifted.to(tl.int64, bitcast=True).to(tl.int32)
        whole = shifted - _ROUND_64
        r = fma(whole, _like(-_LN2_LOW_64, x), fma(whole, _like(-_LN2_64, x), x))
        p = _polynomial(r, _EXPM1_64, 12)
    else:
        shifted = x * _LOG2E + _ROUND_32
        n = shifted.to(tl.int32, bitcast=True) - _ROUND_BITS_32
        whole = shifted - _ROUND_32
        r = fma(whole, _like(-_LN2_LOW_32, x), fma(whole, _like(-_LN2_32, x), x))
        p = _polynomial(r, _EXPM1_32, 6)
    return n, fma(r * r, p, r)


@triton.jit
def _power_of_two(n, F64: tl.constexpr):
    """2^n for a normal result."""
    if F64:
        return ((n + 1023).to(tl.int64) << 52).to(tl.float64, bitcast=True)
    else:
        return ((n + 127) << 23).to(tl.float32, bitcast=True)


@triton.jit
def _scaled(y, n):
    """y 2^n in two factors: 2^n itself leaves the normal numbers near the ends."""
    half = n >> 1
    F64: tl.constexpr = y.dtype == tl.float64
    return y * _power_of_two(half, F64) * _power_of_two(n - half, F64)


@triton.jit
def exp(x):
    """e^x."""
    if x.dtype == tl.float64:
        n, p = _reduced(_between(x, -746.0, 710.0))
    else:
        n, p = _reduced(_between(x, -104.0, 89.0))
    return _scaled(p + 1.0, n)


@triton.jit
def expm1(x):
    """e^x - 1."""
    if x.dtype == tl.float64:
        n, p = _reduced(_between(x, -50.0, 710.0))
        scale = _power_of_two(tl.minimum(n, 1000), True)
        return tl.where(x > 80.0, _scaled(p + 1.0, n), fma(scale, p, scale - 1.0))
    else:
        n, p = _reduced(_between(x, -30.0, 89.0))
        scale = _power_of_two(tl.minimum(n, 120), False)
        return tl.where(x > 60.0, _scaled(p + 1.0, n), fma(scale, p, scale - 1.0))


@triton.jit
def _expm1_positive(x):
    """e^x - 1 for x in [0, 40]."""
    n, p = _reduced(x)
    scale = _power_of_two(n, x.dtype == tl.float64)
    return fma(scale, p, scale - 1.0)


@triton.jit
def tanh(x):
    """(e^2x - 1) / (e^2x + 1)."""
    a = smaller(tl.abs(x), _like(20.0 if x.dtype == tl.float64 else 10.0, x))
    e = _expm1_positive(2.0 * a)
    return with_sign(divide(e, e + 2.0), x)


@triton.jit
def sinh(x):
    """(e^x - e^-x) / 2."""
    LARGE: tl.constexpr = 39.0 if x.dtype == tl.float64 else 19.0
    a = tl.abs(x)
    e = _expm1_positive(smaller(a, _like(LARGE + 1.0, x)))
    half = exp(0.5 * a)
    y = tl.where(a > LARGE, 0.5 * half * half, 0.5 * (e + divide(e, e + 1.0)))
    return with_sign(y, x)


@triton.jit
def cosh(x):
    """(e^x + e^-x) / 2."""
    LARGE: tl.constexpr = 39.0 if x.dtype == tl.float64 else 19.0
    a = tl.abs(x)
    half = exp(0.5 * a)
    e = half * half
    return tl.where(a > LARGE, 0.5 * half * half, 0.5 * e + divide(_like(0.5, e), e))


@triton.jit
def log(x):
    """ln x."""
    if x.dtype == tl.float64:
        small = x < 2.0**-1022
        y = tl.where(small, x * 2.0**54, x)
        y = -0.5 * minus_two_log_f64(tl.where(y > 0.0, y, 1.0))
        y = tl.where(small, y - 54.0 * _LN2_64, y)
    else:
        small = x < 2.0**-126
        y = tl.where(small, x * 2.0**24, x)
        e23, m = split_f32(tl.where(y > 0.0, y, 1.0), _HALF_BITS)
        # Subtracted from 0, so that ln 1 is 0 and not -0.
        y = 0.0 - 0.5 * log_f32(tl.where(small, e23 - (24 << 23), e23), 2.0 - 2.0 * m)
    y = tl.where(x == _INF, x, y)
    y = tl.where(x == 0.0, -_INF, y)
    return tl.where(x >= 0.0, y, float("nan"))


@triton.jit
def log1p(x):
    """ln(1 + x)."""
    u = 1.0 + x
    y = log(u)
    return tl.where((x == -1.0) | (x == _INF), y, y + divide(x - (u - 1.0), u))


# -- powers ----------------------------------------------------------------------------------------


@triton.jit
def power(x, y):
    """x^y; of a negative x for integers y, and NaN else."""
    x, y = tl.broadcast(x, y)
    if x.dtype == tl.float64:
        size = _power_positive(tl.abs(x), y)
    else:
        size = exp(y.to(tl.float64) * log(tl.abs(x).to(tl.float64))).to(tl.float32)
    whole = tl.floor(y) == y
    half = 0.5 * y
    odd = whole & (tl.floor(half) != half)
    below = with_sign(_like(1.0, x), x) < 0.0
    z = tl.where(below & odd, negative(size), size)
    z = tl.where((x < 0.0) & (x > -_INF) & ~whole, float("nan"), z)
    z = tl.where((x == -1.0) & (tl.abs(y) == _INF), 1.0, z)
    return tl.where((y == 0.0) | (x == 1.0), 1.0, z)


@triton.jit
def _power_positive(x, y):
    """x^y for x >= 0 in float64, from a logarithm in two parts.

    A relative error e of ln x is one of y ln x, up to 700 e, of the power.
    """
    high, low = _log_in_two(x)
    p = y * high
    rest = fma(y, high, negative(p)) + y * low
    inside = _between(p, -746.0, 710.0)
    n, q = _reduced(inside)
    # e^(r + rest) = e^r + e^r rest
    e = fma(q + 1.0, tl.where(inside == p, rest, 0.0), q) + 1.0
    return _scaled(e, n)


@triton.jit
def _log_in_two(x):
    """ln x for x >= 0 in two float64, relative error 2^-62: 2 atanh(s), s = (m - 1) / (m + 1)."""
    small = x < 2.0**-1022
    y = tl.where(small, x * 2.0**54, x)
    bits = tl.where(y > 0.0, y, 1.0).to(tl.int64, bitcast=True)
    e = ((bits >> 32).to(tl.int32) - 0x3FE6A09E) >> 20
    m = (bits - (e.to(tl.int64) << 52)).to(tl.float64, bitcast=True)
    f, g = m - 1.0, m + 1.0
    g_low = m - (g - 1.0)
    s = f / g
    s_low = (fma(negative(s), g, f) - s * g_low) / g
    t = s * s
    t_low = fma(s, s, negative(t)) + 2.0 * s * s_low
    b = t * _polynomial(t, _LOG_64, 7)
    a = b + _LOG_FIRST[0]
    a_low = b - (a - _LOG_FIRST[0]) + _LOG_FIRST[1]
    u = s * t
    u_low = fma(s, t, negative(u)) + (s * t_low + s_low * t)
    w = u * a
    w_low = fma(u, a, negative(w)) + (u * a_low + u_low * a)
    # e ln 2 + 2 s + w, from the largest to the smallest.
    count = tl.where(small, e - 54, e).to(tl.float64)
    high = count * _LN2_42
    first = high + 2.0 * s
    second = first + w
    low = (2.0 * s - (first - high)) + (w - (second - first))
    low += w_low + 2.0 * s_low + count * _LN2_REST
    total = second + low
    special = (x == 0.0) | ~(x < _INF)
    value = tl.where(x == 0.0, -_INF, tl.where(special, x, total))
    return value, tl.where(special, 0.0, low - (total - second))


# -- trigonometric functions -----------------------------------------------------------------------


@triton.jit
def _quadrant(x):
    """Multiples of pi / 2 in x, in the two low bits, and sine and cosine of the rest."""
    if x.dtype == tl.float64:
        shifted = x * _TWO_OVER_PI + _ROUND_64
        q = shifted.to(tl.int64, bitcast=True).to(tl.int32)
        n = shifted - _ROUND_64
        r = fma(n, _like(-_HALF_PI_64[0], x), x)
        r = fma(n, _like(-_HALF_PI_64[1], x), r)
        r = _between(fma(n, _like(-_HALF_PI_64[2], x), r), -0.79, 0.79)
        t = r * r
        s, c = _polynomial(t, _SIN_64, 6), _polynomial(t, _COS_64, 6)
    else:
        shifted = fma(x, _like(_TWO_OVER_PI, x), _like(_ROUND_32, x))
        q = shifted.to(tl.int32, bitcast=True)
        n = shifted - _ROUND_32
        r = fma(n, _like(-_HALF_PI_32[0], x), x)
        r = fma(n, _like(-_HALF_PI_32[1], x), r)
        # n is nearest but for the error of 2 / pi, which is 1/25 at the limit.
        r = _between(fma(n, _like(-_HALF_PI_32[2], x), r), -0.83, 0.83)
        t = r * r
        s, c = _polynomial(t, _SIN_32, 3), _polynomial(t, _COS_32, 3)
    s = fma(r * t, s, r)
    c = fma(t, fma(t, c, _like(-0.5, t)), _like(1.0, t))
    return q, s, c


@triton.jit
def _turned(q, s, c):
    """s, c, -s, -c for q = 0, 1, 2, 3."""
    y = tl.where((q & 1) != 0, c, s)
    if y.dtype == tl.float64:
        return tl.where((q & 2) != 0, negative(y), y)
    else:
        sign = (q.to(tl.uint32, bitcast=True) << 30) & 0x80000000
        return (y.to(tl.uint32, bitcast=True) ^ sign).to(tl.float32, bitcast=True)


@triton.jit
def sin(x):
    """Sine."""
    q, s, c = _quadrant(x)
    return _turned(q, s, c)


@triton.jit
def cos(x):
    """Cosine."""
    q, s, c = _quadrant(x)
    return _turned(q + 1, s, c)


@triton.jit
def tan(x):
    """Tangent."""
    q, s, c = _quadrant(x)
    odd = (q & 1) != 0
    return divide(tl.where(odd, negative(c), s), tl.where(odd, s, c))


@triton.jit
def atan2(y, x):
    """The angle of (x, y).

    From the quotient of the smaller and the larger; above tan(pi / 8), of what remains after an
    eighth of a turn: atan(a / b) = pi / 4 + atan((a - b) / (a + b)).
    """
    y, x = tl.broadcast(y, x)
    ay, ax = tl.abs(y), tl.abs(x)
    b = larger(ax, ay)
    a = smaller(ax, ay)
    # Both infinite, or both zero; and a + b must stay below infinity.
    a = tl.where(a == _INF, 1.0, a)
    b = tl.where((b == 0.0) | ((b == _INF) & (a == 1.0) & (ax == ay)), 1.0, b)
    scale = tl.where(b > 2.0**100, 0.25, 1.0)
    a, b = a * scale, b * scale
    far = a > b * _TAN_EIGHTH
    q = divide(tl.where(far, a - b, a), tl.where(far, a + b, b))
    t = q * q
    p = _polynomial(t, _ATAN_64, 11) if x.dtype == tl.float64 else _polynomial(t, _ATAN_32, 5)
    r = fma(q * t, p, q)
    r = tl.where(far, r + _QUARTER_PI, r)
    r = tl.where(ay > ax, _like(_HALF_PI, r) - r, r)
    r = tl.where(with_sign(_like(1.0, x), x) < 0.0, _like(_PI, r) - r, r)
    return with_sign(r, y)


@triton.jit
def atan(x):
    """Arc tangent."""
    return atan2(x, _like(1.0, x))


@triton.jit
def _asin_parts(x):
    """Whether |x| <= 1/2, and asin(s) of s = |x| there, of sqrt((1 - |x|) / 2) elsewhere."""
    a = tl.abs(x)
    near = a <= 0.5
    t = tl.where(near, a * a, 0.5 * (1.0 - a))
    s = tl.where(near, a, root(t))
    p = _polynomial(t, _ASIN_64, 13) if x.dtype == tl.float64 else _polynomial(t, _ASIN_32, 5)
    return near, fma(s * t, p, s)


@triton.jit
def asin(x):
    """Arc sine."""
    near, r = _asin_parts(x)
    return with_sign(tl.where(near, r, fma(r, _like(-2.0, r), _like(_HALF_PI, r))), x)


@triton.jit
def acos(x):
    """Arc cosine."""
    near, r = _asin_parts(x)
    inner = _like(_HALF_PI, r) - with_sign(r, x)
    outer = tl.where(x < 0.0, fma(r, _like(-2.0, r), _like(_PI, r)), 2.0 * r)
    return tl.where(near, inner, outer)


# -- error functions -------------------------------------------------------------------------------


@triton.jit
def erf(x):
    """Error function."""
    return tl.erf(x)


@triton.jit
def erfc(x):
    """1 - erf(x): a polynomial times exp(-x^2) / (1 + 2 |x|), with x^2 in two parts."""
    a = tl.abs(x)
    if x.dtype == tl.float64:
        a = smaller(a, _like(28.0, x))
        p = _polynomial(divide(a - 3.0, a + 3.0), _ERFC_64, 23)
    else:
        a = smaller(a, _like(11.0, x))
        p = _polynomial(divide(a - 3.0, a + 3.0), _ERFC_32, 10)
    square = a * a
    e = exp(negative(square))
    e = fma(negative(e), fma(a, a, negative(square)), e)
    y = divide(p, fma(a, _like(2.0, a), _like(1.0, a))) * e
    return tl.where(x < 0.0, 2.0 - y, y)
