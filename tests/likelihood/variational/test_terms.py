"""Each term for given noise against torch's own distributions, and the chain's own density."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

import sdekit as sk
from sdekit.likelihood import DataTransform, variational_bound
from sdekit.likelihood.variational.bins import make_bins, place
from sdekit.likelihood.variational.coefficients import coefficients
from sdekit.likelihood.variational.terms import Terms, last_term
from tests.likelihood.variational.test_gaussian_data import whole_by_quadrature

F64 = torch.float64
PROCESS = sk.DDPM(torch.linspace(0.02, 0.5, 9, dtype=F64))
BINS = DataTransform(32, -1.0, 1.0, dequantize=False)


def noise(shape, step):
    from sdekit_kernels import normal

    return normal(shape, seed=3, step=step, dtype=F64)


def models(x, t):
    return torch.tanh(1.3 * x + t.view(-1, 1)), torch.sin(5.0 * x).square()


@pytest.mark.parametrize("clip", [None, (-0.9, 0.7)])
@pytest.mark.parametrize("variance", ["fixedsmall", "fixedlarge", "learned"])
def test_terms_of_given_noise(variance, clip):
    x0 = place((torch.arange(24) * 7 % 32).view(8, 3), BINS, F64)
    kept = torch.cumprod(1.0 - PROCESS.betas, 0)
    table = coefficients(PROCESS, variance)
    terms = Terms(table, "discretized", variance, make_bins(x0, BINS), clip)
    sample = torch.arange(8)
    for k in range(1, 10):
        z = noise((8, 3), k)
        a, s = kept[k - 1].sqrt(), (1.0 - kept[k - 1]).sqrt()
        x = a * x0 + s * z
        eps, u = models(x, torch.full((8,), k / 9, dtype=F64))
        output = (eps, u) if variance == "learned" else eps
        got, squared = terms(sample, torch.full((8,), k), x0, z, output)
        got = got + table.control[k - 1] * (z.square().sum(1) - 3)

        guess = (x - s * eps) / a
        guess = guess if clip is None else guess.clamp(*clip)
        torch.testing.assert_close(squared, (guess - x0).square().mean(1))
        before = kept[k - 2] if k > 1 else torch.ones((), dtype=F64)
        beta = PROCESS.betas[k - 1]
        small = beta * (1.0 - before) / (1.0 - kept[k - 1])
        low = small if k > 1 else PROCESS.betas[1] * (1.0 - kept[0]) / (1.0 - kept[1])
        large = beta if k > 1 else low
        v = {
            "fixedsmall": low,
            "fixedlarge": large,
            "learned": (u * beta.log() + (1.0 - u) * low.log()).exp(),
        }[variance]

        def mean(point, k=k, x=x, before=before, beta=beta):
            share = before.sqrt() * beta / (1.0 - kept[k - 1])
            return share * point + (1.0 - beta).sqrt() * (1.0 - before) / (1.0 - kept[k - 1]) * x

        law = Normal(mean(guess), v.sqrt().expand_as(x))
        if k > 1:
            want = kl_divergence(Normal(mean(x0), small.sqrt()), law).sum(1)
        else:
            upper, lower = law.cdf(x0 + 1.0 / 32), law.cdf(x0 - 1.0 / 32)
            upper[x0 > 31 / 32 - 1e-9], lower[x0 < -31 / 32 + 1e-9] = 1.0, 0.0
            want = -(upper - lower).log().sum(1)
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


def test_last_term():
    x0 = noise((5, 2, 3), 0)
    law = Normal(PROCESS.alphas_bar[-1].sqrt() * x0, (1.0 - PROCESS.alphas_bar[-1]).sqrt())
    want = kl_divergence(law, Normal(torch.zeros((), dtype=F64), 1.0)).flatten(1).sum(1)
    torch.testing.assert_close(last_term(coefficients(PROCESS, "fixedsmall"), x0), want)
    # Where 1 - s^2 is 4e-5, s^2 - 1 - log s^2 = 8e-10 keeps its digits.
    chain = sk.DDPM.linear(1000)
    got = last_term(coefficients(chain, "fixedsmall"), torch.zeros(1, 1, dtype=F64))
    kept = math.exp(float(torch.log1p(-chain.betas).sum()))
    series = sum(kept**n / n for n in range(2, 9))
    assert float(got) == pytest.approx(0.5 * series, rel=1e-9)


@pytest.mark.parametrize("variance", ["fixedsmall", "fixedlarge"])
@pytest.mark.parametrize("decoder", ["gaussian", "discretized"])
def test_bound_is_above_the_chain_s_own_likelihood(variance, decoder):
    # p(x_0) of a chain of 5 levels by integration on a grid, for a network that is not linear.
    process = sk.DDPM(torch.tensor([0.1, 0.2, 0.35, 0.5, 0.7], dtype=F64))

    def eps_model(t, x):
        x = x.double()
        return 0.9 * x * (1.0 - 0.5 * torch.exp(-x.square()) * (1.0 - t.view(-1, 1)))

    x0 = place(torch.arange(0, 32, 3).view(-1, 1), BINS, F64)
    bins = make_bins(x0, BINS) if decoder == "discretized" else None
    bound = whole_by_quadrature(
        process, eps_model, x0, variance, decoder=decoder, bins=bins, v1=0.05
    )
    grid = torch.linspace(-9.0, 9.0, 1801, dtype=F64)
    density = Normal(torch.zeros((), dtype=F64), 1.0).log_prob(grid).exp()
    kept = torch.cumprod(1.0 - process.betas, 0)
    for k in range(5, 0, -1):
        beta, t = process.betas[k - 1], torch.full((1801,), k / 5, dtype=F64)
        eps = eps_model(t, grid.view(-1, 1))[:, 0]
        mean = (grid - beta / (1.0 - kept[k - 1]).sqrt() * eps) / (1.0 - beta).sqrt()
        if k == 1:
            break
        small = beta * (1.0 - kept[k - 2]) / (1.0 - kept[k - 1])
        law = Normal(mean, (beta if variance == "fixedlarge" else small).sqrt())
        density = law.log_prob(grid.view(-1, 1)).exp() @ density * 0.01
    assert float(density.sum() * 0.01) == pytest.approx(1.0, abs=1e-8)
    law = Normal(mean, math.sqrt(0.05))
    if decoder == "gaussian":
        chance = law.log_prob(x0).exp()
    else:
        upper, lower = law.cdf(x0 + 1.0 / 32), law.cdf(x0 - 1.0 / 32)
        lower[x0[:, 0] < -0.96] = 0.0
        chance = upper - lower
    exact = -(chance @ density * 0.01).log()
    gap = bound - exact
    assert float(gap.min()) > 1e-3  # not exact: the network is not the best one
    assert float(gap.max()) < 3.0


def test_learned_variance_at_its_ends_is_the_fixed_ones():
    x0 = place((torch.arange(12) * 5 % 32).view(6, 2), BINS, F64)

    def fixed(t, x):
        return models(x, t)[0]

    for u, variance in ((0.0, "fixedsmall"), (1.0, "fixedlarge")):

        def learned(t, x, u=u):
            return fixed(t, x), torch.full_like(x, u)

        first = None if u == 0.0 else float(PROCESS.betas[0])
        options = {"transform": BINS, "draws": 400, "chunk": 4096}
        want = variational_bound(
            PROCESS, fixed, x0, variance=variance, decoder_variance=first, **options
        )
        got = variational_bound(PROCESS, learned, x0, variance="learned", **options)
        # The same noise, but another control: what differs has mean zero.
        off = (got.total - want.total) / (got.std_error.square() + want.std_error.square()).sqrt()
        assert float(off.abs().max()) < 4.0
        torch.testing.assert_close(got.squared_error, want.squared_error)
