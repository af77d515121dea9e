"""The variational bound beside what it must be for Gaussians and mixtures."""

from __future__ import annotations

import math

import pytest
import torch

from sdekit.likelihood import log_likelihood
from sdekit.likelihood.sde_elbo import elbo
from sdekit.score import Gaussian, GaussianMixture
from sdekit.sde import GBM, OU, VE, VP, SubVP
from sdekit.sde.parameters import log_normal_density

THETA = torch.tensor([0.5, 2.0], dtype=torch.float64)
SDES = {
    "vp": VP(),
    "vp_cosine": VP("cosine"),
    "subvp": SubVP(),
    "ve": VE(),
    "ve_edm": VE("edm"),
    "ou": OU(theta=1.0, mu=0.3, sigma=1.0),
    "ou_each": OU(theta=THETA, mu=-THETA, sigma=2.0 * THETA, T=0.7),
}
MEAN = torch.tensor([0.4, -1.0], dtype=torch.float64)
STD = torch.tensor([0.5, 0.8], dtype=torch.float64)


def at(t):
    return torch.tensor(t, dtype=torch.float64)


def law(score, t):
    """Mean and std of p_t, Gaussian data."""
    forward = score.sde.transition(at(0.0), at(t), MEAN.view(1, -1))
    alpha = score.sde.mean_coefficient(at(t))
    return forward.mean, ((alpha * STD).square() + forward.std.square()).sqrt()


def mean_log_normal(point, mean, std):
    """E log N(y; mean, std^2) over y ~ N(point.mean, point.std^2), summed over components."""
    each = log_normal_density(point.mean - mean, std) - 0.5 * (point.std / std).square()
    return each.sum(1)


def expected(score, x, start, first):
    """The bound in expectation for the exact score of Gaussian data.

    E log prior(x_T) - E log p_T(x_T) + E log p_first(x_first), given x at ``start``; and if the
    start is 0, the decoder's share.
    """
    sde = score.sde
    end = sde.transition(at(start), at(sde.T), x)
    value = sde.prior_log_prob(end.mean)
    value = value - 0.5 * (end.std / torch.as_tensor(sde.prior_std)).square().sum(1)
    value = value - mean_log_normal(end, *law(score, sde.T))
    if start == first:
        return value + score.log_prob(at(first), x)
    near = sde.transition(at(start), at(first), x)
    mean, std = law(score, first)
    var = near.std.square()
    # s = -(x_t - mean) / std^2: E[sigma^2 |s|^2 + 2 sigma s . z].
    decoder = var * ((near.mean - mean).square() + var) / std**4 - 2.0 * var / std.square()
    volume = sde.log_mean_ratio(at(start), at(first)).expand_as(x).sum(1)
    return value + mean_log_normal(near, mean, std) + volume - 0.5 * decoder.sum(1)


def meets(off, error):
    """Whether estimates (S, B) are off by what their standard errors say, all together.

    The mean within 4 standard errors; the mean square, which has heavier tails than that of normals
    (single draws have chi-squared ones), within a factor of 1.5 for some 250 estimates.
    """
    ratio = float(off.square().mean() / error.square().mean())
    mean = float(off.mean() / (error.square().sum().sqrt() / off.numel()))
    assert abs(mean) < 4.0 and 1.0 / 1.5 < ratio < 1.5


def repeated(sde, score, x, want, **options):
    """Estimates less what they should be, and their errors, for 4 seeds: (4, B) each."""
    found = [elbo(sde, score, x, seed=seed, **options) for seed in range(4)]
    return torch.stack([b - want for b, _ in found]), torch.stack([e for _, e in found])


@pytest.mark.parametrize("of", ["t_min", "data"])
@pytest.mark.parametrize("name", SDES)
def test_exact_score_of_gaussian_data(name, of):
    sde = SDES[name]
    score = Gaussian(MEAN, STD, sde)
    x = score.sample(64, seed=1, dtype=torch.float64)
    first = max(sde.t_min_likelihood, 1e-3)
    want = expected(score, x, first if of == "t_min" else 0.0, first)
    off, error = repeated(sde, score, x, want, of=of, draws=128, t_min=first, chunk=32)
    assert off.shape == error.shape == (4, 64)
    meets(off, error)
    assert float(error.max()) < 0.4


