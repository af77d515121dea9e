"""DDPM and DDIM on a chain: the papers' own coefficients, any subset of levels, learned variances.

``test_published_updates`` holds both to their formulas under every equation, path by path.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sdekit.sample import PREDICTORS, chain_times, ddpm_learned, sample
from sdekit.score import Gaussian, GaussianMixture, from_eps
from sdekit.sde import DDPM, VE, VP

CHAIN = DDPM.linear(1000)
M, S = 0.4, 0.6


def coefficients(name, t, **options):
    return [v.expand(len(t) - 1) for v in PREDICTORS[name].coefficients(
        CHAIN.sde, t[:-1], t[1:], **options
    )]  # fmt: skip


def exact_moments(t, a, b, c, start=(0.0, 1.0)):
    """Mean and variance along the grid for data N(M, S^2), from the prior."""
    mean, var = start
    for i, now in enumerate(t[:-1].tolist()):
        now = torch.tensor(now, dtype=torch.float64)
        alpha, sigma = float(CHAIN.sde.mean_coefficient(now)), float(CHAIN.sde.std(now))
        v = alpha**2 * S**2 + sigma**2
        p = float(a[i] - b[i] / v)
        mean, var = p * mean + float(b[i]) * alpha * M / v, p**2 * var + float(c[i]) ** 2
    return mean, var


def test_neighbouring_levels_are_algorithm_2():
    # x = (x - beta / sqrt(1 - abar) eps) / sqrt(1 - beta) + sigma z, eps = -sqrt(1 - abar) score.
    k = torch.arange(1000, 0, -1)
    beta, abar = CHAIN.betas[k - 1], CHAIN.alphas_bar[k - 1]
    a, b, c = coefficients("ddpm", CHAIN.times)
    torch.testing.assert_close(a, (1 - beta).rsqrt(), rtol=1e-10, atol=0.0)
    torch.testing.assert_close(b, beta * (1 - beta).rsqrt(), rtol=1e-9, atol=0.0)
    posterior = CHAIN.posterior(k)[2]
    torch.testing.assert_close(c.square(), posterior, rtol=1e-9, atol=1e-18)
    large = coefficients("ddpm", CHAIN.times, variance="fixed_large")[2]
    torch.testing.assert_close(large[:-1].square(), beta[:-1], rtol=1e-9, atol=0.0)
    assert float(large[-1]) == float(c[-1]) == 0.0
    assert bool((abar.diff() > 0).all())


@pytest.mark.parametrize("spacing", ["linear", "quadratic"])
def test_any_subset_and_the_link_between_the_two(spacing):
    t = chain_times(CHAIN, 37, spacing=spacing)
    one, small = coefficients("ddim", t, eta=1.0), coefficients("ddpm", t)
    for x, y in zip(one, small, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-11, atol=1e-15)
    a, b, c = coefficients("ddim", t)
    # The last jump, to the data, is Tweedie's estimate, and no noise is in it.
    end = t[-2]
    alpha, sigma = CHAIN.sde.mean_coefficient(end), CHAIN.sde.std(end)
    torch.testing.assert_close(
        torch.stack([a[-1], b[-1]]), torch.stack([1 / alpha, sigma**2 / alpha])
    )
    assert float(c.abs().max()) == 0.0


def test_ddim_on_gaussian_data_is_eulers_step_in_the_level():
    # d(y / alpha) / d(sigma / alpha) = eps: one step of it, written in those coordinates.
    t = chain_times(CHAIN, 20)
    a, b, _ = coefficients("ddim", t)
    alpha, sigma = CHAIN.sde.mean_coefficient(t), CHAIN.sde.std(t)
    y, s = 1.7, -0.8
    step = y / alpha[:-1] + (sigma[1:] / alpha[1:] - sigma[:-1] / alpha[:-1]) * (-sigma[:-1] * s)
    torch.testing.assert_close(a * y + b * s, alpha[1:] * step, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ddim", {}),
        ("ddim", {"eta": 0.6}),
        ("ddpm", {"variance": "fixed_small"}),
        ("ddpm", {"variance": "fixed_large"}),
    ],
    ids=str,
)
def test_moments_on_ten_of_a_thousand_levels(name, options):
    # 5 standard errors about the exact moments of ten long steps, far from those of the data.
    t, n = chain_times(CHAIN, 10), 20000
    mean, var = exact_moments(t, *coefficients(name, t, **options))
    score = Gaussian(M, S, CHAIN.sde)
    x = sample(CHAIN.sde, score, (n, 1), times=t, predictor=name, fuse=False, seed=3, **options)
    x = x.double()
    assert abs(float(x.mean()) - mean) < 5 * math.sqrt(var / n)
    assert abs(float(x.var()) / var - 1) < 5 * math.sqrt(2 / n)


@pytest.mark.parametrize(
    ("name", "options", "bias"),
    [("ddim", {}, 0.02), ("ddpm", {}, 0.03), ("ddpm", {"variance": "fixed_large"}, 0.03)],
    ids=str,
)
def test_a_mixture(name, options, bias):
    # 100 levels: the error of the steps is of order one, up to 0.03 in these functions.
    n = 4000
    score = GaussianMixture([[-1.0], [1.0]], [0.2, 0.4], [0.3, 0.7], CHAIN.sde)
    x = sample(
        CHAIN.sde,
        score,
        (n, 1),
        times=chain_times(CHAIN, 100),
        predictor=name,
        fuse=False,
        seed=2,
        **options,
    ).double()
    want = score.sample(10 * n, seed=9, dtype=torch.float64)
    for f in (lambda v: v, torch.square, lambda v: (v > 0).double(), lambda v: (5 * v).cos()):
        a, b = f(x), f(want)
        error = math.sqrt(float(a.var()) / n + float(b.var()) / (10 * n))
        assert abs(float(a.mean() - b.mean())) < 5 * error + bias


def test_the_schedulers_of_diffusers():
    schedulers = pytest.importorskip("diffusers.schedulers")
    # Their float32 tables against float64 ones: 1e-5. "trailing" spacing meets the last level.
    steps = 25
    theirs = schedulers.DDIMScheduler(
        1000, 1e-4, 0.02, clip_sample=False, timestep_spacing="trailing", set_alpha_to_one=True
    )
    theirs.set_timesteps(steps)
    score = Gaussian(M, S, CHAIN.sde)
    x = torch.linspace(-2.0, 2.0, 9).view(3, 3)
    ours = sample(
        CHAIN.sde,
        score,
        (3, 3),
        times=chain_times(CHAIN, steps),
        predictor="ddim",
        x_init=x,
        fuse=False,
    )
    for k in theirs.timesteps:
        t = (k + 1) / 1000
        eps = -CHAIN.sde.std(t) * score(t, x)
        x = theirs.step(eps, k, x).prev_sample
    torch.testing.assert_close(ours, x, rtol=1e-4, atol=1e-5)
    for variance in ("fixed_small", "fixed_large"):
        chain = schedulers.DDPMScheduler(
            1000, 1e-4, 0.02, variance_type=variance, timestep_spacing="trailing"
        )
        chain.set_timesteps(steps)
        wanted = [float(chain._get_variance(int(k))) for k in chain.timesteps[:-1]]
        c = coefficients("ddpm", chain_times(CHAIN, steps), variance=variance)[2]
        np.testing.assert_allclose(c[:-1].square().numpy(), wanted, rtol=1e-4)


def eps_net(t, x):
    return torch.tanh(x) * (0.3 + t)


@pytest.mark.parametrize("sde", [CHAIN.sde, VP(), VE("edm")], ids=["chain", "vp", "ve"])
@pytest.mark.parametrize(("v", "variance"), [(0.0, "fixed_small"), (1.0, "fixed_large")])
def test_learned_variances_of_0_and_1_are_the_fixed_ones_bit_for_bit(sde, v, variance):
    times = sde.T * torch.tensor([1.0, 0.8, 0.5, 0.2, 0.01, 0.0])
    how = {"times": times, "seed": 5, "denoise": False, "return_info": True, "path_points": 6}
    x, info = ddpm_learned(sde, lambda t, x: (eps_net(t, x), torch.full_like(x, v)), (7, 3), **how)
    score = from_eps(eps_net, sde)
    y, _ = sample(sde, score, (7, 3), predictor="ddpm", variance=variance, fuse=False, **how)
    assert torch.equal(x, y) and bool(torch.isfinite(x).all())
    assert info.nfe == 5 and info.path.shape == (6, 7, 3) and torch.equal(info.path[-1], x)


def test_the_exact_posterior_variance_gives_the_exact_marginals():
    # For Gaussian data x_u given x_t is Gaussian with variance V_u v / V_t, v the forward step's:
    # between the fixed ones of points, v sigma_u^2 / sigma_t^2, and (for S < 1) v. With it five
    # long steps end in the law itself, in float64 to 5 standard errors and by recursion exactly.
    t = chain_times(CHAIN, 5)
    alpha, sigma = CHAIN.sde.mean_coefficient(t), CHAIN.sde.std(t)
    var = (alpha * S).square() + sigma.square()
    forward = CHAIN.sde.transition_variance(t[1:], t[:-1])
    low = forward * (sigma[1:] / sigma[:-1]).square()
    exact = forward * var[1:] / var[:-1]
    share = torch.where(low > 0, (exact / low).log() / (forward / low).log(), 0.0)
    assert bool(((share >= 0) & (share <= 1)).all())
    score, n = Gaussian(M, S, CHAIN.sde), 20000

    def model(now, x):
        i = int((t[:-1] - float(now)).abs().argmin())
        return -CHAIN.sde.std(now) * score(now, x), torch.full_like(x, float(share[i]))

    # To the level before the data: the last jump draws no noise in any DDPM.
    x = ddpm_learned(
        CHAIN.sde, model, (n, 1), times=t[:-1], seed=3, denoise=False, dtype=torch.float64
    )
    a, b, _ = coefficients("ddpm", t)
    start = (0.0, 1.0)
    mean, variance = exact_moments(t[:-1], a, b, exact.sqrt(), start)
    assert abs(variance / float(var[-2]) - 1) < 1e-4  # of the prior: 1 for alpha^2 S^2 + sigma^2
    assert abs(float(x.mean()) - mean) < 5 * math.sqrt(variance / n)
    assert abs(float(x.var()) / variance - 1) < 5 * math.sqrt(2 / n)


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"model": lambda t, x: x}, TypeError, r"chunk\(2, 1\)"),
        ({"model": lambda t, x: (x, x[:, :1])}, ValueError, "v of the model returned shape"),
        ({"model": lambda t, x: (x[:1], x)}, ValueError, "eps of the model returned shape"),
        ({"model": None}, TypeError, "model must be callable"),
        ({"sde": None}, TypeError, "AffineSDE"),
        ({"times": [0.5, 0.1]}, ValueError, "give the state there as x_init"),
        ({"shape": (3,)}, ValueError, r"write \(3, 1\)"),
    ],
)
def test_bad_input_of_learned(change, error, text):
    given = {"sde": CHAIN.sde, "model": lambda t, x: (x, x), "shape": (4, 3)} | change
    if "times" not in given:
        given["steps"] = 3
    with pytest.raises(error, match=text):
        ddpm_learned(given.pop("sde"), given.pop("model"), given.pop("shape"), **given)
