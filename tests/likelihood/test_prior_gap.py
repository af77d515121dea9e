"""The gap between the prior and p_T beside its closed form, and its bounds."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from sdekit.likelihood.prior_bounds import prior_gap_interval, prior_kl_bound
from sdekit.likelihood.prior_gap import prior_gap
from sdekit.score import Gaussian, GaussianMixture
from sdekit.sde import GBM, OU, VE, VP


def short_vp(T):
    """VP that stops where half of the data's std is left, T = 0.35, or at once."""
    sde = VP()
    sde.T = T
    return sde


SDES = {"vp_short": short_vp(0.35), "ve": VE(sigma_max=2.0), "ve_long": VE()}


def gaussian(sde, d):
    place = torch.linspace(-1.0, 1.0, d, dtype=torch.float64)
    return Gaussian(place, 0.6 + 0.3 * place, sde)


def mixture(sde, d):
    place = torch.linspace(0.3, 0.8, d, dtype=torch.float64)
    return GaussianMixture(torch.stack([place, -place, 0.2 * place]), [0.3, 0.5, 1.0], None, sde)


def at_end(score, n, seed=1):
    """Points where p_T has its mass, and the gap there."""
    sde = score.sde
    x0 = score.sample(n, seed=seed, dtype=torch.float64)
    law = sde.marginal(torch.tensor(sde.T, dtype=torch.float64), x0)
    x = law.mean + law.std * score.sample(n, seed=99, dtype=torch.float64)
    t = torch.tensor(sde.T, dtype=torch.float64)
    return x, sde.prior_log_prob(x) - score.log_prob(t, x)


@pytest.mark.parametrize("d", [2, 16])
@pytest.mark.parametrize("name", SDES)
def test_gaussians_are_exact(name, d):
    score = gaussian(SDES[name], d)
    x, want = at_end(score, 16)
    # One node integrates a linear score, and the second proposal is p_T itself.
    gap, error = prior_gap(score.sde, score, x, nodes=1, draws=16)
    assert gap.shape == (16,) and error.shape == ()
    torch.testing.assert_close(gap, want, rtol=0.0, atol=1e-9)
    assert float(error) < 1e-9
    if name == "vp_short":
        assert want.abs().max() > 0.3


@pytest.mark.parametrize("d", [2, 16])
@pytest.mark.parametrize("name", SDES)
def test_mixtures_within_the_standard_error(name, d):
    score = mixture(SDES[name], d)
    x, want = at_end(score, 16)
    gap, error = prior_gap(score.sde, score, x, nodes=24, draws=2048, seed=3)
    # One constant for all samples: either all are within 4 standard errors or none. The nodes'
    # error, judged by their number, is below 1e-6.
    assert (gap - want).abs().max() < 4.0 * float(error) + 1e-6
    assert float(error) < (0.02 if d == 2 else 0.1)
    assert float((gap - want).max() - (gap - want).min()) < 2e-6


def test_more_nodes_converge_geometrically():
    score = mixture(SDES["vp_short"], 2)
    x, want = at_end(score, 16)
    spread = []
    for nodes in (2, 4, 8, 16):
        wrong = prior_gap(score.sde, score, x, nodes=nodes, draws=64)[0] - want
        spread.append(float(wrong.std()))
    assert all(b < 0.5 * a for a, b in pairwise(spread))
    assert spread[-1] < 1e-4


def test_default_nodes_are_enough_for_outliers_in_many_dimensions():
    # 3 times as far as its data: the weights of the components change fast along the segment.
    means = 0.7 * torch.randn(4, 784, generator=torch.Generator().manual_seed(0)).double()
    score = GaussianMixture(means, [0.2, 0.4, 0.6, 0.5], [0.1, 0.2, 0.3, 0.4], VE())
    x = score.sample(4, seed=1, dtype=torch.float64)
    x[-1] *= 3.0
    t = torch.tensor(score.sde.T, dtype=torch.float64)
    want = score.sde.prior_log_prob(x) - score.log_prob(t, x)
    gap, error = prior_gap(score.sde, score, x)
    wrong = gap - want
    assert (wrong - wrong.mean()).abs().max() < 1e-4 and wrong.abs().max() < 4.0 * float(error)


def test_the_standard_error_is_honest():
    score = mixture(SDES["vp_short"], 4)
    x, want = at_end(score, 1)
    scores = []
    for seed in range(100):
        gap, error = prior_gap(score.sde, score, x, nodes=16, draws=256, seed=seed)
        scores.append(float((gap - want)[0] / error))
    # The mean of 100 squared standard normals is 1 with a standard error of 0.14.
    assert 1.0 - 4 * 0.14 < sum(z * z for z in scores) / 100 < 1.0 + 4 * 0.14


def test_another_prior_time_and_place():
    sde = OU(theta=1.0, mu=0.3, sigma=1.0, T=0.7)
    score = gaussian(sde, 3)
    x = score.sample(5, seed=1, dtype=torch.float64)

    class Wide:
        def log_prob(self, x):
            return torch.distributions.Normal(0.0, 3.0).log_prob(x).sum(1)

    t = torch.tensor(0.4, dtype=torch.float64)
    gap, _ = prior_gap(sde, score, x, prior=Wide(), t_max=0.4, around=(0.1, 2.0))
    torch.testing.assert_close(gap, Wide().log_prob(x) - score.log_prob(t, x), rtol=0, atol=1e-8)
    # Where nothing is known of the equation but what is said here.
    gap, _ = prior_gap(object(), score, x, prior=Wide(), t_max=0.4, around=(0.1, 2.0))
    torch.testing.assert_close(gap, Wide().log_prob(x) - score.log_prob(t, x), rtol=0, atol=1e-8)


