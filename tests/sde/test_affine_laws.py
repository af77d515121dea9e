"""Closed laws of affine equations against the moment equations, integrated numerically."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

import sdekit as sk
from sdekit.sde import OU, VE, VP, Brownian, CosineBeta, LinearBeta, SubVP

DOUBLE = torch.float64
SDES = {
    "ou": OU(1.3, 0.7, 0.9),
    "ou_unstable": OU(-0.8, -0.2, 1.1),
    "ou_zero": OU(0.0, 0.4, 0.6),
    "ou_tiny": OU(1e-9, 0.4, 0.6),
    "brownian": Brownian(1.7),
    "vp": VP(),
    "vp_cosine": VP("cosine"),
    "vp_clipped": VP(CosineBeta(beta_clip=5.0)),
    "subvp": SubVP(),
    "subvp_cosine": SubVP("cosine"),
    "ve": VE(),
    "ve_edm": VE("edm"),
}


def moments_by_integration(sde, s: float, t: float, x: float) -> tuple[float, float]:
    """Solve m' = a (m - offset), v' = 2 a v + g^2 from (x, 0), in pieces no kink crosses."""

    def rate(u, mv):
        time = torch.tensor(u, dtype=DOUBLE)
        a, g = float(sde.drift_rate(time)), float(sde.diffusion_rate(time))
        return [a * (mv[0] - float(sde.offset)), 2 * a * mv[1] + g * g]

    kink = getattr(getattr(sde, "schedule", None), "t_clip", None)
    ends = [s, *([kink] if kink is not None and s < kink < t else []), t]
    state = [x, 0.0]
    for low, high in pairwise(ends):
        state = solve_ivp(rate, (low, high), state, rtol=1e-10, atol=1e-13, method="DOP853").y[
            :, -1
        ]
    return state[0], state[1]


@pytest.mark.parametrize("name", SDES)
@pytest.mark.parametrize(("s", "t"), [(0.0, 1e-3), (0.0, 0.4), (0.15, 0.9), (0.6, 1.0)])
def test_transition_solves_moment_equations(name, s, t):
    sde = SDES[name]
    s, t = s * sde.T, t * sde.T
    x = torch.tensor([[1.5]], dtype=DOUBLE)
    mean, var = moments_by_integration(sde, s, t, 1.5)
    law = sde.transition(s, t, x)
    # The integrator's own tolerance is 1e-10 a step; 1e-7 leaves a thousand steps.
    assert law.mean.item() == pytest.approx(mean, rel=1e-7, abs=1e-9)
    assert law.var.item() == pytest.approx(var, rel=1e-7, abs=1e-12)


@pytest.mark.parametrize("name", SDES)
@given(cuts=st.lists(st.floats(0.0, 1.0), min_size=3, max_size=3, unique=True).map(sorted))
@settings(derandomize=True, deadline=None, max_examples=25)
def test_transitions_compose(name, cuts):
    sde = SDES[name]
    s, u, t = (torch.tensor(c * sde.T, dtype=DOUBLE) for c in cuts)
    x = torch.tensor([[-0.3, 2.0]], dtype=DOUBLE)
    first = sde.transition(s, u, x)
    second = sde.transition(u, t, first.mean)
    ratio = sde.log_mean_ratio(u, t).exp()
    whole = sde.transition(s, t, x)
    # Near T the cosine schedule's angle is 3e-3 from pi/2: rounding grows up to 300 times.
    torch.testing.assert_close(second.mean, whole.mean, rtol=1e-11, atol=1e-12)
    composed = second.var + ratio.square() * first.var
    torch.testing.assert_close(composed, whole.var, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("name", SDES)
def test_marginal_is_the_transition_from_zero(name):
    sde = SDES[name]
    x0 = torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    t = torch.tensor([0.1, 0.2, 0.7, 1.0], dtype=DOUBLE) * sde.T
    law = sde.marginal(t, x0)
    alpha, std = sde.mean_coefficient(t), sde.std(t)
    assert law.mean.shape == law.std.shape == x0.shape
    want = sde.offset + alpha.view(4, 1, 1) * (x0 - sde.offset)
    torch.testing.assert_close(law.mean, want)
    torch.testing.assert_close(law.std, std.view(4, 1, 1).expand_as(x0))
    for i in range(4):
        alone = sde.marginal(t[i], x0[i : i + 1])
        torch.testing.assert_close(alone.mean, law.mean[i : i + 1], rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("name", SDES)
def test_float32_keeps_relative_accuracy_near_zero(name):
    sde = SDES[name]
    t = torch.logspace(-7, -1, 50) * sde.T
    later = 1.5 * t
    for single, double in (
        (sde.std(t), sde.std(t.double())),
        (sde.mean_coefficient(t), sde.mean_coefficient(t.double())),
        (
            sde.transition_variance(t, later),
            sde.transition_variance(t.double(), later.double()),
        ),
    ):
        assert single.dtype == torch.float32
        # About ten roundings of 6e-8 each; 1.5 t - t has one more, relative to a third of itself.
        torch.testing.assert_close(single.double(), double, rtol=2e-6, atol=0.0)


@pytest.mark.parametrize("name", SDES)
def test_two_time_covariance(name):
    sde = SDES[name]
    s, t = torch.tensor(0.3 * sde.T, dtype=DOUBLE), torch.tensor(0.8 * sde.T, dtype=DOUBLE)
    # Cov(x_s, x_t) = E[(x_s - m_s) E[x_t - m_t | x_s]] = var_s * ratio(s, t).
    ratio = sde.transition(s, t, torch.tensor([[1.0]], dtype=DOUBLE)).mean
    ratio = ratio - sde.transition(s, t, torch.tensor([[0.0]], dtype=DOUBLE)).mean
    want = sde.std(s).square() * ratio.squeeze()
    torch.testing.assert_close(sde.covariance(s, t), want)
    torch.testing.assert_close(sde.covariance(t, s), want)
    torch.testing.assert_close(sde.covariance(t, t), sde.std(t).square())


def test_ou_stationary_law_is_the_limit():
    sde = OU([0.5, 2.0], [1.0, -1.0], [0.3, 0.7])
    law = sde.marginal(100.0, torch.zeros(1, 2, dtype=DOUBLE))
    torch.testing.assert_close(law.std[0], sde.stationary_std)
    torch.testing.assert_close(law.mean[0], torch.tensor([1.0, -1.0], dtype=DOUBLE))
    with pytest.raises(ValueError, match="theta above zero"):
        _ = OU(0.0).stationary_std
    assert OU(2.0, 0.0, 3.0).stationary_std == pytest.approx(1.5)


def test_ou_is_smooth_through_theta_zero():
    theta = torch.tensor([-1e-3, -1e-12, 0.0, 1e-12, 1e-3], dtype=DOUBLE, requires_grad=True)
    std = OU(theta, 0.0, 1.0).std(torch.tensor(2.0, dtype=DOUBLE))
    # sigma^2 tau (1 - theta tau + ...) with tau = 2: d var / d theta = -tau^2 at 0.
    (slope,) = torch.autograd.grad(std.square().sum(), theta)
    want = torch.tensor(-4.0, dtype=DOUBLE)
    torch.testing.assert_close(slope, want + 32.0 / 3.0 * theta.detach(), rtol=1e-4, atol=0.0)
    assert torch.isfinite(slope).all()
    assert torch.autograd.gradcheck(
        lambda th: OU(th, 0.0, 1.0).std(torch.tensor(0.7, dtype=DOUBLE)),
        torch.tensor([-0.5, 0.0, 0.004, 0.006, 3.0], dtype=DOUBLE, requires_grad=True),
    )


def test_per_component_parameters_are_never_taken_for_samples():
    theta, sigma = torch.tensor([0.5, 1.0, 2.0]), torch.tensor([0.1, 0.2, 0.3])
    sde = OU(theta, 1.0, sigma)
    x = torch.ones(3, 3)  # B = D: the case where shapes cannot tell
    t = torch.tensor([0.1, 0.5, 0.9])
    law = sde.marginal(t, x * 2.0)
    for b in range(3):
        for d in range(3):
            one = OU(theta[d], 1.0, sigma[d]).marginal(t[b], torch.full((1, 1), 2.0))
            torch.testing.assert_close(law.mean[b, d], one.mean[0, 0])
            torch.testing.assert_close(law.std[b, d], one.std[0, 0])
    assert sde.drift(t, x).shape == x.shape
    torch.testing.assert_close(sde.diffusion(t, x), sigma.expand(3, 3))


def test_cosine_schedule_is_the_papers():
    sde, s = VP("cosine"), 0.008
    t = torch.linspace(0, 0.99, 34, dtype=DOUBLE)
    f = torch.cos(np.pi / 2 * (t + s) / (1 + s)) ** 2
    alpha_bar = f / f[0]
    torch.testing.assert_close(sde.mean_coefficient(t).square(), alpha_bar, rtol=1e-12, atol=0.0)
    beta = sde.schedule.step(t[1:], t[:-1])
    torch.testing.assert_close(beta, 1 - alpha_bar[1:] / alpha_bar[:-1], rtol=1e-9, atol=0.0)
    # float32's angle near pi/2 has an error of 6e-8 against a distance of 3e-3.
    assert float(sde.schedule.beta(torch.tensor(1.0))) == pytest.approx(999.0, rel=1e-4)
    assert float(sde.mean_coefficient(torch.tensor(1.0, dtype=DOUBLE))) == pytest.approx(
        1.1e-3, rel=0.1
    )


def test_ve_is_exact_where_the_published_code_is_not():
    sde = VE()
    t = torch.tensor([0.0, 0.25, 1.0], dtype=DOUBLE)
    published = 0.01 * 5000.0**t
    torch.testing.assert_close(sde.sigma(t), published)
    torch.testing.assert_close(sde.std(t), (published**2 - 1e-4).clamp(min=0).sqrt())
    assert sde.prior_std == 50.0
    edm = VE("edm")
    assert (edm.T, edm.t_min) == (80.0, 0.002)
    torch.testing.assert_close(edm.std(t), t)


@pytest.mark.parametrize("name", SDES)
def test_prior(name):
    sde = SDES[name]
    x = torch.randn(3, 2, 2, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)
    law = torch.distributions.Normal(float(sde.offset), float(sde.prior_std))
    torch.testing.assert_close(sde.prior_log_prob(x), law.log_prob(x).flatten(1).sum(1))
    draws = sde.prior_sample((20000, 2), seed=3, dtype=DOUBLE)
    scaled = (draws - sde.offset) / sde.prior_std
    # Standard errors of mean and variance over n = 40000: 0.005 and 0.0071. Four of each.
    assert abs(float(scaled.mean())) < 4 * 0.005
    assert abs(float(scaled.var()) - 1) < 4 * 0.0071
    tail = sde.prior_sample((7, 2), seed=3, first_sample=13, dtype=DOUBLE)
    assert torch.equal(tail, draws[13:20])


HALF = torch.tensor(0.5)
BAD = [
    (lambda: OU(sigma=-1.0), ValueError, "sigma must be 0 or more"),
    (lambda: OU(theta=float("nan")), ValueError, "theta must be finite"),
    (lambda: OU(theta="fast"), TypeError, "theta must be a number"),
    (lambda: OU(theta=True), TypeError, "theta must be a number"),
    (lambda: OU(theta=torch.ones(2), sigma=torch.ones(3)), ValueError, "common event shape"),
    (lambda: OU(theta=torch.ones(2), sigma=torch.ones(1, 2)), ValueError, "common event shape"),
    (lambda: OU(T=0.0), ValueError, "T must be above 0"),
    (lambda: OU(torch.empty(0)), ValueError, "empty"),
    (lambda: VP("cosin"), ValueError, "Did you mean 'cosine'"),
    (lambda: VP("cosine", beta_min=0.1), TypeError, "does not take beta_min"),
    (lambda: VP(beta_min=3.0, beta_max=2.0), ValueError, "beta_min must not be above"),
    (lambda: VP(7), TypeError, "schedule must be one of"),
    (lambda: VP(CosineBeta(), beta_min=0.1), TypeError, "belong to the schedule object"),
    (lambda: VE(sigma_min=2.0, sigma_max=1.0), ValueError, "sigma_min must be below"),
    (lambda: VE("edm", sigma_max=-1.0), ValueError, "sigma_max must be above 0"),
    (lambda: CosineBeta(beta_clip=0.01), ValueError, "above beta"),
    (lambda: OU(torch.ones(3)).drift(0.0, torch.ones(2, 4)), ValueError, "they must agree"),
    (lambda: OU(torch.ones(3)).marginal(0.5, torch.ones(3)), ValueError, "they must agree"),
    (lambda: VP().marginal(torch.ones(3), torch.ones(2, 4)), ValueError, "first axis"),
    (lambda: VP().marginal(torch.ones(2, 1), torch.ones(2, 4)), ValueError, "0-d tensor"),
    (lambda: VP().marginal(torch.tensor(1), torch.ones(2, 4)), TypeError, "floating-point"),
    (lambda: VP().marginal("now", torch.ones(2, 4)), TypeError, "time must be a number"),
    (lambda: VP().marginal(0.5, [1.0]), TypeError, "torch.Tensor"),
    (lambda: VP().marginal(-1.0, torch.ones(2, 4)), ValueError, "from 0.0 to -1.0"),
    (lambda: OU().marginal(math.inf, torch.ones(2, 4)), ValueError, "both finite"),
    (lambda: VE().transition(0.9, 0.2, torch.ones(2, 4)), ValueError, "from 0.9 to 0.2"),
    (lambda: sk.GBM(0.1, 0.2).transition(1, 0, torch.ones(2, 1)), ValueError, "from 1 to 0"),
    (lambda: sk.CIR(1.5, 0.6, 0.8).marginal(-1, torch.ones(2, 1)), ValueError, "0 <= s <= t"),
    (lambda: VP().marginal(0.5, torch.ones(2, 4, dtype=torch.long)), TypeError, "floating-point"),
    (lambda: VP().marginal(0.5, torch.tensor(1.0)), ValueError, "0-d"),
    (lambda: OU([1.0, 2.0]).drift(torch.ones(3), torch.ones(1, 2)), ValueError, "first axis"),
    (lambda: OU([1.0, 2.0]).marginal(torch.ones(3), torch.ones(4, 2)), ValueError, "first axis"),
    (lambda: VP().drift(0.5, torch.ones(2, 4).long()), TypeError, "x must be a floating-point"),
    (lambda: VP().drift(HALF, torch.ones(2, 4).long()), TypeError, "x must be a floating-point"),
    (lambda: VP().marginal(torch.ones(2, device="meta"), torch.ones(2, 4)), ValueError, "on meta"),
    (lambda: VE(LinearBeta()), TypeError, "sigma_max, T, t_min"),
]


@pytest.mark.parametrize(("call", "error", "says"), BAD)
def test_bad_input_says_what_is_needed(call, error, says):
    with pytest.raises(error, match=says):
        call()


def test_empty_batch():
    law = VP().marginal(torch.ones(0), torch.ones(0, 3))
    assert law.mean.shape == law.std.shape == (0, 3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", SDES)
def test_a_number_of_time_is_not_rounded_to_half_precision(name, dtype):
    # 0.997 in bfloat16 is 0.99609: VE's std there would be 1 % off, three roundings of 2^-8.
    sde, t = SDES[name], 0.997 * SDES[name].T
    x = torch.full((1, 1), 2.0, dtype=dtype)
    law, want = sde.marginal(t, x), sde.marginal(t, x.double())
    assert law.mean.dtype == law.std.dtype == dtype
    # Std is rounded once, the mean in three products and sums of numbers up to 2.
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(law.std.double(), want.std, rtol=eps, atol=0.0)
    torch.testing.assert_close(law.mean.double(), want.mean, rtol=3 * eps, atol=6 * eps)


@pytest.mark.parametrize("name", SDES)
def test_a_number_takes_the_other_times_precision(name):
    # 0.1 in float32 is 1.5e-9 off.
    sde, t = SDES[name], torch.tensor(0.3, dtype=DOUBLE)
    s = torch.tensor(0.1, dtype=DOUBLE)
    for law in (sde.transition_variance, sde.log_mean_ratio, sde.covariance):
        torch.testing.assert_close(law(0.1, t), law(s, t), rtol=1e-14, atol=0.0)
    for steps in (sde.reverse_diffusion_coefficients, sde.ancestral_coefficients):
        for got, want in zip(steps(t, 0.299), steps(t, t - 0.001), strict=True):
            torch.testing.assert_close(got, want, rtol=1e-12, atol=0.0)


def test_samples_without_event_axes():
    sde, x = OU(1.3, 0.7, 0.9), torch.tensor([0.5, -1.0], dtype=DOUBLE)
    torch.testing.assert_close(sde.prior_log_prob(x), sde.prior_log_prob(x.view(2, 1)))
