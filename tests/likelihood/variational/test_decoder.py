"""Probabilities of bins: against 60 digits, summing to one, and as the published code has them."""

from __future__ import annotations

import math

import mpmath
import pytest
import torch

from sdekit.likelihood import DataTransform
from sdekit.likelihood.variational import decoder
from sdekit.likelihood.variational.bins import PUBLISHED, Bins, make_bins, place

F64 = torch.float64


def exact_log_interval(lower, upper):
    with mpmath.workdps(60):
        low, high = mpmath.mpf(lower), mpmath.mpf(upper)
        if low + high > 0:
            low, high = -high, -low
        root = mpmath.sqrt(2)
        mass = (mpmath.erfc(-high / root) - mpmath.erfc(-low / root)) / 2
        # Deep in the tail 60 digits of the difference are still 20 at least.
        return mpmath.log(mass)


@pytest.mark.parametrize("width", [1e-9, 1e-5, 0.009, 0.011, 0.3, 1.0, 4.0, 30.0])
def test_log_interval_against_many_digits(width):
    middles = [0.0, 1e-3, 0.4, 0.5 * width, -0.5 * width, 1.7, -3.0, 9.0, -25.0, 80.0, -1e3]
    lower = torch.tensor(middles, dtype=F64) - 0.5 * width
    upper = lower + width
    want = [
        float(exact_log_interval(a, b)) for a, b in zip(lower.tolist(), upper.tolist(), strict=True)
    ]
    got = decoder.log_interval(lower, upper)
    # A narrow interval's ends are themselves rounded: 1e-16 (1 + |m|) of a width. log_ndtr's own
    # error is some units in its last place.
    rounding = 4e-16 * (1.0 + lower.abs()) / width + 1e-14 * (1.0 + lower.square())
    off = (got - torch.tensor(want, dtype=F64)).abs()
    assert bool((off <= rounding + 1e-14).all()), off / rounding


@pytest.mark.parametrize("rule", [decoder.discretized, decoder.discretized_tanh])
@pytest.mark.parametrize("std", [0.003, 0.1, 2.0])
def test_bins_share_one(rule, std):
    transform = DataTransform(64, -1.0, 1.0)
    x0 = place(torch.arange(64).view(-1, 1), transform, F64)
    bins = make_bins(x0, transform)
    for mean in (-1.7, -0.98, 0.1, 0.999, 3.0):
        cost = rule(x0 - mean, torch.full_like(x0, std), bins)
        # The published floor of 1e-12 gives 64 bins 6e-11 too much.
        assert float((-cost).exp().sum()) == pytest.approx(1.0, abs=1e-10)


def test_published_points_and_tanh():
    k = torch.arange(256)
    x = place(k.view(-1, 1), PUBLISHED, F64)
    torch.testing.assert_close(x[:, 0], k.double() / 127.5 - 1.0, rtol=0.0, atol=1e-15)
    bins = make_bins((k / 127.5 - 1.0).view(-1, 1).double(), PUBLISHED)  # float32's rounding passes
    assert bins.half == pytest.approx(1.0 / 255.0, rel=1e-15)
    assert bins.lowest.nonzero()[:, 0].tolist() == [0]
    assert bins.highest.nonzero()[:, 0].tolist() == [255]
    # Their thresholds and their formula, written out.
    mean, scale = 0.37, 0.06

    def cdf(u):
        return 0.5 * (1.0 + math.tanh(math.sqrt(2.0 / math.pi) * (u + 0.044715 * u**3)))

    want = []
    for value in x[:, 0].tolist():
        plus, minus = cdf((value - mean + 1 / 255) / scale), cdf((value - mean - 1 / 255) / scale)
        p = plus if value < -0.999 else 1.0 - minus if value > 0.999 else plus - minus
        want.append(-math.log(max(p, 1e-12)))
    got = decoder.discretized_tanh(x - mean, torch.full_like(x, scale), bins)
    torch.testing.assert_close(got[:, 0], torch.tensor(want, dtype=F64), rtol=1e-9, atol=1e-9)
    exact = decoder.discretized(x - mean, torch.full_like(x, scale), bins)
    near = (x - mean).abs() < 2.0 * scale
    assert float((got - exact)[near].abs().max()) < 0.01
    far = (x - mean).abs() > 8.0 * scale
    assert float(got[far].max()) == pytest.approx(12.0 * math.log(10.0))
    assert float(exact[far].min()) > 30.0


def test_gaussian_density():
    law = torch.distributions.Normal(torch.zeros((), dtype=F64), 0.3)
    r = torch.linspace(-2.0, 2.0, 7, dtype=F64)
    got = decoder.gaussian(r, torch.full_like(r, 0.3))
    torch.testing.assert_close(got, -law.log_prob(r))


def test_float32_points_are_found_and_others_refused():
    for transform in (PUBLISHED, DataTransform(256, 0.0, 1.0), DataTransform(17, -3.0, 5.0)):
        k = torch.arange(transform.levels).view(-1, 1)
        bins = make_bins(place(k, transform), transform)
        assert bins.lowest.sum() == bins.highest.sum() == 1
    x = DataTransform(256).forward(torch.full((2, 3), 7))
    with pytest.raises(ValueError, match="middles of the bins"):
        make_bins(x, DataTransform(256))
    with pytest.raises(ValueError, match=r"x0\[0, 0\] = 1\.0"):
        make_bins(torch.full((1, 1), 1.0 + 1.0 / 256), DataTransform(256))
    assert isinstance(make_bins(torch.full((1, 1), math.nan), PUBLISHED), Bins)


@pytest.mark.parametrize("width", [1e-12, 1e-3, 0.2, 5.0])
def test_gradients_are_finite_and_right(width):
    # The losses of training differentiate the decoder: no branch that is not taken may leak NaN.
    lower = torch.tensor([-1e3, -30.0, -3.0, -0.1, 0.0, 0.4, 7.0, 200.0], dtype=F64)

    def value(shift):
        return decoder.log_interval(lower + shift, lower + shift + width)

    shift = torch.zeros_like(lower, requires_grad=True)
    (slope,) = torch.autograd.grad(value(shift).sum(), shift)
    # (phi(b) - phi(a)) / (Phi(b) - Phi(a)).
    with mpmath.workdps(60):
        want = []
        for a in lower.tolist():
            low, high = mpmath.mpf(a), mpmath.mpf(a) + mpmath.mpf(width)
            rise = mpmath.exp(-(high**2) / 2) - mpmath.exp(-(low**2) / 2)
            rise /= mpmath.sqrt(2 * mpmath.pi)
            want.append(float(rise / mpmath.exp(exact_log_interval(low, high))))
    # For 1e-12 the interval itself is rounded.
    room = 1e-6 if width > 1e-6 else 1e-2
    torch.testing.assert_close(slope, torch.tensor(want, dtype=F64), rtol=room, atol=room)
