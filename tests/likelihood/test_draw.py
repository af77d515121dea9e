"""Draws of flows: their density against closed forms and the way back, and importance weights."""

from __future__ import annotations

import math

import pytest
import sdekit_kernels
import torch

from sdekit.likelihood import Flow, importance_weights, log_likelihood, sample_flow
from sdekit.likelihood.importance import pareto_shape
from sdekit.noise import keys
from sdekit.score import Gaussian, GaussianMixture
from sdekit.sde import VE, VP, SubVP

SDES = {"vp": VP(), "subvp": SubVP(), "ve_edm": VE("edm")}
TIGHT = {"rtol": 1e-7, "atol": 1e-7}
ROOT_TWO_PI = math.log(2.0 * math.pi) / 2.0


def at(t):
    return torch.tensor(t, dtype=torch.float64)


def mixture(sde):
    means = torch.tensor([[-1.0, 0.5, 0.2], [1.0, -0.5, 0.3]], dtype=torch.float64)
    return GaussianMixture(means, [0.3, 0.5], [0.3, 0.7], sde)


class AtEnd:
    """p_T of a mixture as a prior: draws of the data, carried to T by the SDE's transition."""

    def __init__(self, score):
        self.score = score

    def log_prob(self, x):
        return self.score.log_prob(torch.tensor(self.score.sde.T, dtype=x.dtype), x)

    def sample(self, n, *, seed, first_sample=0):
        sde = self.score.sde
        x = self.score.sample(n, seed=seed, first_sample=first_sample, dtype=torch.float64)
        law = sde.transition(at(0.0), at(sde.T), x)
        z = sdekit_kernels.normal(
            tuple(x.shape), seed=seed, first_sample=first_sample, dtype=torch.float64
        )
        return law.mean + law.std * z


class Normal:
    """N(0, 1) of D components, drawn by the library's noise."""

    def __init__(self, dim):
        self.dim = dim

    def log_prob(self, x):
        return -0.5 * x.square().sum(1) - self.dim * ROOT_TWO_PI

    def sample(self, n, *, seed):
        return sdekit_kernels.normal((n, self.dim), seed=seed, dtype=torch.float64)


MATRIX = torch.tensor([[0.3, -1.0, 0.2], [0.8, -0.4, 0.0], [0.1, 0.5, 0.6]], dtype=torch.float64)


def linear(t_data, t_prior):
    """dx/dt = A x: x = exp(A (t_data - t_prior)) z, so q is a Gaussian."""
    return Flow(lambda t, x: x @ MATRIX.mT, Normal(3), t_data=t_data, t_prior=t_prior)


@pytest.mark.parametrize("name", SDES)
def test_density_of_a_mixture_with_the_exact_prior(name):
    score = mixture(SDES[name])
    got = sample_flow(SDES[name], score, 64, seed=1, prior=AtEnd(score), **TIGHT)
    assert got.x.shape == (64, 3) and got.x.dtype == torch.float64
    assert (got.status == 0).all() and (got.std_error == 0).all() and (got.nfe > 0).all()
    want = score.log_prob(at(SDES[name].t_min_likelihood), got.x)
    assert (got.log_prob - want).abs().max() < 1e-4


def test_draws_are_those_of_the_data():
    score = mixture(SDES["vp"])
    n = 4000
    x = sample_flow(SDES["vp"], score, n, seed=2, prior=AtEnd(score), rtol=1e-4, fuse=False).x
    share = torch.tensor([0.3, 0.7], dtype=torch.float64)
    variance = score.stds.square()
    mean = (share.view(-1, 1) * score.means).sum(0)
    second = (share.view(-1, 1) * (score.means.square() + variance)).sum(0)
    for got, want in ((x, mean), (x.square(), second)):
        assert ((got.mean(0) - want).abs() < 4.0 * got.std(0) / math.sqrt(n)).all()