def test_data_of_the_stated_std_leave_the_times_alone():
    # Pairs and the control remove all noise of z: what is left is the quadrature of a smooth
    # function of time in 64 strata.
    for sde in (SDES["vp"], SDES["ve_edm"]):
        score = Gaussian(0.2, 0.8, sde)
        x = score.sample(16, seed=1, dtype=torch.float64, event_shape=(3,))
        first = sde.t_min_likelihood
        bound, error = elbo(sde, score, x, draws=128, data_std=0.8)
        end = sde.transition(at(first), at(sde.T), x)
        alpha, std = sde.mean_coefficient(at(sde.T)), sde.std(at(sde.T))
        at_end = (0.2 * alpha, (std.square() + (0.8 * alpha).square()).sqrt())
        want = score.log_prob(at(first), x) - mean_log_normal(end, *at_end)
        want = want + mean_log_normal(end, torch.zeros(3), torch.full((3,), float(sde.prior_std)))
        assert float(error.max()) < 0.01
        assert ((bound - want).abs() < 5.0 * error).all()


@pytest.mark.parametrize("name", SDES)
def test_the_bound_is_tight_where_the_prior_is_p_T(name):
    sde = SDES[name]
    means = torch.tensor([[-1.0, 0.5], [1.0, -0.5]], dtype=torch.float64)
    score = GaussianMixture(means, [0.3, 0.5], [0.3, 0.7], sde)
    x = score.sample(64, seed=1, dtype=torch.float64)

    class End:
        def log_prob(self, x):
            return score.log_prob(at(sde.T), x)

    want = score.log_prob(at(sde.t_min_likelihood), x)
    meets(*repeated(sde, score, x, want, draws=128, prior=End(), chunk=32))


def test_the_bound_is_not_above_the_ode():
    sde = SDES["vp"]
    means = torch.tensor([[-1.0, 0.5], [1.0, -0.5]], dtype=torch.float64)
    score = GaussianMixture(means, [0.3, 0.5], [0.3, 0.7], sde)
    x = score.sample(32, seed=1, dtype=torch.float64)
    ode = log_likelihood(sde, score, x, rtol=1e-6, atol=1e-6).log_prob
    bound, error = elbo(sde, score, x, draws=256, chunk=64)
    # What the two say of the prior's gap differs by less than 1e-3 here.
    assert float((bound - ode).mean()) < 4.0 * float(error.square().sum().sqrt()) / 32 + 1e-3
    # A wrong score has a lower bound.

    def bent(t, x):
        return score(t, x) * (1.0 + 0.3 * t.view(-1, 1).sin())

    worse, worse_error = elbo(sde, bent, x, draws=256, chunk=64)
    noise = (error.square() + worse_error.square()).sum().sqrt() / 32
    assert float((bound - worse).mean()) > 4.0 * float(noise)


def test_variance_is_finite_down_to_t_min():
    # Without pairs and without a proposal for times the integrand's variance is ~ log(T / t_min).
    sde = SDES["vp"]
    score = Gaussian(MEAN, STD, sde)
    x = score.sample(64, seed=1, dtype=torch.float64)
    errors = [
        float(elbo(sde, score, x, draws=64, t_min=t)[1].square().mean()) for t in (1e-2, 1e-6, 0.0)
    ]
    assert max(errors) < 2.0 * min(errors)


@pytest.mark.parametrize("name", ["vp", "ve_edm", "ou_each"])
def test_a_wrong_score_costs_what_it_must(name):
    sde = SDES[name]
    score = Gaussian(MEAN, STD, sde)
    x = score.sample(64, seed=1, dtype=torch.float64)
    wrong = torch.tensor([0.4, -0.6], dtype=torch.float64)

    def biased(t, x):
        return score(t, x) + wrong * (1.0 / (1.0 + t.square())).view(-1, 1)

    first = max(sde.t_min_likelihood, 1e-3)
    # 1/2 \int g^2 (2 c . E[s | x] + |c|^2) dt, by the midpoint rule in t^{1/2}: g^2 may grow as t.
    n = 20_000
    low, high = math.sqrt(first), math.sqrt(sde.T)
    root = low + (high - low) * (torch.arange(n, dtype=torch.float64) + 0.5) / n
    cost = torch.zeros(64, dtype=torch.float64)
    for r in root.view(-1, 200):
        t = r.square()
        mean, std = _laws(score, t)
        ratio = _each(sde.log_mean_ratio(at(first), t).exp())
        offset = torch.as_tensor(sde.offset).double()
        centre = (offset + ratio * (x - offset).unsqueeze(1)) - mean  # (64, 200, D)
        g2 = _each(sde.diffusion_rate(t).square())
        c = wrong / (1.0 + t.square()).view(-1, 1)
        rate = (g2 * (-2.0 * c * centre / std.square() + c.square())).sum(2)
        cost += 0.5 * (rate * 2.0 * r * (high - low) / n).sum(1)
    want = expected(score, x, first, first) - cost
    off, error = repeated(sde, biased, x, want, draws=128, t_min=first, chunk=32)
    meets(off, error)
    # It is a cost in the mean over data, and one that these errors can tell from none.
    assert float(cost.mean()) > 10.0 * float(error.square().sum().sqrt() / error.numel())


