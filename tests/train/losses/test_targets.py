"""What a network predicts: one loss for all targets, plain squared errors, published weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from sdekit.sde import DDPM, OU, VE, VP, AffineSDE, SubVP
from sdekit.train import TimeSampler, as_score, denoising_score_matching
from sdekit.train.losses import TARGETS
from sdekit.train.losses.diffused import noise_like
from sdekit.train.losses.targets import _posterior
from tests.train.losses.cases import DOUBLE, At, make_data

SDES = {
    "vp": VP(),
    "subvp": SubVP(),
    "ve": VE(sigma_max=10.0),
    "ou": OU(theta=1.0, mu=0.4, sigma=1.2),
    "ou-each": OU(theta=[1.0, 0.3, 2.0], mu=[0.1, 0.0, -1.0], sigma=[1.0, 2.0, 0.5]),
}
W = torch.linspace(-0.8, 0.9, 9, dtype=DOUBLE).view(3, 3)


def make_net(w: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda t, x: torch.tanh(x @ w.mT) * (1.0 + t.unsqueeze(1)) - 0.3 * x


@pytest.mark.parametrize("weighting", ["simple", "likelihood", "min_snr", "lognormal"])
@pytest.mark.parametrize(
    ("target", "gap"), [*((target, None) for target in TARGETS), ("posterior_mean", 0.05)]
)
@pytest.mark.parametrize("sde", SDES.values(), ids=SDES.keys())
def test_a_target_and_its_conversion_to_a_score_have_one_loss(
    sde: AffineSDE, target: str, gap: float | None, weighting: str
) -> None:
    # Values and gradients, to the rounding that 1 / sigma^2 at t = 0.02 amplifies.
    x0 = make_data(3).sample(40)
    given: dict[str, Any] = {
        "seed": 1,
        "weighting": weighting,
        "times": TimeSampler(sde, t_min=0.02),
    }
    w = W.clone().requires_grad_()
    own = denoising_score_matching(sde, make_net(w), x0, target=target, gap=gap, **given)
    score = as_score(make_net(w), sde, target, gap=gap)
    other = denoising_score_matching(sde, score, x0, **given)
    torch.testing.assert_close(own, other, rtol=1e-9, atol=1e-12)
    left, right = (torch.autograd.grad(value.sum(), w)[0] for value in (own, other))
    torch.testing.assert_close(left, right, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("sde", SDES.values(), ids=SDES.keys())
def test_uniform_is_the_plain_squared_error_of_each_target(sde: AffineSDE) -> None:
    x0, t = make_data(3).sample(40), torch.tensor([0.37], dtype=DOUBLE)
    s = t - 0.1
    z = noise_like(x0, seed=4, step=2)
    alpha, std = sde.mean_coefficient(t), sde.std(t)
    offset = torch.as_tensor(sde.offset, dtype=DOUBLE)
    y0 = x0 - offset
    y = alpha * y0 + std * z
    net = make_net(W)
    out = net(t, y + offset)
    # The posterior mean by the textbook: precisions of x_s given x_0, and given x_t.
    ratio, noise, before = (
        sde.log_mean_ratio(s, t).exp(),
        sde.transition_variance(s, t),
        sde.std(s).square(),
    )
    near, far = 1.0 / before, ratio.square() / noise
    posterior = (near * sde.mean_coefficient(s) * y0 + far * y / ratio) / (near + far)
    norm = (alpha**2 + std**2).sqrt()
    want = {
        "score": -z / std,
        "eps": z,
        "x0": x0,
        "v": (alpha * z - std * y0) / norm,
        "posterior_mean": posterior + offset,
    }
    for target, value in want.items():
        found = denoising_score_matching(
            sde,
            net,
            x0,
            seed=4,
            step=2,
            target=target,
            weighting="uniform",
            times=At(0.37),
            gap=0.1 if target == "posterior_mean" else None,
        )
        torch.testing.assert_close(found, (out - value).square().mean(1))


def test_plain_errors_convert_as_stated() -> None:
    # eps: sigma^2-weighted score matching. x_0: (sigma / alpha)^2 times eps. v: (n / alpha)^2.
    sde, x0 = SubVP(), make_data(3).sample(40)
    given: dict[str, Any] = {"seed": 1, "times": TimeSampler(sde, t_min=0.05)}

    def norm2(sde: AffineSDE, t: Tensor) -> Tensor:
        return sde.mean_coefficient(t).square() + sde.std(t).square()

    def eps_weighted(factor: Callable[[Tensor], Tensor]) -> Callable[[AffineSDE, Tensor], Tensor]:
        return lambda sde, t: sde.std(t).square() * factor(t)

    stated = {
        "eps": lambda t: torch.ones_like(t),
        "x0": lambda t: (sde.std(t) / sde.mean_coefficient(t)).square(),
        "v": lambda t: norm2(sde, t) / sde.mean_coefficient(t).square(),
    }
    for target, factor in stated.items():
        plain = denoising_score_matching(
            sde, make_net(W), x0, target=target, weighting="uniform", **given
        )
        weighted = denoising_score_matching(
            sde, make_net(W), x0, target=target, weighting=eps_weighted(factor), **given
        )
        torch.testing.assert_close(plain, weighted)


@pytest.mark.parametrize("t", [0.05, 0.2, 0.9])
def test_min_snr_has_the_weights_of_its_paper(t: float) -> None:
    # Hang et al. 2023, section 3.4: min(SNR, 5) for x_0, min(SNR, 5) / SNR for eps,
    # min(SNR, 5) / (SNR + 1) for v; at SNR of about 200, 9 and 1e-4.
    sde, x0 = VP(), make_data(3).sample(8)
    time = torch.tensor(t, dtype=DOUBLE)
    snr = float((sde.mean_coefficient(time) / sde.std(time)).square())
    low = min(snr, 5.0)
    for target, weight in (("x0", low), ("eps", low / snr), ("v", low / (snr + 1.0))):
        given: dict[str, Any] = {"seed": 1, "target": target, "times": At(t)}
        found = denoising_score_matching(sde, make_net(W), x0, weighting="min_snr", **given)
        plain = denoising_score_matching(sde, make_net(W), x0, weighting="uniform", **given)
        torch.testing.assert_close(found, weight * plain)


def test_the_posterior_mean_of_a_chain_is_ddpms() -> None:
    chain = DDPM.linear(50)
    k = torch.arange(1, 51)
    c0, ck, _ = chain.posterior(k)
    found = _posterior(chain.sde, chain.time(k), 1.0 / 50)
    torch.testing.assert_close(found[0], c0, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(found[1], ck, rtol=1e-10, atol=1e-12)


def test_the_exact_posterior_mean_gives_the_exact_score() -> None:
    # For Gaussian data, E[x_s | x_t] = m_s + Cov(x_s, x_t) Var(x_t)^{-1} (x - m_t).
    sde, data, gap, t = VP(), make_data(3), 0.1, torch.tensor(0.4, dtype=DOUBLE)
    (ms, cs), (mt, ct) = data.at(sde, t - gap), data.at(sde, t)
    cross = cs * sde.log_mean_ratio(t - gap, t).exp()

    def net(_t: Tensor, x: Tensor) -> Tensor:
        return ms + (x - mt) @ torch.linalg.inv(ct) @ cross

    x = data.sample(10)
    score = as_score(net, sde, "posterior_mean", gap=gap)(t, x)
    torch.testing.assert_close(score, (mt - x) @ torch.linalg.inv(ct))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sixteen_bit_networks_have_losses_of_thirty_two(dtype: torch.dtype) -> None:
    sde, x0 = VP(), make_data(3).sample(64).float()
    seen = set()

    def net(t: Tensor, x: Tensor) -> Tensor:
        seen.add(t.dtype)
        return make_net(W.to(x.dtype))(t, x).to(dtype)

    for target in TARGETS:
        for data in (x0, x0.to(dtype)):
            loss = denoising_score_matching(sde, net, data, seed=1, target=target)
            assert loss.dtype == torch.float32
            exact = denoising_score_matching(
                sde, make_net(W), data.double(), seed=1, target=target, times=TimeSampler(sde)
            )
            if data.dtype == torch.float32 and target == "eps":
                # The output's rounding: 2^-8 for bfloat16, of outputs up to 3.
                torch.testing.assert_close(loss.double(), exact, rtol=0.05, atol=0.05)
    assert seen == {torch.float32}
