"""The bound of log P(k) beside the integral that it bounds, for Gaussian densities."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from sdekit.likelihood.dequantization import dequantization_bound
from sdekit.likelihood.transform import DataTransform

LEVELS, LOW, HIGH = 8, -1.0, 1.0
MEAN, STD = 0.1, 0.15  # bins of width 0.25: the density changes much within one
TRANSFORM = DataTransform(LEVELS, LOW, HIGH)


def log_prob(x):
    return torch.distributions.Normal(MEAN, STD).log_prob(x).sum(1)


def edges(k):
    width = (HIGH - LOW) / LEVELS
    return LOW + width * k.double(), LOW + width * (k.double() + 1.0)


def mass(low, high, std):
    """The Gaussian's mass of [low, high), from the nearer tail, so that nothing cancels."""
    low, high = (low - MEAN) / std, (high - MEAN) / std
    flip = low > 0.0
    low, high = torch.where(flip, -high, low), torch.where(flip, -low, high)
    return torch.special.ndtr(high) - torch.special.ndtr(low)


def truth(k):
    """log P(k)."""
    return mass(*edges(k), STD).log().sum(1)


def relative_variance(k):
    """Var(p) / E[p]^2 of one component over its bin: E[p^2] is a Gaussian's mass too."""
    low, high = edges(k)
    square = mass(low, high, STD / math.sqrt(2.0)) / (2.0 * math.sqrt(math.pi) * STD)
    return square * (high - low) / mass(low, high, STD).square() - 1.0


def grid(d):
    line = torch.arange(1, 7)
    return line.view(-1, 1) if d == 1 else torch.cartesian_prod(line, line)


@pytest.mark.parametrize("d", [1, 2])
def test_below_the_truth_and_tighter_with_draws(d):
    k = grid(d)
    want = truth(k)
    found = [
        dequantization_bound(
            log_prob, k, TRANSFORM, draws=n, repeats=64, seed=n, dtype=torch.float64
        )
        for n in (1, 4, 16)
    ]
    for got in found:
        assert got.log_prob.shape == got.std_error.shape == (len(k),)
        assert (got.log_prob < want + 4.0 * got.std_error).all()
    for loose, tight in pairwise(found):
        error = (loose.std_error.square() + tight.std_error.square()).sqrt()
        assert (tight.log_prob > loose.log_prob - 4.0 * error).all()
        assert float(tight.log_prob.mean()) > float(loose.log_prob.mean())
    # K = 1 in closed form: E (x - mean)^2 over the bin.
    low, high = edges(k)
    second = ((high - MEAN) ** 3 - (low - MEAN) ** 3) / (3.0 * (high - low))
    single = -0.5 * second / STD**2 - math.log(STD * math.sqrt(2 * math.pi))
    single = (single + TRANSFORM.log_abs_det).sum(1)
    assert ((found[0].log_prob - single).abs() < 4.0 * found[0].std_error).all()
    assert (single < want).all()


def test_what_many_draws_leave():
    k = grid(1)
    draws = 32
    got = dequantization_bound(log_prob, k, TRANSFORM, draws=draws, repeats=40, dtype=torch.float64)
    left = relative_variance(k).squeeze(1) / (2.0 * draws)
    # log(1 + e) = e - e^2 / 2 + ...: what follows is of order 1 / K^2, with the cube of e.
    assert (
        (got.log_prob - truth(k) + left).abs() < 4.0 * got.std_error + 3.0 * left.square()
    ).all()


@pytest.mark.parametrize("repeats", [1, 8])
def test_the_standard_error_is_honest(repeats):
    k = torch.full((400, 1), 6)
    draws = 512 // repeats
    got = dequantization_bound(
        log_prob, k, TRANSFORM, draws=draws, repeats=repeats, dtype=torch.float64
    )
    # 400 equal samples with noise of their own: the spread of the estimates is what each one says.
    ratio = float(got.log_prob.var() / got.std_error.square().mean())
    # Both variances have a relative standard error of sqrt(2 / 400) = 0.07, tails of p add to it.
    assert 0.6 < ratio < 1.5
    left = float(relative_variance(k[:1])) / (2.0 * draws)
    assert (
        abs(float(got.log_prob.mean()) - float(truth(k[:1])) + left)
        < 4.0 * math.sqrt(float(got.std_error.square().mean()) / 400) + 3.0 * left**2
    )


def test_bits_and_dtypes():
    k = grid(2).view(18, 2, 2)
    got = dequantization_bound(lambda x: log_prob(x.flatten(1)), k, TRANSFORM, draws=4)
    assert got.dim == 4 and got.log_prob.dtype == torch.float32
    torch.testing.assert_close(got.bits_per_dim, -got.log_prob / (4.0 * math.log(2.0)))
    torch.testing.assert_close(got.bits_std_error, got.std_error / (4.0 * math.log(2.0)))
    # A density of 1 over the interval costs log2(levels) bits, whatever the draws.
    flat = DataTransform(LEVELS, 0.0, 1.0)
    got = dequantization_bound(lambda x: torch.zeros(len(x)), k, flat, draws=3)
    torch.testing.assert_close(got.bits_per_dim, torch.full((18,), 3.0))
    assert (got.std_error == 0).all()


def test_one_draw_is_plain_dequantization():
    k = grid(2)
    got = dequantization_bound(log_prob, k, TRANSFORM, draws=1, seed=3, dtype=torch.float64)
    x = TRANSFORM.forward(k, seed=3, dtype=torch.float64)
    torch.testing.assert_close(got.log_prob, log_prob(x) + 2.0 * TRANSFORM.log_abs_det)
    assert got.std_error.isnan().all()


def test_samples_apart():
    k = grid(2)
    options = {"draws": 4, "repeats": 2, "seed": 3, "dtype": torch.float64}
    whole = dequantization_bound(log_prob, k, TRANSFORM, **options)
    part = dequantization_bound(log_prob, k[7:9], TRANSFORM, first_sample=7, **options)
    assert torch.equal(part.log_prob, whole.log_prob[7:9])
    assert torch.equal(part.std_error, whole.std_error[7:9])

    def broken(x):
        value = log_prob(x)
        value[0], value[1] = math.nan, -math.inf
        return value

    got = dequantization_bound(broken, k, TRANSFORM, **options)
    assert got.log_prob[0].isnan() and got.log_prob[1] == -math.inf
    assert torch.equal(got.log_prob[2:], whole.log_prob[2:])


def test_wrong_arguments():
    k = grid(2)
    with pytest.raises(TypeError, match="log_prob must be callable"):
        dequantization_bound(3, k, TRANSFORM)
    with pytest.raises(TypeError, match="DataTransform"):
        dequantization_bound(log_prob, k, "uniform")
    with pytest.raises(ValueError, match="DataTransform"):
        dequantization_bound(log_prob, k, DataTransform(LEVELS, LOW, HIGH, dequantize=False))
    with pytest.raises(ValueError, match="draws"):
        dequantization_bound(log_prob, k, TRANSFORM, draws=0)
    with pytest.raises(ValueError, match="one number a sample"):
        dequantization_bound(lambda x: x, k, TRANSFORM)
    with pytest.raises(ValueError, match=r"integers in 0\.\.7"):
        dequantization_bound(log_prob, k + 5, TRANSFORM)
    with pytest.raises(ValueError, match="D >= 1"):
        dequantization_bound(log_prob, torch.zeros(3), TRANSFORM)
