"""On Gaussian data with a linear model every loss has a known minimizer, and a fit finds it.

Models are linear in their parameters, so that the mean of a loss over a sample is a quadratic:
one Newton step is the fit. Its distance from the known minimizer is held against its own standard
error, from the covariance of the gradients there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from sdekit.sde import DDPM, VE, VP, AffineSDE, SubVP
from sdekit.train import (
    LOSSES,
    TimeSampler,
    ddpm_bound,
    ddpm_simple,
    denoising_score_matching,
    edm,
    implicit_score_matching,
    ncsn,
    sliced_score_matching,
)
from tests.train.losses.cases import DOUBLE, Data, assert_minimizer, gradient_law, make_data, newton

N = 8000


def optimum(d: int, mean: Tensor) -> Tensor:
    """The parameters (Theta, b) = (1, m) of the families below."""
    return torch.cat([torch.eye(d, dtype=DOUBLE).flatten(), mean])


def family(rows: Tensor, data: Data, sde: AffineSDE) -> Callable[[Tensor, Tensor], Tensor]:
    """s(t, x) = C(t)^{-1} (alpha b - Theta x): the score of the data at (1, m). rows: (n, p)."""
    d = data.d
    theta, b = rows[:, : d * d].view(-1, d, d), rows[:, d * d :]

    def score(t: Tensor, x: Tensor) -> Tensor:
        _, cov = data.at(sde, t)
        alpha = sde.mean_coefficient(t).unsqueeze(1)
        away = alpha * b - (theta @ x.unsqueeze(2)).squeeze(2)
        # By a matrix, not by solve: a derivative for each sample needs no more than this.
        return (torch.linalg.inv(cov) @ away.unsqueeze(2)).squeeze(2)

    return score


def per_level(rows: Tensor, d: int, index: Callable[[Tensor], Tensor]) -> Any:
    """A x + b with A and b of the sample's level; rows (n, L (d^2 + d))."""
    each = rows.view(len(rows), -1, d * d + d)

    def net(t: Tensor, x: Tensor) -> Tensor:
        own = each[torch.arange(len(x)), index(t)]
        gain, shift = own[:, : d * d].view(-1, d, d), own[:, d * d :]
        return (gain @ x.unsqueeze(2)).squeeze(2) + shift

    return net


def levels_optimum(data: Data, alpha: Tensor, std: Tensor, scale: Tensor) -> Tensor:
    """(A, b) of scale times the score, -C^{-1} (x - alpha m), level by level."""
    eye = torch.eye(data.d, dtype=DOUBLE)
    parts = []
    for a, s, c in zip(alpha, std, scale, strict=True):
        gain = -c * torch.linalg.inv(a**2 * data.cov + s**2 * eye)
        parts += [gain.flatten(), -gain @ (a * data.mean)]
    return torch.cat(parts)


SCORE_LOSSES: dict[str, tuple[Callable[..., Tensor], dict[str, Any]]] = {
    **{
        f"dsm-{w}": (denoising_score_matching, {"weighting": w})
        for w in ("simple", "likelihood", "uniform", "min_snr", "lognormal")
    },
    "ism": (implicit_score_matching, {}),
    "ism-likelihood": (implicit_score_matching, {"weighting": "likelihood"}),
    "ssm": (sliced_score_matching, {"reduced": False, "projections": "gaussian"}),
    "ssm-vr": (sliced_score_matching, {"n_projections": 2, "projections": "sphere"}),
    "ncsn": (LOSSES["ncsn"], {"levels": 7}),
    "ddpm_simple": (LOSSES["ddpm_simple"], {"steps": 20}),
    "edm": (LOSSES["edm"], {"mean": -0.5}),
}


@pytest.mark.parametrize("name", SCORE_LOSSES)
@pytest.mark.parametrize(
    ("sde", "d"), [(VP(), 2), (SubVP(), 1), (VE(sigma_max=10.0), 3)], ids=["vp2", "subvp1", "ve3"]
)
def test_the_score_of_the_data_is_found(sde: AffineSDE, d: int, name: str) -> None:
    data = make_data(d)
    x0 = data.sample(N)
    loss, options = SCORE_LOSSES[name]
    if name.startswith(("dsm", "ism", "ssm")):
        # From 0.2 on: at the least levels the gradients of "uniform" have no useful error.
        proposal = "log_snr" if "likelihood" in name else "uniform"
        options = {**options, "times": TimeSampler(sde, t_min=0.2, proposal=proposal)}
    assert_minimizer(
        lambda rows: loss(sde, family(rows, data, sde), x0, seed=2, **options),
        optimum(d, data.mean),
        N,
        most=0.5,
    )


