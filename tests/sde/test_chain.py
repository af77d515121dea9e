"""Chains of discrete levels, and the VP equation through all of them."""

from __future__ import annotations

import pytest
import torch

import sdekit as sk
from sdekit.sde import ChainBeta

CHAINS = {
    "linear": lambda: sk.DDPM.linear(),
    "short": lambda: sk.DDPM.linear(10, 0.01, 0.5),
    "scaled": lambda: sk.DDPM.scaled_linear(200),
    "cosine": lambda: sk.DDPM.cosine(),
    "uneven": lambda: sk.DDPM([0.5, 1e-4, 0.3, 1e-3, 0.9]),
}


@pytest.mark.parametrize("name", CHAINS)
def test_the_equation_passes_through_every_level(name):
    chain = CHAINS[name]()
    k = torch.arange(chain.steps + 1)
    alpha, sigma = chain.coefficients(k)
    product = torch.cat([torch.ones(1).double(), (1.0 - chain.betas).cumprod(0)])
    torch.testing.assert_close(alpha, product.sqrt(), rtol=1e-12, atol=0.0)
    torch.testing.assert_close(sigma.square(), 1.0 - product, rtol=1e-9, atol=1e-15)
    t = chain.time(k)
    torch.testing.assert_close(chain.sde.mean_coefficient(t), alpha, rtol=1e-12, atol=0.0)
    torch.testing.assert_close(chain.sde.std(t), sigma, rtol=1e-12, atol=1e-15)
    # Its transitions are the chain's, over one level and over any number of them.
    steps = chain.sde.schedule.step(t[1:], t[:-1])
    torch.testing.assert_close(steps, chain.betas, rtol=1e-9, atol=0.0)
    far = chain.sde.schedule.step(t[-1], t[1])
    assert float(far) == pytest.approx(1.0 - float(product[-1] / product[1]), rel=1e-12)


@pytest.mark.parametrize("name", CHAINS)
def test_beta_is_the_slope_of_a_rising_integral(name):
    schedule = CHAINS[name]().sde.schedule
    t = torch.linspace(0.0, 1.0, 40001, dtype=torch.float64)
    total = schedule.integral(torch.zeros_like(t), t)
    assert (total.diff() > 0.0).all()
    assert (schedule.beta(t) > 0.0).all()
    middle = (0.5 * (t[1:] + t[:-1])).requires_grad_()
    (slope,) = torch.autograd.grad(schedule._integral(middle).sum(), middle)
    torch.testing.assert_close(schedule.beta(middle.detach()), slope, rtol=1e-9, atol=1e-12)


def test_posterior_is_that_of_bayes():
    chain = sk.DDPM.linear(20, 0.01, 0.3)
    k = torch.arange(1, 21)
    c0, ck, v = chain.posterior(k)
    a_before, s_before = chain.coefficients(k - 1)
    beta = chain.betas
    # Precisions add: x_{k-1} ~ N(a x_0, s^2) and x_k | x_{k-1} ~ N(sqrt(1 - beta) x_{k-1}, beta).
    inner = slice(1, None)
    precision = 1.0 / s_before[inner].square() + (1.0 - beta[inner]) / beta[inner]
    torch.testing.assert_close(v[inner], 1.0 / precision)
    torch.testing.assert_close(c0[inner], a_before[inner] / s_before[inner].square() / precision)
    torch.testing.assert_close(ck[inner], (1.0 - beta[inner]).sqrt() / beta[inner] / precision)
    assert (float(v[0]), float(ck[0])) == (0.0, 0.0)
    assert float(c0[0]) == pytest.approx(1.0)


def test_published_levels():
    # Ho et al. 2020: beta from 1e-4 to 0.02 over 1000 steps; D_KL at the end of about 1e-5 bits.
    chain = sk.DDPM.linear()
    assert (float(chain.betas[0]), float(chain.betas[-1])) == pytest.approx((1e-4, 0.02))
    assert float(chain.alphas_bar[-1]) == pytest.approx(4.04e-5, rel=1e-2)
    cosine = sk.DDPM.cosine()
    assert float(cosine.betas.max()) == pytest.approx(0.999)
    assert chain.times[0] == 1.0 and chain.times[-1] == 0.0 and len(chain.times) == 1001


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: sk.DDPM([0.1]), ValueError, "N of 2 or more"),
        (lambda: sk.DDPM([0.1, 1.0]), ValueError, "lie in"),
        (lambda: sk.DDPM([0.1, float("nan")]), ValueError, "lie in"),
        (lambda: ChainBeta("linear"), TypeError, "sequence of numbers"),
        (lambda: sk.DDPM.linear(1), ValueError, "steps"),
        (lambda: sk.DDPM.linear().time(1001), ValueError, r"0\.\.1000"),
        (lambda: sk.DDPM.linear().posterior(0), ValueError, r"1\.\.1000"),
        (lambda: sk.DDPM.linear().posterior(0.5), TypeError, "integers"),
    ],
)
def test_bad_input(make, error, says):
    with pytest.raises(error, match=says):
        make()
