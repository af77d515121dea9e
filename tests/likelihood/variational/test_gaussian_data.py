"""The whole bound against its value for Gaussian data, computed by another way."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import sdekit as sk
from sdekit.likelihood import DataTransform, variational_bound
from sdekit.likelihood.variational.bins import make_bins
from sdekit.likelihood.variational.coefficients import coefficients
from sdekit.likelihood.variational.terms import Terms, last_term
from tests.likelihood.variational.gaussian_chain import (
    best_eps,
    expected_bound,
    posterior_variance,
    reverse_steps,
    sigma_points,
    variances,
)

F64 = torch.float64
CHAINS = {
    "short": sk.DDPM(torch.linspace(0.05, 0.6, 7, dtype=F64)),
    "cosine": sk.DDPM.cosine(24),
    "linear": sk.DDPM.linear(200, 5e-4, 0.1),
}
MEAN = torch.tensor([0.3, -0.5, 0.1], dtype=F64)
_FACTOR = torch.tensor([[0.6, 0.0, 0.0], [0.5, 0.2, 0.0], [-0.3, 0.1, 0.05]], dtype=F64)
COV = _FACTOR @ _FACTOR.mT
LAWS = {
    "scalar": (torch.tensor([0.4], dtype=F64), torch.tensor([[0.09]], dtype=F64)),
    "correlated": (MEAN, COV),
}


def whole_by_quadrature(
    process, eps_model, x0, variance, *, decoder="gaussian", bins=None, v1=None
):
    """The bound of scalars x0 (B, 1), with the mean over the noise by Gauss-Hermite."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(120)
    z, w = torch.tensor(nodes), torch.tensor(weights / weights.sum())
    table = coefficients(process, variance, v1)
    terms = Terms(table, decoder, variance, bins, None)
    total = last_term(table, x0)
    sample = torch.arange(len(x0)).repeat_interleave(len(z))
    points, noise = x0[sample], z.repeat(len(x0)).view(-1, 1)
    for k in range(1, process.steps + 1):
        level = torch.full_like(sample, k)
        a, s = table.mean[k - 1], table.std[k - 1]
        out = eps_model(table.time[level - 1], a * points + s * noise)
        value, _ = terms(sample, level, points, noise, out)
        total = total + (value.view(len(x0), -1) * w).sum(1)
    return total


@pytest.mark.parametrize("variance", ["fixedsmall", "fixedlarge"])
@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("own_first", [False, True])
def test_scalar_bound_to_rounding(chain, variance, own_first):
    process, (mean, cov) = CHAINS[chain], LAWS["scalar"]
    x0 = torch.linspace(-1.0, 1.5, 9, dtype=F64).view(-1, 1)
    # The published first variance, v~_2, and that of the paper, beta_1.
    v1 = float(process.betas[0]) if own_first else None
    v = variances(process, variance, v1 if own_first else posterior_variance(process, 2))
    got = whole_by_quadrature(process, best_eps(process, mean, cov), x0, variance, v1=v1)
    want = expected_bound(process, mean, cov, v, x0)
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)


def meets(off, error):
    """Whether estimates (S, B) are off by what their standard errors say, all together."""
    ratio = float(off.square().mean() / error.square().mean())
    mean = float(off.mean() / (error.square().sum().sqrt() / off.numel()))
    assert abs(mean) < 4.0 and 1.0 / 1.6 < ratio < 1.6