@pytest.mark.parametrize(("t_data", "t_prior"), [(0.0, 1.0), (1.5, 0.2)])
def test_a_linear_flow_in_both_directions_of_time(t_data, t_prior):
    got = sample_flow(linear(t_data, t_prior), (32, 3), seed=3, **TIGHT)
    there = torch.linalg.matrix_exp(MATRIX * (t_data - t_prior))
    assert (got.x - got.latent @ there.mT).abs().max() < 1e-5
    law = torch.distributions.MultivariateNormal(
        torch.zeros(3, dtype=torch.float64), there @ there.mT
    )
    assert (got.log_prob - law.log_prob(got.x)).abs().max() < 1e-5
    # d log q = -tr A dt along the way: a wrong sign would miss by twice this.
    assert abs(float(MATRIX.trace()) * (t_prior - t_data)) > 0.4


@pytest.mark.parametrize("name", SDES)
@pytest.mark.parametrize("divergence", ["exact", "hutchinson", "xtrace"])
def test_the_way_back_finds_the_same_density(name, divergence):
    sde = SDES[name]
    score = mixture(sde)
    given = {"divergence": divergence, "n_probes": 2, "seed": 4, "rtol": 1e-6, "atol": 1e-6}
    # A score without a divergence of its own: by directional derivatives.
    there = sample_flow(sde, lambda t, x: score(t, x), (16, 3), dtype=torch.float64, **given)
    back = log_likelihood(sde, lambda t, x: score(t, x), there.x, **given)
    assert there.stats.divergence == divergence
    # Both ways at the tolerance 1e-6; ve_edm's states are of order 80.
    assert (back.log_prob - there.log_prob).abs().max() < 3e-4
    scale = float(sde.prior_std)
    assert ((back.latent - there.latent) / scale).abs().max() < 1e-4
    if divergence != "exact":
        assert torch.allclose(back.std_error, there.std_error, 1e-3, 1e-4, equal_nan=True)


def test_many_components_in_float32():
    sde = VP()
    score = Gaussian(0.2, 0.5, sde)
    there = sample_flow(sde, score, (8, 6, 8), seed=5)
    back = log_likelihood(sde, score, there.x)
    assert there.x.dtype == torch.float32 and there.x.shape == (8, 6, 8)
    # rtol 1e-5 both ways on integrals of order 60 nats.
    assert (there.log_prob - back.log_prob).abs().max() < 5e-3


def test_a_sample_does_not_know_its_batch():
    sde = VP()
    score = mixture(sde)

    def drawn(n, first, **more):
        given = {"divergence": "hutchinson", "n_probes": 2, "dtype": torch.float64, **more}
        return sample_flow(sde, score, (n, 3), seed=6, first_sample=first, **given)

    whole, parts = drawn(7, 0), [drawn(3, 0), drawn(4, 3)]
    for name in ("x", "log_prob", "std_error", "nfe", "latent"):
        joined = torch.cat([getattr(part, name) for part in parts])
        assert torch.allclose(getattr(whole, name), joined, rtol=1e-12, atol=1e-12)
    prior = AtEnd(score)
    more = {"prior": prior, "dtype": None}
    joined = torch.cat([drawn(3, 0, **more).x, drawn(4, 3, **more).x])
    assert torch.allclose(drawn(7, 0, **more).x, joined, rtol=1e-12, atol=1e-12)


def test_more_probes_where_the_error_is_too_large():
    sde = VP()
    means = sdekit_kernels.normal((2, 48), seed=7, dtype=torch.float64)
    score = GaussianMixture(means, [0.3, 0.5], None, sde)
    ask = {"seed": 7, "rtol": 1e-3, "atol": 1e-3, "dtype": torch.float64}
    got = sample_flow(
        sde, score, (8, 48), divergence="hutchinson", probes="gaussian", std_error=4.0, **ask
    )
    # Two sets, of a number that each sample's first one has chosen.
    assert got.stats.probes.unique().numel() > 1 and (got.stats.probes >= 16).all()
    exact = sample_flow(sde, score, (8, 48), **ask)
    wrong = got.log_prob - exact.log_prob
    assert wrong.square().mean().sqrt() < 1.5 * 4.0
    assert (wrong.abs() < 5.0 * got.std_error + 0.1).all()


