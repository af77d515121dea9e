"""The noise is standard normal and independent: fixed seeds, bounds in standard errors.

The fast tests take 2 x 10^6 normals, the slow ones 10^8 or more (the tails 4 x 10^9). About 150
statistics are held to 5 standard errors (two-sided probability 6e-7 each): a correct generator with
a random seed fails one of them with probability 1e-4, and these seeds are fixed.
"""

from __future__ import annotations

import pytest

from tests.kernels.noise_statistics import (
    PAIRS,
    bin_counts,
    chi_square_errors,
    correlation_errors,
    kolmogorov_p_value,
    moment_errors,
    pieces,
    tail_counts,
    tail_p_values,
)

ERRORS = 5.0
P_VALUE = 6e-7
"""Two-sided probability of 5 standard errors."""
SIGMAS = (4, 5, 6)
LAYOUTS = {
    "D = 4096": {"dim": 4096, "seed": 21},
    "D = 4096, step 77": {"dim": 4096, "seed": 22, "step": 77},
    "D = 3": {"dim": 3, "seed": 23, "step": 6},
    "D = 1": {"dim": 1, "seed": 24, "step": 3},
}
SIZES = [
    pytest.param(2 * 10**6, id="2e6"),
    pytest.param(12 * 10**7, id="1.2e8", marks=pytest.mark.slow),
]
PAIR_SIZES = [
    pytest.param(10**6, id="1e6"),
    pytest.param(5 * 10**7, id="5e7", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("total", SIZES)
def test_moments_to_the_eighth(total, layout):
    errors = moment_errors(pieces(total, **LAYOUTS[layout]))
    print(layout, errors)
    assert max(map(abs, errors.values())) < ERRORS, errors


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("total", SIZES)
def test_distribution(total, layout):
    counts = bin_counts(pieces(total, **LAYOUTS[layout]), 1 << 16)
    p_value, errors = kolmogorov_p_value(counts), chi_square_errors(counts)
    print(layout, "Kolmogorov-Smirnov p", p_value, "chi-square", errors)
    # Too good a fit would be as suspicious as a bad one.
    assert P_VALUE < p_value < 1 - P_VALUE
    assert abs(errors) < ERRORS


@pytest.mark.parametrize(
    "total", [*SIZES[:1], pytest.param(4 * 10**9, id="4e9", marks=pytest.mark.slow)]
)
def test_tails(total):
    """Counts of |z| above 4, 5 and 6; at 4 x 10^9 about 253000, 2290 and 7.9 are expected.

    That u lies on a grid of 2^-32 lowers the probability of |z| > 6 by 1.2 parts in 1000 and that
    of |z| > 5 by 2 in 10^6 (summed over the grid): far below what these counts can see.
    """
    counts, drawn = tail_counts(pieces(total, dim=4096, seed=25), SIGMAS)
    p_values = tail_p_values(counts, drawn, SIGMAS)
    print(drawn, counts, p_values)
    assert min(p_values) > P_VALUE, (counts, drawn)


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("total", PAIR_SIZES)
def test_no_correlation(total, pair):
    errors = correlation_errors(PAIRS[pair](total))
    print(pair, errors)
    assert max(map(abs, errors.values())) < ERRORS, errors