def _each(value):
    """A coefficient at many times, (T, 1) or (T, D)."""
    return value.view(len(value), -1)


def _laws(score, t):
    alpha, std = _each(score.sde.mean_coefficient(t)), _each(score.sde.std(t))
    offset = torch.as_tensor(score.sde.offset).double()
    mean = offset + alpha * (MEAN - offset)
    return mean, ((alpha * STD).square() + std.square()).sqrt()


@pytest.mark.parametrize("name", ["vp", "subvp", "ve_edm"])
def test_the_bound_of_the_data_approaches_their_density(name):
    sde = SDES[name]
    score = Gaussian(MEAN, STD, sde)
    x = score.sample(64, seed=1, dtype=torch.float64)
    end = sde.transition(at(0.0), at(sde.T), x)
    left = sde.prior_log_prob(end.mean)
    left = left - 0.5 * (end.std / float(sde.prior_std)).square().sum(1)
    left = left - mean_log_normal(end, *law(score, sde.T))
    want = score.log_prob(at(0.0), x) + left
    first = max(sde.t_min_likelihood, 1e-5)
    meets(*repeated(sde, score, x, want, of="data", draws=128, t_min=first, chunk=32))
    # What is left of t_min itself is of second order: sigma^2 is 4e-6 and smaller.
    assert (expected(score, x, 0.0, first) - want).abs().max() < 1e-8


def test_samples_chunks_and_dtypes():
    sde = SDES["vp"]
    score = Gaussian(MEAN, STD, sde)
    x = score.sample(6, seed=1, dtype=torch.float64)
    seen = []

    def spy(t, x):
        assert t.shape == x.shape[:1] and t.dtype == x.dtype
        seen.append(len(x))
        return score(t, x)

    whole = elbo(sde, spy, x, draws=8, seed=5)
    assert seen == [6] * 16
    for got in (
        elbo(sde, score, x, draws=8, seed=5, chunk=3),
        elbo(sde, score, x, draws=8, seed=5, chunk=100),
        elbo(sde, score, x.view(6, 1, 2).squeeze(1), draws=8, seed=5),
    ):
        torch.testing.assert_close(got, whole, rtol=1e-10, atol=1e-10)
    part = elbo(sde, score, x[2:4], draws=8, seed=5, first_sample=2)
    torch.testing.assert_close(part, (whole[0][2:4], whole[1][2:4]), rtol=1e-12, atol=1e-12)
    low, low_error = elbo(sde, score, x.float(), draws=8, seed=5)
    assert low.dtype == low_error.dtype == torch.float32
    assert (low - whole[0]).abs().max() < 1e-3
    assert not torch.equal(elbo(sde, score, x, draws=8, seed=6)[0], whole[0])
    x[1] = math.nan
    keep = [0, 2, 3, 4, 5]
    bad, _ = elbo(sde, score, x, draws=8, seed=5)
    assert bad[1].isnan() and torch.equal(bad[keep], whole[0][keep])


def test_events_of_images():
    sde = SDES["vp"]
    flat = Gaussian(MEAN.repeat(3), STD.repeat(3), sde)
    image = Gaussian(MEAN.repeat(3).view(3, 1, 2), STD.repeat(3).view(3, 1, 2), sde)
    x = flat.sample(3, seed=1, dtype=torch.float64)
    got = elbo(sde, image, x.view(3, 3, 1, 2), draws=8, chunk=4, of="data")
    torch.testing.assert_close(got, elbo(sde, flat, x, draws=8, chunk=4, of="data"))


def test_wrong_arguments():
    sde = SDES["vp"]
    score, x = Gaussian(MEAN, STD, sde), torch.zeros(3, 2)
    with pytest.raises(TypeError, match="AffineSDE"):
        elbo(GBM(), score, x)
    with pytest.raises(ValueError, match="even"):
        elbo(sde, score, x, draws=3)
    with pytest.raises(ValueError, match="unknown of"):
        elbo(sde, score, x, of="datum")
    with pytest.raises(ValueError, match="t_min < t_max"):
        elbo(sde, score, x, t_min=1.0)
    with pytest.raises(ValueError, match="is the law at T = 1"):
        elbo(sde, score, x, t_max=0.5)
    with pytest.raises(ValueError, match="data_std"):
        elbo(sde, score, x, data_std=0.0)
    with pytest.raises(TypeError, match="callable"):
        elbo(sde, 3, x)
    with pytest.raises(ValueError, match="D >= 1"):
        elbo(sde, score, torch.zeros(3))