def test_the_prior_s_stream_is_that_of_the_sampler():
    sde = VP()
    z = sample_flow(sde, Gaussian(0.0, 1.0, sde), (4, 2), seed=8, rtol=1e-2).latent
    assert torch.equal(z, sdekit_kernels.normal((4, 2), seed=8, stream=keys.PRIOR))


def test_the_whole_solve_in_one_kernel():
    sde = VP()
    score = Gaussian(0.3, 0.5, sde)
    one, steps = (
        sample_flow(sde, score, (40, 1), seed=16, dtype=torch.float64, fuse=fuse)
        for fuse in (True, False)
    )
    assert (one.stats.path, steps.stats.path) == ("trajectory_kernel", "step_kernel")
    # The same algorithm: what differs is rounding, which error control may carry to a tolerance.
    assert torch.allclose(one.x, steps.x, rtol=0.0, atol=1e-6)
    assert torch.allclose(one.log_prob, steps.log_prob, rtol=0.0, atol=1e-6)


def test_a_sample_that_fails_harms_no_other():
    # x blows up at t = log 2 / 2 on the way for x > 1 alone: dx/dt = x (x^2 - 1), backwards.
    flow = Flow(lambda t, x: -x * (x.square() - 1.0), Normal(1), t_data=0.0, t_prior=2.0)
    z = torch.tensor([[0.3], [5.0], [math.nan], [-0.9]], dtype=torch.float64)
    got = sample_flow(flow, latent=z)
    assert got.status.tolist()[0] == got.status.tolist()[3] == 0
    assert (got.status[1:3] != 0).all()
    assert got.x[1:3].isnan().all() and got.log_prob[1:3].isnan().all()
    alone = sample_flow(flow, latent=z[[0, 3]])
    assert torch.allclose(got.x[[0, 3]], alone.x) and got.log_prob[[0, 3]].isfinite().all()
    weights = got.importance(lambda x: -0.5 * x.square().sum(1))
    assert weights.weights[1:3].eq(0).all() and float(weights.weights.sum()) == pytest.approx(1.0)
    assert any("2 of 4 samples have no density" in w for w in weights.warnings)


# -- importance ------------------------------------------------------------------------------------


def gaussian_target(std, constant):
    """N(0, std) without its normalizer: log Z = constant + D log(std sqrt(2 pi))."""
    return lambda x: constant - 0.5 * (x / std).square().sum(1)


def two_gaussians(std, dim):
    """ess / n = E[w]^2 / E[w^2] for the proposal N(0, 1) and the target N(0, std)."""
    return (std * math.sqrt(2.0 - std**2)) ** dim


@pytest.mark.parametrize(("std", "dim"), [(0.7, 1), (0.8, 3), (1.15, 1)])
def test_normalizer_and_effective_samples_against_theory(std, dim):
    sde, n = VP(), 4000
    # With data N(0, 1) the flow of VP is the identity, and q = N(0, 1).
    score = Gaussian(0.0, 1.0, sde)
    drawn = sample_flow(sde, score, (n, dim), seed=9, dtype=torch.float64, fuse=False)
    got = drawn.importance(gaussian_target(std, 3.0))
    want = 3.0 + dim * (math.log(std) + ROOT_TWO_PI)
    assert abs(got.log_normalizer - want) < 4.0 * got.std_error
    # The delta method's error is E[w^2] / E[w]^2 - 1 over n, known here.
    share = two_gaussians(std, dim)
    assert got.std_error == pytest.approx(math.sqrt((1.0 / share - 1.0) / n), rel=0.2)
    w = got.log_weights.exp()
    # ess / n = m1^2 / m2, whose influence is 2 w / m1 - w^2 / m2, relative.
    influence = 2.0 * w / w.mean() - w.square() / w.square().mean()
    assert abs(got.ess / n / share - 1.0) < 4.0 * float(influence.std()) / math.sqrt(n)
    assert got.trusted
    variance, error = got.mean(drawn.x.square())
    assert variance.shape == (dim,)
    assert ((variance - std**2).abs() < 4.0 * error).all()


