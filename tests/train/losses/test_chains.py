"""Losses at finitely many levels against sums over all of them, and against each other."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from sdekit.likelihood import DataTransform
from sdekit.likelihood.variational import variational_bound
from sdekit.sde import DDPM, VE, VP
from sdekit.train import (
    LOSSES,
    Levels,
    TimeSampler,
    ddpm_bound,
    ddpm_simple,
    denoising_score_matching,
    edm,
    ncsn,
)
from sdekit.train.losses.ddpm import chain_of
from tests.train.losses.cases import DOUBLE, Data, assert_mean, make_data

CHAIN = DDPM(torch.linspace(0.02, 0.6, 8, dtype=DOUBLE))


def optimal_eps(data: Data, chain: DDPM, gain: float = 1.0) -> Callable[[Tensor, Tensor], Tensor]:
    """gain sigma_k C_k^{-1} (x - alpha_k m): for gain 1 the best of all."""

    def eps(t: Tensor, x: Tensor) -> Tensor:
        mean, cov = data.at(chain.sde, t.double())
        away = (x.double() - mean).unsqueeze(2)
        std = gain * chain.sde.std(t.double()).unsqueeze(1)
        return (std * (torch.linalg.inv(cov) @ away).squeeze(2)).to(x.dtype)

    return eps


def closed_bound(data: Data, chain: DDPM, gain: float, variance: str) -> float:
    """The bound's mean for the eps above and the Gaussian decoder, in nats a component.

    With B = gain sigma C^{-1}: E |z - eps|^2 = tr(B alpha^2 S B) + |1 - sigma B|^2.
    """
    d, eye = data.d, torch.eye(data.d, dtype=DOUBLE)
    k = torch.arange(1, chain.steps + 1)
    alpha, sigma = chain.coefficients(k)
    beta, (_, _, small) = chain.betas, chain.posterior(k)
    total = 0.0
    for i in range(chain.steps):
        cov = alpha[i] ** 2 * data.cov + sigma[i] ** 2 * eye
        b = gain * sigma[i] * torch.linalg.inv(cov)
        error = (b @ (alpha[i] ** 2 * data.cov) @ b).trace() + (eye - sigma[i] * b).square().sum()
        v = beta[i] if variance == "fixedlarge" and i else small[max(i, 1)]
        scale = beta[i] ** 2 / ((1 - beta[i]) * sigma[i] ** 2)
        total += float(0.5 * scale * error / v)
        if i == 0:
            total += 0.5 * d * math.log(2 * math.pi * float(v))
        else:
            ratio = float(small[i] / v)
            total += 0.5 * d * (ratio - 1 - math.log(ratio))
    second = data.cov.trace() + data.mean.square().sum()
    last = alpha[-1] ** 2 * second + d * (sigma[-1] ** 2 - 1 - 2 * sigma[-1].log())
    return (total + 0.5 * float(last)) / d


@pytest.mark.parametrize("variance", ["fixedlarge", "fixedsmall"])
@pytest.mark.parametrize("gain", [1.0, 0.8])
@pytest.mark.parametrize("d", [1, 3])
def test_the_bound_at_random_levels_has_the_mean_of_the_whole(
    d: int, gain: float, variance: str
) -> None:
    data, n = make_data(d), 40000
    each = ddpm_bound(
        CHAIN,
        optimal_eps(data, CHAIN, gain),
        data.sample(n),
        seed=1,
        variance=variance,
        decoder="gaussian",
    )
    want = closed_bound(data, CHAIN, gain, variance)
    assert_mean(each, want, most=0.05)
    # It is a bound: above the entropy of the data.
    entropy = 0.5 * (math.log(2 * math.pi * math.e) + float(data.cov.logdet()) / d)
    assert want > entropy


@pytest.mark.parametrize("decoder", ["discretized", "gaussian"])
def test_one_sample_has_the_bound_of_the_evaluation(decoder: str) -> None:
    # One image many times over, integers 0..7: the mean over levels and noise is the bound that
    # ``variational_bound`` makes from all levels, within 5 of both errors.
    transform = DataTransform(8, -2.0, 2.0, dequantize=False)
    x0 = transform.forward(torch.tensor([[3, 0], [7, 5]]), dtype=DOUBLE)
    eps = optimal_eps(make_data(2), CHAIN)
    options: dict[str, Any] = {"decoder": decoder, "variance": "fixedlarge"}
    whole = variational_bound(
        CHAIN,
        eps,
        x0,
        draws=500,
        transform=None if decoder == "gaussian" else transform,
        **options,
    )
    n = 30000
    for i in range(2):
        each = ddpm_bound(
            CHAIN, eps, x0[i : i + 1].expand(n, -1), seed=3, transform=transform, **options
        )
        error = math.hypot(float(each.std()) / math.sqrt(n), float(whole.std_error[i]) / 2)
        assert error < 0.1
        assert abs(float(each.mean()) - float(whole.total[i]) / 2) < 5 * error


@pytest.mark.parametrize("variance", ["fixedlarge", "fixedsmall"])
def test_the_bounds_gradient_is_that_of_the_simple_loss_with_ddpms_weight(variance: str) -> None:
    # N beta^2 / (2 v (1 - beta) (1 - abar)) times L_simple's, sample by sample, to rounding.
    data, n = make_data(3), 64
    x0 = data.sample(n)
    gain = torch.ones(n, 1, dtype=DOUBLE, requires_grad=True)
    levels: list[Tensor] = []

    def eps(t: Tensor, x: Tensor) -> Tensor:
        levels.append((t * 8).round().long())
        return gain * optimal_eps(data, CHAIN)(t, x)

    bound = ddpm_bound(CHAIN, eps, x0, seed=5, step=2, variance=variance, decoder="gaussian")
    simple = ddpm_simple(CHAIN, eps, x0, seed=5, step=2)
    k = levels[0]
    assert torch.equal(k, levels[1]) and set(k.tolist()) == set(range(1, 9))
    left, right = (torch.autograd.grad(v.sum(), gain)[0][:, 0] for v in (bound, simple))
    beta, (_, sigma) = CHAIN.betas, CHAIN.coefficients(torch.arange(1, 9))
    v = CHAIN.posterior(torch.arange(1, 9))[2]
    v[0] = v[1]
    if variance == "fixedlarge":
        v[1:] = beta[1:]
    weight = 8 * beta**2 / (2 * v * (1 - beta) * sigma**2)
    torch.testing.assert_close(left, weight[k - 1] * right, rtol=1e-9, atol=1e-12)


def test_the_discretized_decoder_has_a_gradient_and_a_learned_variance_too() -> None:
    transform = DataTransform(256, dequantize=False)
    x0 = transform.forward(torch.arange(256).view(64, 4), dtype=torch.float32)
    chain = DDPM.linear(4, 1e-4, 0.5)
    w = torch.tensor([0.3, 0.1], requires_grad=True)

    def eps(_t: Tensor, x: Tensor) -> Any:
        return w[0] * x, w[1] * torch.tanh(x)

    given: dict[str, Any] = {"seed": 1, "transform": transform}
    fixed = ddpm_bound(chain, lambda t, x: eps(t, x)[0], x0, **given)
    learned = ddpm_bound(chain, eps, x0, variance="learned", **given)
    assert fixed.shape == learned.shape == (64,) and fixed.dtype == torch.float32
    for value in (fixed, learned):
        (slope,) = torch.autograd.grad(value.sum(), w, retain_graph=True)
        assert bool(slope.isfinite().all()) and slope[0] != 0.0
    assert torch.autograd.grad(learned.sum(), w)[0][1] != 0.0


def test_the_simple_loss_is_the_plain_mean_over_levels() -> None:
    # A batch of 8 N samples of the same point visits each of N = 8 levels 8 times.
    x0 = torch.tensor([[0.5, -1.0]], dtype=DOUBLE).expand(40000, -1)

    def zero(_t: Tensor, x: Tensor) -> Tensor:
        return 0.0 * x + 0.25

    assert_mean(ddpm_simple(CHAIN, zero, x0, seed=1), 1.0 + 0.25**2, most=0.01)


def test_ncsn_is_half_of_denoising_at_the_levels() -> None:
    # VE with sigma(t) = t: the same noise, the same levels, to rounding.
    sde, x0 = VE("edm", sigma_min=0.01, sigma_max=5.0), make_data(3).sample(32)
    sigmas = torch.logspace(-1, 0.5, 6, dtype=DOUBLE)

    def score(t: Tensor, x: Tensor) -> Tensor:
        return -torch.sin(x) / (0.3 + t.unsqueeze(1) ** 2)

    found = ncsn(sigmas.flip(0), score, x0, seed=2, step=1)
    dsm = denoising_score_matching(sde, score, x0, seed=2, step=1, times=Levels(sigmas))
    # The levels run the other way: the sample with level i there has level 5 - i here.
    means = [float(v.mean()) for v in (found, 0.5 * dsm)]
    torch.testing.assert_close(
        ncsn(sigmas, score, x0, seed=2, step=1), 0.5 * dsm, rtol=1e-12, atol=1e-12
    )
    assert means[0] != means[1]
    of_score = LOSSES["ncsn"](sde, score, x0, seed=2, step=1, levels=6, times=Levels(sigmas))
    torch.testing.assert_close(of_score, 0.5 * dsm)


def test_edm_of_a_score_is_edm_of_its_denoiser() -> None:
    # For D = w x: E = E_l[lambda ((1 - w)^2 c^2 + w^2 sigma^2)], by quadrature over the normal l. w
    # is 1 - sigma^2 for small sigma, as the weight needs, and not the best one.
    c, n, d = 0.6, 20000, 2
    x0 = c * make_data(1).sample(n * d).view(n, d).sub(0.7).div(0.2**0.5)
    sde = VE("edm", sigma_min=0.002, sigma_max=80.0)
    u = (torch.arange(100000, dtype=DOUBLE) + 0.5) / 100000
    sigma = (-1.2 + 1.2 * torch.special.ndtri(u)).exp()
    weight = (sigma**2 + 0.25) / (0.5 * sigma) ** 2
    w = 1.0 / (1.0 + sigma**2)
    want = float((weight * ((1 - w) ** 2 * c**2 + w**2 * sigma**2)).mean())

    def denoiser(x: Tensor, sigma: Tensor) -> Tensor:
        return x / (1.0 + sigma.unsqueeze(1) ** 2)

    def score(t: Tensor, x: Tensor) -> Tensor:
        return -x / (1.0 + t.unsqueeze(1) ** 2)

    # Strata leave less than the spread of all: 5 standard errors of independent draws are ample.
    for each in (edm(denoiser, x0, seed=1), LOSSES["edm"](sde, score, x0, seed=1)):
        error = float(each.std()) / math.sqrt(n)
        assert error < 0.05 * want
        assert abs(float(each.mean()) - want) < 5 * error


def test_vp_equations_have_chains() -> None:
    assert chain_of(CHAIN) is CHAIN
    assert torch.equal(chain_of(CHAIN.sde).betas, CHAIN.betas)
    sde = VP("cosine")
    chain = chain_of(sde, 100)
    k = torch.arange(1, 101)
    torch.testing.assert_close(chain.coefficients(k)[1], sde.std(chain.time(k)))
    data = make_data(2)
    x0, eps = data.sample(200), optimal_eps(data, chain)

    def score(t: Tensor, x: Tensor) -> Tensor:
        return -eps(t, x) / sde.std(t).unsqueeze(1)

    given: dict[str, Any] = {"seed": 4, "decoder": "gaussian"}
    direct = ddpm_bound(chain, eps, x0, **given)
    for found in (
        LOSSES["ddpm_bound"](sde, score, x0, steps=100, seed=4),
        LOSSES["ddpm_bound"](sde, eps, x0, steps=100, seed=4, target="eps"),
    ):
        torch.testing.assert_close(found, direct, rtol=1e-6, atol=1e-6)
    simple = LOSSES["ddpm_simple"](sde, score, x0, steps=100, seed=4)
    torch.testing.assert_close(simple, ddpm_simple(chain, eps, x0, seed=4), rtol=1e-6, atol=1e-6)
    with pytest.raises(TypeError, match="VP equation"):
        chain_of(VE())


def test_times_of_edm_may_be_given() -> None:
    sde, x0 = VP(), make_data(2).sample(16)

    def score(_t: Tensor, x: Tensor) -> Tensor:
        return -x

    times = TimeSampler(sde, proposal="lognormal")
    given = LOSSES["edm"](sde, score, x0, seed=1, times=times)
    assert torch.equal(given, LOSSES["edm"](sde, score, x0, seed=1))
