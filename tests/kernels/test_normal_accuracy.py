"""How far a normal is from the exact function of its two words, everywhere and at the borders."""

from __future__ import annotations

import math

import mpmath
import pytest
import torch

from tests.kernels.bits import same_bits
from tests.kernels.probes import extreme_words, numba_pairs, torch_pairs, triton_pairs

RELATIVE32 = 6.5 * 2.0**-24
"""Bound of float32's relative error, 3.9e-7 (DESIGN allows 6e-7), in half units of 1.

The radius has 3/2 of the 3 half units of -2 ln u (one rounding of each of its last two operations
and the polynomial's error), and 1 of the square root; sine and cosine have 3 (the square of the
argument, the polynomial with its rounded coefficients, the last operation); the product adds 1.
Largest seen in 2^26 pairs: 2.9e-7.
"""
RELATIVE64 = 5 * 2.0**-53
"""The same in float64; largest seen 3.5 half units."""


def words(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """n random pairs, and each extreme word with a random partner on either side."""
    generator = torch.Generator().manual_seed(seed)
    extreme = extreme_words()

    def random(k: int) -> torch.Tensor:
        return torch.randint(0, 1 << 32, (k,), generator=generator)

    few = torch.tensor([0, 1, 3037000499, 3037000500, (1 << 32) - 2, (1 << 32) - 1])
    quarter = torch.arange(8) << 29
    grid0, grid1 = torch.meshgrid(few, quarter, indexing="ij")
    k = len(extreme)
    w0 = torch.cat([random(n), extreme, random(k), grid0.flatten()])
    w1 = torch.cat([random(n), random(k), extreme, grid1.flatten()])
    return w0, w1


def relative_error(z: torch.Tensor, exact: torch.Tensor) -> float:
    """Largest |z - exact| / |exact|; where exact is 0, z must be 0."""
    assert (z[exact == 0] == 0).all()
    error = (z.double() - exact).abs() / exact.abs()
    return float(torch.where(exact == 0, 0.0, error).max())


def test_float32_is_accurate_everywhere():
    w0, w1 = words(1 << 18, 1)
    exact = torch_pairs(w0, w1, torch.float64)
    z = numba_pairs(w0, w1, torch.float32)
    assert relative_error(z, exact) < RELATIVE32 < 6e-7
    assert same_bits(z, torch_pairs(w0, w1, torch.float32))


@pytest.mark.slow
def test_float32_is_accurate_at_2_to_the_26_pairs():
    for seed in range(64):
        w0, w1 = words(1 << 20, seed)
        exact = torch_pairs(w0, w1, torch.float64)
        z = numba_pairs(w0, w1, torch.float32)
        assert relative_error(z, exact) < RELATIVE32
        assert same_bits(z, torch_pairs(w0, w1, torch.float32))


def test_triton_at_extreme_words(triton_device):
    w0, w1 = words(1 << 14, 2)
    got = triton_pairs(w0, w1, torch.float32, triton_device)
    expected = numba_pairs(w0, w1, torch.float32)
    assert same_bits(got, expected)
    exact = torch_pairs(w0, w1, torch.float64)
    assert (
        relative_error(triton_pairs(w0, w1, torch.float64, triton_device), exact) < 2 * RELATIVE64
    )


def test_float64_against_fifty_digits():
    w0, w1 = words(500, 3)
    keep = torch.cat([torch.arange(500), torch.arange(500, len(w0), 17), torch.arange(-48, 0)])
    w0, w1 = w0[keep], w1[keep]
    with mpmath.workdps(50):
        for z in (numba_pairs(w0, w1, torch.float64), torch_pairs(w0, w1, torch.float64)):
            for a, b, x, y in zip(w0.tolist(), w1.tolist(), *z.tolist(), strict=True):
                radius = mpmath.sqrt(-2 * mpmath.log((mpmath.mpf(a) + 0.5) / 2**32))
                turn = mpmath.mpf(b) / 2**31
                for got, exact in (
                    (x, radius * mpmath.cospi(turn)),
                    (y, radius * mpmath.sinpi(turn)),
                ):
                    assert abs(got - exact) <= RELATIVE64 * abs(exact), (a, b)


def test_quadrant_borders_are_exact():
    """A quarter of a turn gives a zero and the radius itself, with the right signs."""
    w1 = torch.arange(4) << 30
    w0 = torch.full_like(w1, 1 << 31)
    radius = math.sqrt(-2 * math.log((2**31 + 0.5) / 2**32))
    for dtype in (torch.float32, torch.float64):
        x, y = numba_pairs(w0, w1, dtype)
        r = float(torch.tensor(radius, dtype=dtype))
        assert torch.allclose(x, torch.tensor([r, 0, -r, 0], dtype=dtype), rtol=3e-7, atol=0)
        assert torch.allclose(y, torch.tensor([0, r, 0, -r], dtype=dtype), rtol=3e-7, atol=0)


def test_largest_and_smallest_radius():
    """The words 0 and 2^32 - 1: u = 2^-33, and u = 1 - 2^-33, where 1 - u is all that counts."""
    w0 = torch.tensor([0, (1 << 32) - 1])
    x, _ = numba_pairs(w0, torch.zeros(2, dtype=torch.int64), torch.float32)
    expected = torch.tensor([math.sqrt(66 * math.log(2)), math.sqrt(-2 * math.log1p(-(2.0**-33)))])
    assert torch.allclose(x, expected, rtol=RELATIVE32, atol=0)
