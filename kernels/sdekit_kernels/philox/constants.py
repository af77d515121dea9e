"""The numbers that define the noise, once for the three implementations.

Counter-based generator: Philox4x32-10 (Salmon, Moraes, Dror & Shaw 2011, "Parallel random
numbers: as easy as 1, 2, 3"). Words become normals by Box & Muller (1958):

    u = (w0 + 1/2) 2^-32,  r = sqrt(-2 ln u),  angle = 2 pi w1 / 2^32,
    z = r cos(angle), r sin(angle)

float32 evaluates ln, sin and cos by the polynomials below. All are relative minimax fits (Remez
exchange in 60-digit arithmetic, then rounded), so that a normal is good to a few units in its last
place wherever it lies, near zero too:

* ln: u = m 2^e with m in [sqrt(1/2), sqrt 2); -2 ln u = -2 ln2 e - 2 f + f^2 P(f), f = m - 1.
  For u >= sqrt(1/2), f = u - 1 is made from the complement of the word, which keeps all its bits.
* sin and cos: the two top bits of w1 (after adding an eighth of a turn) are the quadrant; the rest
  is a in [-1, 1) with angle pi/4 a: sin = a S(a^2), cos = 1 + a^2 C(a^2).

float64 takes the same words through longer polynomials: ln m = 2 atanh(s), s = f / (2 + f),
2 atanh(s) = s (2 + s^2 A(s^2)).
"""

from __future__ import annotations

from typing import Final

PHILOX_M0: Final = 0xD2511F53
PHILOX_M1: Final = 0xCD9E8D57
PHILOX_W0: Final = 0x9E3779B9
PHILOX_W1: Final = 0xBB67AE85
PHILOX_ROUNDS: Final = 10

SQRT_HALF_WORD: Final = 3037000500
"""Smallest word w with (w + 1/2) 2^-32 > sqrt(1/2)."""
SQRT_HALF_BITS: Final = 0x3F3504F3
"""float32 bits of sqrt(1/2): subtracting them leaves the exponent e in the top nine bits."""
SQRT_HALF_BITS_64: Final = 0x3FE6A09E667F3BCD

MINUS_TWO_LN2: Final = -1.3862943611198906

# Coefficients from the constant term up.
LOG_F32: Final = (
    0.99999983212936454729,
    -0.66667900441942387352,
    0.50003510483269276018,
    -0.39924144287501891661,
    0.33141017072078838005,
    -0.29835947997425542411,
    0.28615038265971264718,
    -0.17469676920874295022,
)
"""-2 (ln(1 + f) - f) / f^2, relative error of ln 3.0e-8 (2^-25)."""
LOG_F32_IN_G: Final = tuple(0.25 * (-0.5) ** n * c for n, c in enumerate(LOG_F32))
"""The same in g = -2 f, over g^2: -2 ln(1 - g/2) = g + g^2 (...) without a product by -2.

All factors are powers of two and nothing becomes subnormal, as g is 0 or 2^-32 at the least:
whoever evaluates the one has the bits of the other.
"""
SIN_F32: Final = (
    0.78539816085417466808,
    -0.080745432529154931223,
    0.0024900010240289619437,
    -0.000035950452251930326368,
)
"""sin(pi/4 a) / a in a^2, relative error 3.3e-9."""
COS_F32: Final = (
    -0.30842513564941795836,
    0.0158543266228460161,
    -0.0003259400798657603532,
    3.5303380568529241766e-6,
)
"""(cos(pi/4 a) - 1) / a^2 in a^2, relative error of cos 6.4e-11."""

LOG_F64: Final = (
    0.66666666666666661002,
    0.40000000000006223113,
    0.28571428569093009855,
    0.22222222645785336038,
    0.18181775742228852278,
    0.15387087561186507537,
    0.1325018711645043787,
    0.13250726369213836215,
)
"""(2 atanh(s) / s - 2) / s^2 in s^2, relative error of ln 8.1e-21."""
SIN_F64: Final = (
    0.78539816339744830961,
    -0.08074551218828078152,
    0.0024903945701927162754,
    -0.000036576204182146400889,
    3.1336168891732802686e-7,
    -1.7572474176213522691e-9,
    6.9481520383652879708e-12,
    -2.0225313925851048893e-14,
)
"""Relative error 1.9e-21."""
COS_F64: Final = (
    -0.30842513753404245381,
    0.015854344243815425962,
    -0.00032599188692675889112,
    3.5908604460588579639e-6,
    -2.4611364051066959444e-8,
    1.1500511888290448679e-10,
    -3.8581555655880353155e-13,
)
"""Relative error of cos 3.9e-20."""
