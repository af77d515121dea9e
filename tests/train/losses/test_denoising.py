"""Denoising score matching: minimizer, values and weightings, all known for Gaussian data."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sdekit.score import Gaussian
from sdekit.sde import OU, VE, VP, AffineSDE, SubVP
from sdekit.train import TimeSampler, denoising_score_matching
from sdekit.train.losses import bound_constant
from sdekit.train.weighting import LogNormal, get_weighting, level, level_rate

DOUBLE = torch.float64
SDES = [VP(), VP("cosine"), SubVP(), VE(sigma_max=10.0), VE("edm", sigma_max=20.0)]
IDS = ["vp", "vp-cosine", "subvp", "ve", "ve-edm"]


def zero_score(_t: Tensor, x: Tensor) -> Tensor:
    return torch.zeros_like(x)


@pytest.mark.parametrize("proposal", ["uniform", "log_snr", "lognormal"])
@pytest.mark.parametrize("sde", SDES, ids=IDS)
def test_the_proposal_leaves_the_objective_alone(sde: AffineSDE, proposal: str) -> None:
    # E[h(Q(u)) Q'(u)] = \int h dt for h = 1 and h = t, by the midpoint rule in u on the cells of Q.
    times = TimeSampler(sde, proposal=proposal, mean=-0.5)
    n = 1024 * 16
    t, w = times.quantile((torch.arange(n, dtype=DOUBLE) + 0.5) / n)
    assert bool((t[1:] > t[:-1]).all())
    low, high = sde.t_min_likelihood, sde.T
    # Q is linear in each cell, so the midpoint rule is exact for both.
    assert w.mean().item() == pytest.approx(1.0, rel=1e-9)
    assert (w * t).mean().item() == pytest.approx(0.5 * (low + high), rel=1e-9)


@pytest.mark.parametrize("sde", SDES, ids=IDS)
def test_log_snr_times_are_even_in_log_snr(sde: AffineSDE) -> None:
    t, w = TimeSampler(sde, proposal="log_snr").quantile(torch.linspace(0, 1, 1025, dtype=DOUBLE))
    gaps = level(sde, t).diff()
    torch.testing.assert_close(gaps, gaps.mean().expand_as(gaps), rtol=1e-6, atol=1e-9)
    # With the likelihood weighting the squared error of eps has one weight at every level: twice
    # the span of l, up to the cells of Q (1024 of them, each linear: relative error of a cell).
    inside = slice(1, -1)
    weight = (w * get_weighting("likelihood")(sde, t) / sde.std(t).square())[inside]
    if not isinstance(sde, VP) or sde.schedule.__class__.__name__ == "LinearBeta":
        span = 2.0 * (level(sde, t[-1:]) - level(sde, t[:1])) / (sde.T - sde.t_min_likelihood)
        torch.testing.assert_close(weight, span.expand_as(weight), rtol=2e-2, atol=0.0)


def test_level_rate_is_the_derivative_of_the_level() -> None:
    for sde in SDES:
        t = torch.linspace(0.1, 0.9, 5, dtype=DOUBLE, requires_grad=True)
        (slope,) = torch.autograd.grad(level(sde, t).sum(), t)
        torch.testing.assert_close(level_rate(sde, t), slope)


def test_lognormal_weighting_is_even_under_its_own_proposal() -> None:
    sde = VP()
    weighting = LogNormal(-1.0, 1.0, 0.7)
    times = TimeSampler(sde, proposal="lognormal", mean=-1.0, std=1.0)
    t, w = times.quantile(torch.linspace(0.05, 0.95, 500, dtype=DOUBLE))
    at = level(sde, t)
    eps_weight = w * (sde.T - times.t_min) * weighting(sde, t) / sde.std(t).square()
    torch.testing.assert_close(eps_weight, 1.0 + (2 * at).exp() / 0.7**2, rtol=2e-2, atol=0.0)


def test_times_are_stratified() -> None:
    times = TimeSampler(VP())
    t, _ = times(64, seed=3, step=5)
    cells = ((t - times.t_min) / (times.t_max - times.t_min) * 64).floor().long()
    assert cells.sort().values.tolist() == list(range(64))
    again, _ = times(64, seed=3, step=5)
    other, _ = times(64, seed=3, step=6)
    assert torch.equal(t, again) and not torch.equal(t, other)


def test_every_place_in_the_batch_sees_every_time() -> None:
    # Each u_i is uniform on [0, 1), so that each sample's loss is unbiased: moments over the steps
    # within 5 standard errors. Strata that stayed in place would have the means 1/8, 3/8, ...
    times, n = TimeSampler(VP()), 2000
    t = torch.stack([times(4, seed=3, step=step)[0] for step in range(n)])
    u = (t - times.t_min) / (times.t_max - times.t_min)
    assert (u.mean(0) - 0.5).abs().max() < 5 * math.sqrt(1 / 12 / n)
    assert (u.var(0) - 1 / 12).abs().max() < 5 * math.sqrt(1 / 180 / n)


@pytest.mark.parametrize("sde", SDES, ids=IDS)
def test_exact_score_of_gaussian_data_has_the_known_loss(sde: AffineSDE) -> None:
    # For x_0 ~ N(m, c^2): eps - z has variance alpha^2 c^2 / (alpha^2 c^2 + sigma^2) a component,
    # so that the minimum of the simple loss is its mean over t.
    c, n, d = 0.6, 4096, 8
    score = Gaussian(0.3, c, sde)
    x0 = score.sample(n, seed=1, event_shape=(d,), dtype=DOUBLE)
    loss = denoising_score_matching(sde, score, x0, seed=2)
    t = torch.linspace(sde.t_min_likelihood, sde.T, 40001, dtype=DOUBLE)
    part = (sde.mean_coefficient(t) * c).square()
    want = torch.trapezoid(part / (part + sde.std(t).square()), t) / (sde.T - t[0])
    # n d squared normals, a weight in [0, 1]: 5 standard errors of the mean, 5 sqrt(2 / (n d)).
    assert loss.shape == (n,)
    assert abs(loss.mean().item() - want.item()) < 5 * math.sqrt(2 / (n * d))


def test_a_linear_model_learns_the_score_of_gaussian_data() -> None:
    # score = -(x - m) / (alpha^2 c^2 + sigma^2) at one noise level: a gain and an offset, fitted by
    # the normal equations of the loss, which is a quadratic in both.
    sde = OU(theta=1.0, mu=0.4, sigma=1.0)
    mean, std = 1.5, 0.5
    x0 = Gaussian(mean, std, sde).sample(20000, seed=5, event_shape=(4,), dtype=DOUBLE)
    gain = torch.zeros((), dtype=DOUBLE, requires_grad=True)
    offset = torch.zeros((), dtype=DOUBLE, requires_grad=True)
    t0 = sde.T - 1e-6
    times = TimeSampler(sde, t_min=t0)

    def loss() -> Tensor:
        return denoising_score_matching(
            sde, lambda _t, x: gain * x + offset, x0, seed=6, times=times
        ).mean()

    slopes = torch.autograd.grad(loss(), (gain, offset), create_graph=True)
    rows = [torch.autograd.grad(s, (gain, offset), retain_graph=True) for s in slopes]
    hessian = torch.stack([torch.stack(row) for row in rows]).detach()
    found = -torch.linalg.solve(hessian, torch.stack(slopes).detach())
    alpha = math.exp(-sde.T)
    var = (alpha * std) ** 2 + (1 - alpha**2) / 2
    centre = 0.4 + alpha * (mean - 0.4)
    # A regression with 80000 rows: standard error of the gain < 1 / (sigma std_x sqrt(80000)).
    error = 5 / math.sqrt(80000) / var
    assert found[0].item() == pytest.approx(-1 / var, abs=error)
    assert found[1].item() == pytest.approx(centre / var, abs=error * (1 + abs(centre)))


@pytest.mark.parametrize("sde", [VP(), SubVP(), VE(sigma_max=10.0)], ids=["vp", "subvp", "ve"])
def test_likelihood_weighting_bounds_the_log_likelihood(sde: AffineSDE) -> None:
    # With the score of N(0, s^2) the reverse SDE makes N(0, s^2), so that the bound is the cross
    # entropy with it, up to 1e-2 for the prior and the Gaussian below t_min.
    c, n, d = 0.5, 20000, 4
    x0 = Gaussian(0.0, c, sde).sample(n, seed=7, event_shape=(d,), dtype=DOUBLE)
    times = TimeSampler(sde, proposal="log_snr")
    scale = 0.5 * d * (sde.T - times.t_min)

    def bound(std: float) -> Tensor:
        score = Gaussian(0.0, std, sde)
        each = denoising_score_matching(sde, score, x0, seed=8, weighting="likelihood", times=times)
        return scale * each

    def cross_entropy(std: float) -> float:
        return 0.5 * d * (math.log(2 * math.pi * std**2) + (c / std) ** 2)

    right, wrong = bound(c), bound(1.5 * c)
    # Times are stratified: what is left is the spread of |error|^2 at its time, of which the square
    # is 2 / D of the mean's. 5 standard errors.
    noise = right.square().mean() * (2 / d) / (1 + 2 / d)
    value = (right + bound_constant(sde, x0)).mean().item()
    assert abs(value - cross_entropy(c)) < 5 * math.sqrt(noise / n) + 1e-2
    # The difference has the same noise in both and shows the bound much more sharply.
    gap = wrong - right
    want = cross_entropy(1.5 * c) - cross_entropy(c)
    assert abs(gap.mean().item() - want) < 5 * gap.std().item() / math.sqrt(n) + 1e-2
    assert 5 * gap.std().item() / math.sqrt(n) < 0.5 * want


def test_gradients_flow_and_steps_differ() -> None:
    sde = VP()
    weight = torch.tensor(-1.0, requires_grad=True)
    x0 = torch.ones(8, 3)
    first = denoising_score_matching(sde, lambda _t, x: weight * x, x0, seed=0, step=0)
    second = denoising_score_matching(sde, lambda _t, x: weight * x, x0, seed=0, step=1)
    assert not torch.equal(first, second)
    first.sum().backward()
    assert weight.grad is not None and weight.grad.isfinite()


def test_zero_score_has_the_loss_one() -> None:
    # |0 - z|^2 / D with the simple weighting: 1 up to 5 sqrt(2 / (n d)).
    loss = denoising_score_matching(VP(), zero_score, torch.zeros(2000, 16), seed=1)
    assert abs(loss.mean().item() - 1.0) < 5 * math.sqrt(2 / 32000)


def test_bad_input_is_refused() -> None:
    x0 = torch.zeros(4, 2)
    with pytest.raises(ValueError, match="Did you mean 'likelihood'"):
        denoising_score_matching(VP(), zero_score, x0, seed=0, weighting="likelyhood")
    with pytest.raises(ValueError, match=r"t_min must be above 0 and below T"):
        TimeSampler(VP(), t_min=1.0)
    with pytest.raises(ValueError, match="unknown proposal"):
        TimeSampler(VP(), proposal="even")
    with pytest.raises(ValueError, match="use 'uniform'"):
        TimeSampler(OU(theta=[1.0, 2.0]), proposal="log_snr")
    with pytest.raises(ValueError, match="choose a mean within"):
        TimeSampler(VP(), proposal="lognormal", mean=50.0, std=1.0)
    with pytest.raises(TypeError, match="AffineSDE"):
        TimeSampler(object())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="shape"):
        denoising_score_matching(VP(), lambda _t, x: x[:, :1], x0, seed=0)
