"""The reference's emulated float32 operations against exact rational arithmetic.

Everything else is compared with the reference to the last bit, so its fused multiply-add must be
right in the cases that tempt a double rounding: sums that lie on, or a hair beside, the middle of
two float32 numbers.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from sdekit_kernels.philox.reference import _fma32, _horner32, _multiply, _round32

# Away from overflow and from subnormal results, which the noise never meets.
FLOATS = st.floats(min_value=-(2.0**20), max_value=2.0**20, width=32).map(
    lambda v: v if abs(v) > 2.0**-20 else 0.0
)


def round_to_float32(exact: Fraction) -> float:
    """Nearest float32, ties to even, by comparing exact distances of the neighbours."""
    near = np.float32(float(exact))
    candidates = [np.nextafter(near, np.float32(side)) for side in (-np.inf, np.inf)] + [near]
    even = {float(c): int(np.float32(c).view(np.int32)) & 1 for c in candidates}
    return min(even, key=lambda c: (abs(Fraction(c) - exact), even[c]))


def fma(a: float, b: float, c: float) -> float:
    """The reference's fused multiply-add of three numbers."""
    a_, b_, c_ = (torch.tensor([v], dtype=torch.float64) for v in (a, b, c))
    return float(_fma32(a_, b_, c_))


@given(FLOATS, FLOATS, FLOATS)
@example(1.0 + 2.0**-23, 1.0 - 2.0**-23, -1.0)  # what is left is what a rounded product loses
@example(1.0 + 2.0**-12, 1.0 + 2.0**-12, 2.0**-24)
def test_fma_rounds_once(a, b, c):
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    assert fma(a, b, c) == round_to_float32(exact)


@given(
    st.integers(1 << 23, (1 << 24) - 1).flatmap(lambda m: st.sampled_from([m, -m])),
    st.sampled_from([-1.0, 1.0]),
    st.integers(12, 23),
)
@example(1 << 23, 1.0, 23)
def test_fma_beside_the_middle_of_two_floats(m, sign, k):
    """m +- (1/2 - 2^-2k / 2): below the middle by less than float64's last bit where k > 14.

    Rounding to float64 first lands on the middle, and rounding that to even may go the wrong way.
    """
    a, b = 1.0 + 2.0**-k, sign * (1.0 - 2.0**-k) / 2.0
    assert fma(a, b, float(m)) == round_to_float32(Fraction(a) * Fraction(b) + m)
    assert fma(1.0, sign / 2.0, float(m)) == round_to_float32(Fraction(sign) / 2 + m)


@given(st.lists(FLOATS, min_size=2, max_size=8), st.floats(-1, 1, width=32))
def test_horner_is_a_chain_of_fmas(coefficients, t):
    if t != 0 and abs(t) < 2.0**-20:
        t = 0.5
    p = coefficients[-1]
    for c in reversed(coefficients[:-1]):
        exact = Fraction(p) * Fraction(t) + Fraction(c)
        if exact != 0 and abs(exact) < Fraction(1, 1 << 60):
            return  # the noise's polynomials have no root near their arguments
        p = round_to_float32(exact)
    got = _horner32(torch.tensor([t], dtype=torch.float64), tuple(coefficients))
    assert float(got) == p


@given(st.floats(-(2.0**30), 2.0**30), st.floats(-(2.0**10), 2.0**10))
def test_round32_is_round_to_nearest(x, y):
    for v in (x, y, x * 2.0**-20):
        if v == 0 or abs(v) > 2.0**-100:
            got = float(_round32(torch.tensor(v, dtype=torch.float64)))
            assert got == round_to_float32(Fraction(v))


@given(st.integers(0, (1 << 32) - 1), st.integers(0, (1 << 32) - 1))
@example((1 << 32) - 1, (1 << 32) - 1)
def test_words_multiply_without_overflow(m, c):
    high, low = _multiply(m, torch.tensor(c))
    assert (int(high) << 32) + int(low) == m * c