def test_standard_error_is_that_of_many_runs():
    std, n, runs = 0.8, 200, 200
    x = sdekit_kernels.normal((runs * n, 1), seed=10, dtype=torch.float64)
    log_q = Normal(1).log_prob(x)
    found = [
        importance_weights(gaussian_target(std, 0.0), part, q)
        for part, q in zip(x.split(n), log_q.split(n), strict=True)
    ]
    off = torch.tensor([f.log_normalizer for f in found]) - math.log(std) - ROOT_TWO_PI
    errors = torch.tensor([f.std_error for f in found])
    # chi^2 of 200 runs: its std is sqrt(2 / 200) = 0.1.
    assert abs(float((off / errors).square().mean()) - 1.0) < 0.4


def test_a_mixture_target_drawn_by_its_own_flow():
    # q is the target itself: all weights are equal up to the ODE's error.
    sde = VP()
    score = mixture(sde)
    drawn = sample_flow(sde, score, 512, seed=11, prior=AtEnd(score), **TIGHT, fuse=False)
    got = drawn.importance(lambda x: score.log_prob(at(sde.t_min_likelihood), x) - 7.0)
    assert abs(got.log_normalizer + 7.0) < 1e-4 and got.std_error < 1e-4
    assert got.ess > 511.99 and got.trusted


def test_it_says_when_it_cannot_be_trusted():
    x = sdekit_kernels.normal((4000, 1), seed=12, dtype=torch.float64)
    log_q = Normal(1).log_prob(x)
    # Weights of tail index k = 1 - 1 / std^2 = 8 / 9: no variance.
    wide = importance_weights(gaussian_target(3.0, 0.0), x, log_q)
    assert not wide.trusted and wide.pareto_k > 0.7 and "Pareto" in wide.warnings[-1]
    far = importance_weights(lambda x: -0.5 * (x - 4.0).square().sum(1), x, log_q)
    assert not far.trusted and far.ess < 100 and "effective samples" in far.warnings[0]
    noise = torch.full((4000,), 0.3, dtype=torch.float64)
    probed = importance_weights(gaussian_target(0.9, 0.0), x, log_q, noise)
    assert not probed.trusted and "0.045" in probed.warnings[0]
    single = importance_weights(gaussian_target(0.9, 0.0), x, log_q, noise * math.nan)
    assert not single.trusted and "one probe" in single.warnings[0]
    assert importance_weights(gaussian_target(0.9, 0.0), x, log_q, noise * 0.0).trusted


def test_the_bias_by_probes_is_what_the_warning_says():
    x = sdekit_kernels.normal((40_000, 1), seed=13, dtype=torch.float64)
    noise = sdekit_kernels.normal((40_000,), seed=13, stream=9, dtype=torch.float64)
    target = gaussian_target(0.9, 0.0)
    clean, noisy = (
        importance_weights(target, x, Normal(1).log_prob(x) + s * noise) for s in (0.0, 0.5)
    )
    gap = noisy.log_normalizer - clean.log_normalizer
    assert abs(gap - 0.5 * 0.5**2) < 4.0 * noisy.std_error


