"""Likelihoods beside their closed forms: Gaussian and mixture data under VP, sub-VP and VE."""

from __future__ import annotations

import pytest
import torch

from sdekit.likelihood import log_likelihood
from sdekit.score import Gaussian, GaussianMixture
from sdekit.sde import OU, VE, VP, SubVP

SDES = {
    "vp": VP(),
    "vp_cosine": VP("cosine"),
    "subvp": SubVP(),
    "ve": VE(),
    "ve_edm": VE("edm"),
    "ou": OU(theta=1.0, mu=0.3, sigma=1.0),
}


class ExactPrior:
    """p_T itself, so that nothing but the ODE's error is left."""

    def __init__(self, score):
        self.score = score

    def log_prob(self, x):
        return self.score.log_prob(torch.tensor(self.score.sde.T, dtype=x.dtype), x)


def gaussian(sde):
    mean = torch.tensor([[[0.4, -1.0], [0.0, 0.7]]], dtype=torch.float64)
    std = torch.tensor([[[0.5, 1.0], [1.5, 0.1]]], dtype=torch.float64)
    return Gaussian(mean, std, sde)


def mixture(sde):
    means = torch.tensor([[-1.0, 0.5, 0.2], [1.0, -0.5, 0.3]], dtype=torch.float64)
    return GaussianMixture(means, [0.3, 0.5], [0.3, 0.7], sde)


def at(t):
    return torch.tensor(t, dtype=torch.float64)


@pytest.mark.parametrize("name", SDES)
@pytest.mark.parametrize("data", [gaussian, mixture])
def test_density_at_t_min_with_the_exact_prior(name, data):
    sde = SDES[name]
    score = data(sde)
    x = score.sample(16, seed=1, dtype=torch.float64)
    # beta of the cosine schedule has a kink where it is clipped.
    got = log_likelihood(sde, score, x, rtol=1e-6, atol=1e-6, prior=ExactPrior(score))
    want = score.log_prob(at(sde.t_min_likelihood), x)
    assert got.log_prob.dtype == torch.float64
    assert (got.log_prob - want).abs().max() < 1e-4
    assert (got.std_error == 0).all() and (got.status == 0).all()
    assert (got.nfe > 0).all()


# Data whose law at T is so near the default prior that the density of the data itself comes out.
@pytest.mark.parametrize(
    ("name", "std", "t_min"),
    [
        ("vp", 0.9, None),  # var_T - 1 = alpha_T^2 (0.81 - 1) = -8e-6
        ("subvp", 2.0**0.5, None),  # var_T = 2 alpha^2 + (1 - alpha^2)^2 = 1 + alpha^4 = 1 + 2e-9
        ("ve", 0.01, 1e-7),  # var_T = 0.01^2 + 50^2 - 0.01^2: equal
    ],
)
def test_density_of_the_data_with_the_default_prior(name, std, t_min):
    sde = SDES[name]
    score = Gaussian(0.0, std, sde)
    x = score.sample(16, seed=2, dtype=torch.float64, event_shape=(3,))
    # Zero-mean Gaussian data flow along straight rays, so x_T and the prior's gap are known.
    start = sde.t_min_likelihood if t_min is None else t_min
    spread = [
        (sde.mean_coefficient(at(t)) * std).square() + sde.std(at(t)).square()
        for t in (start, sde.T)
    ]
    x_end = x * (spread[1] / spread[0]).sqrt()
    gap = sde.prior_log_prob(x_end) - score.log_prob(at(sde.T), x_end)
    truncation = score.log_prob(at(start), x) - score.log_prob(at(0.0), x)
    assert gap.abs().max() < 5e-5 and truncation.abs().max() < 2e-5
    # atol is a number in x's units: below 1e-6 of the data's spread, 0.01 to 1.4.
    got = log_likelihood(sde, score, x, rtol=1e-6, atol=1e-8, t_min=t_min)
    assert (got.log_prob - score.log_prob(at(0.0), x)).abs().max() < 1e-4


def test_float32_keeps_its_tolerance():
    sde = SDES["vp"]
    score = mixture(sde)
    x = score.sample(16, seed=3, dtype=torch.float32)
    got = log_likelihood(sde, score, x, prior=ExactPrior(score))
    assert got.log_prob.dtype == torch.float32
    # rtol = atol = 1e-5 a step, about 20 steps, on numbers of order 10.
    want = score.log_prob(at(sde.t_min_likelihood), x.double())
    assert (got.log_prob - want).abs().max() < 2e-3


def test_bosh3_agrees():
    sde = SDES["vp"]
    score = mixture(sde)
    x = score.sample(4, seed=3, dtype=torch.float64)
    got = log_likelihood(sde, score, x, prior=ExactPrior(score), method="bosh3")
    assert (got.log_prob - score.log_prob(at(1e-5), x)).abs().max() < 1e-3


def test_score_is_never_asked_beyond_the_ends():
    sde = SDES["vp"]
    score = mixture(sde)
    seen = []

    def spy(t, x):
        seen.append(float(t))
        assert t.ndim == 0 and t.dtype == x.dtype
        return score(t, x)

    x = score.sample(4, seed=3, dtype=torch.float64)
    got = log_likelihood(sde, spy, x, ode="torchdiffeq", method="dopri5")
    assert min(seen) == 1e-5 and max(seen) <= 1.0
    # The divergence looks at the field some times more when it is first called.
    assert int(got.nfe[0]) <= len(seen) < int(got.nfe[0]) + 20
    with pytest.raises(TypeError, match=r"let it take t of shape \(B,\), without float\(t\)"):
        log_likelihood(sde, spy, x)


def test_a_sample_has_times_of_its_own_between_the_ends():
    sde = SDES["vp"]
    score = mixture(sde)
    seen = []

    def spy(t, x):
        seen.append(t.expand(len(x)).clone())
        assert t.dtype == x.dtype
        return score(t, x)

    x = score.sample(5, seed=3, dtype=torch.float64)
    x[1] *= 9.0
    got = log_likelihood(sde, spy, x)
    times = torch.cat(seen)
    assert times.min() == 1e-5 and times.max() <= 1.0
    assert len({len(t.unique()) for t in seen}) > 1  # not in step with each other
    # A sample's evaluations: all calls while it was in the batch, but three to look at the score.
    assert int(got.nfe.sum()) <= len(times) - 6
    assert got.nfe.unique().numel() > 1


def test_no_foreign_generator_is_touched():
    sde = SDES["vp"]
    score = mixture(sde)
    x = score.sample(4, seed=3, dtype=torch.float64)
    before = torch.get_rng_state()
    log_likelihood(sde, score, x, divergence="hutchinson", rtol=1e-3)
    assert torch.equal(before, torch.get_rng_state())