def test_float32_and_samples_apart():
    score = mixture(SDES["vp_short"], 4)
    x, want = at_end(score, 8)
    seen = []

    def spy(t, x):
        seen.append((t.shape == x.shape[:1], t.dtype, x.dtype))
        return score(t, x)

    gap, error = prior_gap(score.sde, spy, x.float(), nodes=16)
    assert set(seen) == {(True, torch.float32, torch.float32)}
    assert gap.dtype == error.dtype == torch.float32
    assert (gap - want).abs().max() < 4.0 * float(error) + 1e-4
    x[2] = math.inf
    part, _ = prior_gap(score.sde, score, x.float()[2:5], nodes=16)
    # Torch's last bits depend on where in a vector an element stands.
    assert part[0].isnan()
    torch.testing.assert_close(part[1:], gap[3:5], rtol=1e-5, atol=1e-6)


def test_an_event_of_two_axes():
    score = gaussian(SDES["vp_short"], 6)
    x, want = at_end(score, 4)
    wide = Gaussian(score.mean.view(2, 3), score.std.view(2, 3), score.sde)
    gap, _ = prior_gap(score.sde, wide, x.view(4, 2, 3))
    torch.testing.assert_close(gap, want, rtol=0.0, atol=1e-9)


def test_kl_bound():
    for sde in (short_vp(0.35), VP(), VE(sigma_max=2.0), OU(mu=0.3, T=0.5)):
        end = torch.tensor(sde.T, dtype=torch.float64)
        alpha, var = float(sde.mean_coefficient(end)), float(sde.std(end)) ** 2
        prior = float(sde.prior_std) ** 2
        moment = torch.tensor([0.5, 2.0], dtype=torch.float64)  # E[y_0^2]
        # Data N(offset + m, s^2) with m^2 + s^2 = moment: the KL of two Gaussians.
        for share in (0.0, 0.5, 1.0):
            ratio = (alpha**2 * (1 - share) * moment + var) / prior
            shift = alpha**2 * share * moment / prior
            kl = float(0.5 * (shift + ratio - 1.0 - ratio.log()).sum())
            bound = prior_kl_bound(sde, moment, (2,))
            assert kl <= bound + 1e-12
            if share == 1.0:
                assert kl == pytest.approx(bound, rel=1e-6)
        assert prior_kl_bound(sde, 2.5, (2,)) == pytest.approx(bound, rel=1e-6)
    # Parameters per component: the sum of squares is put where it does the most.
    sde = OU(theta=torch.tensor([1.0, 3.0]).double(), T=0.5)
    each = [prior_kl_bound(sde, torch.tensor(m).double(), (2,)) for m in ([2.0, 0.0], [0.0, 2.0])]
    assert prior_kl_bound(sde, 2.0, (2,)) == pytest.approx(max(each))


@pytest.mark.parametrize("T", [0.1, 0.35, 1.0])
def test_interval_holds_the_gap(T):
    score = GaussianMixture([[0.6, 0.8], [-1.0, 0.0], [0.1, 0.2]], 0.0, sde=short_vp(T))
    x, want = at_end(score, 64)
    x = torch.cat([x, 3.0 * torch.eye(2).double()])
    t = torch.tensor(T, dtype=torch.float64)
    want = score.sde.prior_log_prob(x) - score.log_prob(t, x)
    low, high = prior_gap_interval(score.sde, x, 1.0)
    assert (low <= want).all() and (want <= high).all()
    # Data at one point of the sphere, seen along its ray: the bounds are attained.
    point = GaussianMixture([[1.0, 0.0]], 0.0, sde=score.sde)
    x = torch.tensor([[2.0, 0.0], [-2.0, 0.0]], dtype=torch.float64)
    want = score.sde.prior_log_prob(x) - point.log_prob(t, x)
    low, high = prior_gap_interval(score.sde, x, 1.0)
    torch.testing.assert_close(torch.stack([low[0], high[1]]), want)


def test_wrong_arguments():
    sde = short_vp(0.35)
    score, x = mixture(sde, 2), torch.zeros(3, 2)
    with pytest.raises(TypeError, match="t_max="):
        prior_gap(GBM(), score, x)
    with pytest.raises(TypeError, match="prior="):
        prior_gap(GBM(), score, x, t_max=1.0)
    with pytest.raises(TypeError, match="around="):
        prior_gap(GBM(), score, x, t_max=1.0, prior=torch.distributions.Normal(0.0, 1.0))
    with pytest.raises(ValueError, match=r"is the law at T = 0\.35"):
        prior_gap(sde, score, x, t_max=0.2)
    with pytest.raises(ValueError, match="one number a sample"):
        prior_gap(sde, score, x, prior=torch.distributions.Normal(0.0, 1.0))
    with pytest.raises(ValueError, match="even"):
        prior_gap(sde, score, x, draws=7)
    with pytest.raises(ValueError, match="std above zero"):
        prior_gap(sde, score, x, around=(0.0, 0.0))
    with pytest.raises(ValueError, match="fit one event"):
        prior_gap(sde, score, x, around=(torch.zeros(3), 1.0))
    with pytest.raises(ValueError, match="event's shape"):
        prior_kl_bound(sde, torch.ones(3), (2,))
    with pytest.raises(ValueError, match="zero or more"):
        prior_kl_bound(sde, -1.0, (2,))
    with pytest.raises(ValueError, match="radius"):
        prior_gap_interval(sde, x, -1.0)
    with pytest.raises(ValueError, match="prior_kl_bound"):
        prior_gap_interval(OU(sigma=torch.ones(2)), x, 1.0)