def test_parts_of_space_without_density():
    x = sdekit_kernels.normal((4000, 1), seed=14, dtype=torch.float64)
    log_q = Normal(1).log_prob(x)
    # exp(-x^2 / 2) on x > 0 alone: Z = sqrt(2 pi) / 2.
    half = importance_weights(
        lambda x: torch.where(x[:, 0] > 0.0, -0.5 * x[:, 0].square(), -math.inf), x, log_q
    )
    assert abs(half.log_normalizer - ROOT_TWO_PI + math.log(2.0)) < 4.0 * half.std_error
    assert half.ess == pytest.approx(float((x > 0).sum())) and half.trusted
    assert (half.weights[x[:, 0] <= 0] == 0).all()
    nothing = torch.where(x > 0.0, x, math.nan)
    mean, error = half.mean(nothing)
    assert abs(float(mean[0]) - math.sqrt(2.0 / math.pi)) < 4.0 * float(error[0])


@pytest.mark.parametrize("k", [0.2, 0.5, 0.9])
def test_shape_of_a_pareto_tail(k):
    z = sdekit_kernels.normal((20_000,), seed=15, dtype=torch.float64)
    # u^-k of a uniform u: a Pareto law. The tail has m = 3 sqrt(n) = 424 of them.
    got = pareto_shape(-k * torch.special.ndtr(z).log())
    # The maximum likelihood's standard error is (1 + k) / sqrt(m).
    assert abs(got - k) < 4.0 * (1.0 + k) / math.sqrt(424)
    assert pareto_shape(torch.zeros(1000, dtype=torch.float64)) == -math.inf
    assert math.isnan(pareto_shape(torch.zeros(20, dtype=torch.float64)))


# -- the door --------------------------------------------------------------------------------------


def test_what_is_refused():
    sde = VP()
    score = mixture(sde)
    flow = linear(0.0, 1.0)
    with pytest.raises(ValueError, match=r"any shape: write shape=\(5, D\.\.\.\)"):
        sample_flow(sde, score, 5)
    with pytest.raises(TypeError, match=r"shape must be \(B, D\.\.\.\)"):
        sample_flow(sde, score)
    with pytest.raises(ValueError, match="one component or more"):
        sample_flow(sde, score, (5, 0))
    with pytest.raises(TypeError, match=r"latent=z"):
        sample_flow(sde, score, 4, prior=torch.distributions.Normal(0.0, 1.0))
    with pytest.raises(TypeError, match=r"latent=z"):
        sample_flow(Flow(lambda t, x: x, type("P", (), {"log_prob": Normal.log_prob})()), 4)
    with pytest.raises(ValueError, match=r"draws events \(3,\), not \(2,\)"):
        sample_flow(flow, (5, 2))
    with pytest.raises(TypeError, match="leave t_min= away"):
        sample_flow(flow, 5, t_min=0.1)
    with pytest.raises(TypeError, match="leave score= away"):
        sample_flow(flow, score, 5)
    with pytest.raises(TypeError, match="takes no 'transform'"):
        sample_flow(flow, 5, transform=None)
    z = torch.zeros(4, 3, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"shape \(4, 3\), but shape=\(5, 3\)"):
        sample_flow(flow, 5, latent=z)
    with pytest.raises(TypeError, match="leave dtype="):
        sample_flow(flow, latent=z, dtype=torch.float32)
    drawn = sample_flow(flow, latent=z, rtol=1e-2)
    with pytest.raises(TypeError, match="target must be callable"):
        drawn.importance(3.0)
    with pytest.raises(ValueError, match=r"one log-density a sample, \(4,\), got \(4, 3\)"):
        drawn.importance(lambda x: -x.square())
    with pytest.raises(ValueError, match=r"\+inf"):
        drawn.importance(lambda x: x[:, 0] + math.inf)
    with pytest.raises(ValueError, match="none of the 4 samples has a weight"):
        drawn.importance(lambda x: x[:, 0] - math.inf)
    with pytest.raises(ValueError, match="one row for each of the 4 samples"):
        drawn.importance(lambda x: x[:, 0]).mean(torch.zeros(3))


def test_no_samples_at_all():
    assert sample_flow(linear(0.0, 1.0), (0, 3)).x.shape == (0, 3)
