"""The numbers that define the noise: thresholds by exact arithmetic, polynomials against 40 digits.

The implementations share these constants, so that comparing them with each other would not see a
wrong one.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from sdekit_kernels.philox import constants as k


def horner(coefficients: Sequence[float], t: mpmath.mpf) -> mpmath.mpf:
    """The polynomial of the coefficients, from the constant term up, without rounding."""
    p = mpmath.mpf(0)
    for c in reversed(coefficients):
        p = p * t + mpmath.mpf(c)
    return p


def test_threshold_is_the_first_word_above_the_square_root_of_one_half():
    # u = (2 w + 1) / 2^33 > sqrt(1/2) means 2 (2 w + 1)^2 > 2^66.
    assert 2 * (2 * k.SQRT_HALF_WORD + 1) ** 2 > 1 << 66
    assert 2 * (2 * k.SQRT_HALF_WORD - 1) ** 2 < 1 << 66


def test_bits_are_those_of_the_square_root_of_one_half():
    for bits, kind in ((k.SQRT_HALF_BITS, np.float32), (k.SQRT_HALF_BITS_64, np.float64)):
        integer = np.uint32 if kind is np.float32 else np.uint64
        value = integer(bits).view(kind)
        above, below = np.nextafter(value, kind(1)), np.nextafter(value, kind(0))
        # The nearest float: sqrt(1/2) lies between the middles to its neighbours.
        low = (Fraction(float(value)) + Fraction(float(below))) / 2
        high = (Fraction(float(value)) + Fraction(float(above))) / 2
        assert low**2 < Fraction(1, 2) < high**2


LOG_RANGE = (mpmath.sqrt(0.5), mpmath.sqrt(2))
POLYNOMIALS = {
    # name: (relative error, range of the argument, exact function, polynomial form)
    "LOG_F32": (
        3.1e-8,
        LOG_RANGE,
        mpmath.log,
        lambda m: (m - 1) - (m - 1) ** 2 * horner(k.LOG_F32, m - 1) / 2,
    ),
    "SIN_F32": (
        3.4e-9,
        (0, 1),
        lambda a: mpmath.sinpi(a / 4),
        lambda a: a * horner(k.SIN_F32, a * a),
    ),
    "COS_F32": (
        6.5e-11,
        (0, 1),
        lambda a: mpmath.cospi(a / 4),
        lambda a: 1 + a * a * horner(k.COS_F32, a * a),
    ),
    # float64: what is left after the coefficients are rounded to 53 bits.
    "LOG_F64": (
        2.0**-55,
        LOG_RANGE,
        mpmath.log,
        lambda m: (m - 1) / (m + 1) * (2 + _square(m) * horner(k.LOG_F64, _square(m))),
    ),
    "SIN_F64": (
        2.0**-53,
        (0, 1),
        lambda a: mpmath.sinpi(a / 4),
        lambda a: a * horner(k.SIN_F64, a * a),
    ),
    "COS_F64": (
        2.0**-55,
        (0, 1),
        lambda a: mpmath.cospi(a / 4),
        lambda a: 1 + a * a * horner(k.COS_F64, a * a),
    ),
}


def _square(m: mpmath.mpf) -> mpmath.mpf:
    return ((m - 1) / (m + 1)) ** 2


@pytest.mark.parametrize("name", POLYNOMIALS)
def test_polynomial_has_the_stated_error(name):
    bound, (low, high), exact, polynomial = POLYNOMIALS[name]
    with mpmath.workdps(40):
        worst = mpmath.mpf(0)
        for i in range(2001):
            # Chebyshev points and the ends: an error that alternates is largest near the ends too.
            x = low + (high - low) * (1 - mpmath.cospi(mpmath.mpf(i) / 2000)) / 2
            want = exact(x)
            if want != 0 and abs(want) > mpmath.mpf(10) ** -30:
                worst = max(worst, abs(polynomial(x) / want - 1))
        print(name, mpmath.nstr(worst, 4), "allowed", mpmath.nstr(mpmath.mpf(bound), 4))
        assert worst <= bound


def test_minus_two_ln_two():
    assert float(-2 * mpmath.log(2)) == k.MINUS_TWO_LN2