def test_plain_gradient_descent_reaches_it_too() -> None:
    # The same sample in every step: Adam must end where Newton's step does, to 1e-4.
    sde, d = VP(), 2
    data = make_data(d)
    x0 = data.sample(2000)
    times = TimeSampler(sde, t_min=0.05)

    def loss(rows: Tensor) -> Tensor:
        net = family(rows, data, sde)
        return denoising_score_matching(sde, net, x0, seed=2, times=times)

    want, _ = newton(loss, d * d + d, len(x0))
    theta = torch.zeros(d * d + d, dtype=DOUBLE, requires_grad=True)
    adam = torch.optim.Adam([theta], lr=0.1)
    for step in range(400):
        adam.param_groups[0]["lr"] = 0.1 * 0.985**step
        adam.zero_grad()
        loss(theta.expand(len(x0), -1)).mean().backward()
        adam.step()
    torch.testing.assert_close(theta.detach(), want, rtol=0.0, atol=1e-4)


def test_fresh_batches_reach_it() -> None:
    # Stochastic gradients with fresh data and noise, the last two thirds of the iterates averaged:
    # their mean is as good as one fit on all of these samples (Polyak & Juditsky 1992), so that 5
    # standard errors of that fit hold it.
    sde, d, batch, steps = VP(), 1, 128, 600
    data = make_data(d)
    times = TimeSampler(sde, t_min=0.05)
    every = data.sample(batch * steps, seed=7).view(steps, batch, d)
    theta = torch.zeros(2, dtype=DOUBLE, requires_grad=True)
    mean = torch.zeros(2, dtype=DOUBLE)
    for step in range(steps):
        net = family(theta.expand(batch, -1), data, sde)
        loss = denoising_score_matching(sde, net, every[step], seed=1, step=step, times=times)
        (slope,) = torch.autograd.grad(loss.mean(), theta)
        theta = (theta - 0.2 * slope).detach().requires_grad_()
        mean += theta.detach() * (step >= steps // 3) / (steps - steps // 3)
    used = every[steps // 3 :].reshape(-1, d)

    def whole(rows: Tensor) -> Tensor:
        net = family(rows, data, sde)
        return denoising_score_matching(sde, net, used, seed=1, times=times)

    want = optimum(d, data.mean)
    inverse = torch.linalg.inv(newton(whole, 2, len(used))[1])
    _, cov, _ = gradient_law(whole, want, len(used))
    error = (inverse @ cov @ inverse.mT).diagonal().sqrt()
    assert float(error.max()) < 0.03
    assert bool(((mean - want).abs() < 5.0 * error).all()), (mean - want, error)


def test_ncsn_finds_the_score_of_each_level() -> None:
    d, sigmas = 2, torch.tensor([2.0, 0.7, 0.2], dtype=DOUBLE)
    data = make_data(d)
    x0 = data.sample(N)
    want = levels_optimum(data, torch.ones(3, dtype=DOUBLE), sigmas, torch.ones(3, dtype=DOUBLE))

    def index(sigma: Tensor) -> Tensor:
        return (sigma.unsqueeze(1) - sigmas).abs().argmin(1)

    def loss(rows: Tensor) -> Tensor:
        return ncsn(sigmas, per_level(rows, d, index), x0, seed=3)

    assert_minimizer(loss, want, N, most=0.3)


@pytest.mark.parametrize("name", ["simple", "fixedlarge", "fixedsmall"])
def test_ddpm_finds_the_noise_of_each_level(name: str) -> None:
    d, chain = 2, DDPM([0.1, 0.3, 0.5, 0.7])
    data = make_data(d)
    x0 = data.sample(N)
    alpha, std = chain.coefficients(torch.arange(1, 5))
    want = levels_optimum(data, alpha, std, -std)

    def loss(rows: Tensor) -> Tensor:
        net = per_level(rows, d, lambda t: (4.0 * t).round().long() - 1)
        if name == "simple":
            return ddpm_simple(chain, net, x0, seed=3)
        return ddpm_bound(chain, net, x0, seed=3, variance=name, decoder="gaussian")

    assert_minimizer(loss, want, N, most=0.1)


@pytest.mark.parametrize("d", [1, 3])
def test_edm_finds_the_denoiser(d: int) -> None:
    # D(x; sigma) = Theta W x + (1 - W) b with W = S (S + sigma^2)^{-1}: the posterior mean of the
    # data at (1, m).
    data = make_data(d)
    x0 = data.sample(N)
    eye = torch.eye(d, dtype=DOUBLE)

    def loss(rows: Tensor) -> Tensor:
        theta, b = rows[:, : d * d].view(-1, d, d), rows[:, d * d :]

        def denoiser(x: Tensor, sigma: Tensor) -> Tensor:
            w = data.cov @ torch.linalg.inv(data.cov + sigma.square().view(-1, 1, 1) * eye)
            out = theta @ (w @ x.unsqueeze(2)) + (eye - w) @ b.unsqueeze(2)
            return out.squeeze(2)

        return edm(denoiser, x0, seed=3, mean=-0.3, std=1.0, data_std=0.8)

    assert_minimizer(loss, optimum(d, data.mean), N, most=0.1)