@pytest.mark.parametrize("variance", ["fixedsmall", "fixedlarge"])
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("levels", [None, 5])
def test_bound_within_its_standard_errors(chain, law, variance, levels):
    process, (mean, cov) = CHAINS[chain], LAWS[law]
    points = sigma_points(mean, cov)
    x0 = points.repeat(-(-60 // len(points)), 1)
    v = variances(process, variance, posterior_variance(process, 2))
    want = expected_bound(process, mean, cov, v, x0)
    found = [
        variational_bound(
            process,
            best_eps(process, mean, cov),
            x0,
            decoder="gaussian",
            variance=variance,
            draws=16 if levels is None else 40,
            levels=levels,
            seed=seed,
            chunk=512,
        )
        for seed in range(3)
    ]
    off = torch.stack([f.total - want for f in found])
    meets(off, torch.stack([f.std_error for f in found]))
    # The sigma points' mean is that over the data: an independent number for the whole bound.
    each = len(points)
    joint = expected_over_data(process, mean, cov, v)
    torch.testing.assert_close(want[:each].mean(), joint, rtol=1e-12, atol=1e-10)


def expected_over_data(process, mean, cov, v):
    """E over data of the bound: -E log p(x_{0:N}) - H(x_{1:N} | x_0), x_0 in the recursion."""
    steps = reverse_steps(process, mean, cov)
    dim, total = len(mean), torch.zeros((), dtype=F64)
    centre, spread = mean, cov
    for k, beta in enumerate(process.betas.tolist(), 1):
        matrix, shift = steps[k - 1]
        root = math.sqrt(1.0 - beta)
        after = root**2 * spread + beta * torch.eye(dim, dtype=F64)
        off = centre - root * matrix @ centre - shift
        var = (spread - 2.0 * root * matrix @ spread + matrix @ after @ matrix.mT).trace()
        total += 0.5 * ((off.square().sum() + var) / v[k - 1] + dim * v[k - 1].log())
        total -= 0.5 * dim * (1.0 + math.log(beta))
        centre, spread = root * centre, after
    return total + 0.5 * (centre.square().sum() + spread.trace() + dim * math.log(2.0 * math.pi))


@pytest.mark.parametrize("variance", ["fixedsmall", "fixedlarge"])
def test_scalar_bound_with_the_discretized_decoder(variance):
    process, (mean, cov) = CHAINS["short"], LAWS["scalar"]
    transform = DataTransform(16, -1.0, 1.0, dequantize=False)
    x0 = transform.forward(torch.arange(16).view(-1, 1), dtype=F64)
    v1 = posterior_variance(process, 2)
    v = variances(process, variance, v1)
    got = whole_by_quadrature(
        process,
        best_eps(process, mean, cov),
        x0,
        variance,
        decoder="discretized",
        bins=make_bins(x0, transform),
    )
    want = expected_bound(process, mean, cov, v, x0, decoder=False)
    # L_0 by the trapezoid rule over x_1 | x_0, bins by the error function.
    matrix, shift = reverse_steps(process, mean, cov)[0]
    beta = float(process.betas[0])
    x1 = torch.linspace(-8.0, 8.0, 20_001, dtype=F64).view(1, -1)
    law = torch.distributions.Normal(math.sqrt(1.0 - beta) * x0, math.sqrt(beta))
    ahead = matrix[0, 0] * x1 + shift[0]
    root = math.sqrt(2.0 * v1)
    upper, lower = (x0 + 1.0 / 16.0 - ahead) / root, (x0 - 1.0 / 16.0 - ahead) / root
    lower[0], upper[-1] = -math.inf, math.inf
    turned = (lower + upper) > 0.0
    high, low = torch.where(turned, -lower, upper), torch.where(turned, -upper, lower)
    chance = 0.5 * (torch.special.erfc(-high) - torch.special.erfc(-low))
    cost = torch.where(law.log_prob(x1) < -40.0, torch.zeros(()).double(), -chance.log())
    last = (law.log_prob(x1).exp() * cost).sum(1) * (16.0 / 20_000)
    torch.testing.assert_close(got, want + last, rtol=0.0, atol=1e-6)


def test_rate_and_distortion_of_gaussian_data():
    process, (mean, cov) = CHAINS["short"], LAWS["scalar"]
    x0 = sigma_points(mean, cov).repeat(2000, 1)
    found = sk.likelihood.rate_distortion(
        process, best_eps(process, mean, cov), x0, decoder="gaussian", variance="fixedsmall"
    )
    kept = torch.cumprod(1.0 - process.betas, 0).flip(0)
    # E |x_0 - x0_hat|^2 = s^2 c / (a^2 c + s^2).
    want = ((1.0 - kept) * 0.09 / (kept * 0.09 + 1.0 - kept)).sqrt()
    # 8000 draws: a relative standard error of sqrt(2 / 8000) / 2 = 0.8 per cent.
    torch.testing.assert_close(found.distortion, want, rtol=0.032, atol=0.0)
    assert found.levels.tolist() == list(range(process.steps, 0, -1))
    bits = found.bound.terms_bits.mean(0)
    torch.testing.assert_close(found.rate[0], bits[-1])
    torch.testing.assert_close(found.rate[-1], bits[1:].sum())
    assert found.lossless is None and found.unit == 1.0
