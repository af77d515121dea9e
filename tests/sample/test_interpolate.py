"""The probability flow as a map, and samples between two samples."""

from __future__ import annotations

import math

import pytest
import torch

import sdekit as sk
from sdekit.sample import flow_map, interpolate
from sdekit.sample.interpolate import spherical

SDES = {"vp": sk.VP, "subvp": sk.SubVP, "ve": lambda: sk.VE(sigma_max=20.0)}
MEAN, STD = 0.8, 0.5


def points(n=6, d=3, shift=0.0):
    return torch.sin(shift + torch.arange(float(n * d), dtype=torch.float64) * 1.7).view(n, d)


def exact(sde, x, s, t):
    """The flow of N(MEAN, STD^2) data: standardized coordinates stay as they are."""

    def law(time):
        time = torch.tensor(time, dtype=torch.float64)
        alpha, sigma = sde.mean_coefficient(time), sde.std(time)
        return alpha * MEAN, ((alpha * STD).square() + sigma.square()).sqrt()

    (m0, s0), (m1, s1) = law(s), law(t)
    return m1 + s1 * (x - m0) / s0


@pytest.mark.parametrize("name", SDES)
def test_the_map_of_gaussian_data(name):
    sde = SDES[name]()
    score, x = sk.score.Gaussian(MEAN, STD, sde), points()
    up = flow_map(sde, score, x, 1e-3, sde.T, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(up, exact(sde, x, 1e-3, sde.T), rtol=1e-6, atol=1e-6)
    down = flow_map(sde, score, up, sde.T, 1e-3, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(down, x, rtol=1e-6, atol=1e-6)
    assert torch.equal(flow_map(sde, score, x, 0.5, 0.5), x)
    alone = flow_map(sde, score, x[2:3], 1e-3, sde.T, rtol=1e-9, atol=1e-9)
    assert torch.equal(alone, up[2:3])


@pytest.mark.parametrize("name", SDES)
def test_interpolation_through_the_flow(name):
    sde = SDES[name]()
    score = sk.score.Gaussian(MEAN, STD, sde)
    a, b = points(), points(shift=4.0)
    t_min = 1e-3
    way = interpolate(sde, score, a, b, 5, t_min=t_min, rtol=1e-9, atol=1e-9)
    assert way.shape == (5, 6, 3)
    torch.testing.assert_close(way[0], a, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(way[-1], b, rtol=1e-6, atol=1e-6)
    za, zb = exact(sde, a, t_min, sde.T), exact(sde, b, t_min, sde.T)
    w = torch.linspace(0, 1, 5, dtype=torch.float64).view(5, 1, 1)
    want = exact(sde, spherical(za, zb, w), sde.T, t_min)
    torch.testing.assert_close(way, want, rtol=1e-6, atol=1e-6)


def test_spherical_keeps_norms_and_halves_angles():
    a, b = torch.tensor([[3.0, 0.0], [1.0, 0.0]]), torch.tensor([[0.0, 3.0], [1.0, 0.0]])
    way = spherical(a, b, torch.tensor([0.0, 0.5, 1.0]).view(3, 1, 1))
    half = 3.0 / math.sqrt(2.0)
    torch.testing.assert_close(way[1], torch.tensor([[half, half], [1.0, 0.0]]))
    torch.testing.assert_close(way[[0, 2]], torch.stack([a, b]))


@pytest.mark.parametrize("w", [0, 2])
def test_interpolation_through_the_diffusion_has_the_law_of_bayes(w):
    """With data N(m, s^2) and the mixture x of both ends, x_0 given x_t is known; so is its mean.

    x_t = alpha x + sigma z, and the chain draws x_0 ~ N(m + k (x_t - alpha m) alpha s^2, ...):
    over z and the chain's noise the mean is m + alpha^2 s^2 / (alpha^2 s^2 + sigma^2) (x - m).
    """
    sde, n, t = sk.VP(), 4000, 0.4
    score = sk.score.Gaussian(MEAN, STD, sde)
    a, b = torch.full((n, 1), -0.4), torch.full((n, 1), 1.6)
    way = interpolate(sde, score, a, b, 5, through="diffusion", t=t, steps=400, seed=3)
    x = (-0.4 * (4 - w) + 1.6 * w) / 4
    time = torch.tensor(t, dtype=torch.float64)
    signal, noise = float(sde.mean_coefficient(time) * STD) ** 2, float(sde.std(time)) ** 2
    share = signal / (signal + noise)
    mean = MEAN + share * (x - MEAN)
    # Var E[x_0 | x_t] over z, and the posterior's own variance.
    var = share**2 * noise / float(sde.mean_coefficient(time)) ** 2 + STD**2 * (1.0 - share)
    got = way[w].double()
    assert abs(float(got.mean()) - mean) < 5.0 * math.sqrt(var / n)
    assert abs(float(got.var()) / var - 1.0) < 5.0 * math.sqrt(2.0 / n) + 0.01


def test_samples_between_do_not_know_each_other():
    sde = sk.VP()
    score = sk.score.Gaussian(MEAN, STD, sde)
    a, b = points().float(), points(shift=4.0).float()
    whole = interpolate(sde, score, a, b, 3, through="diffusion", steps=20, seed=1)
    part = interpolate(
        sde, score, a[2:4], b[2:4], 3, through="diffusion", steps=20, seed=1, first_sample=2
    )
    assert torch.equal(whole[:, 2:4], part)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"x_b": torch.zeros(2, 3)}, ValueError, "one shape"),
        ({"n": 1}, ValueError, "n must"),
        ({"through": "noise"}, ValueError, "flow"),
        ({"t": 0.5}, ValueError, "belongs to"),
        ({"through": "diffusion", "t": 2.0}, ValueError, "between"),
        ({"x_a": [1.0]}, TypeError, "x_a"),
        ({"score": lambda t, x: x / 0.0}, ArithmeticError, "did not arrive"),
    ],
)
def test_bad_input(change, error, says):
    sde = sk.VP()
    arguments = {
        "score": sk.score.Gaussian(MEAN, STD, sde),
        "x_a": torch.ones(1, 3),
        "x_b": torch.zeros(1, 3),
    } | change
    with pytest.raises(error, match=says):
        interpolate(sde, **arguments)
