"""Exact scores of Gaussian and mixture data: gradients of densities that integrate to one."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.integrate import solve_ivp

from sdekit.score import Gaussian, GaussianMixture
from sdekit.sde import OU, VE, VP, Brownian, ProbabilityFlow, SubVP

DOUBLE = torch.float64
SDES = {
    "ou": OU(1.3, 0.7, 0.9),
    "ou_components": OU([0.5, -0.3], [0.7, 0.1], [0.9, 1.2]),
    "brownian": Brownian(1.7),
    "vp": VP(),
    "vp_cosine": VP("cosine"),
    "subvp": SubVP(),
    "ve": VE(),
    "ve_edm": VE("edm"),
}
COV = torch.tensor([[1.0, 0.6], [0.6, 0.5]], dtype=DOUBLE)
MEANS = torch.tensor([[1.0, -2.0], [-1.5, 0.5], [0.0, 3.0]], dtype=DOUBLE)
STDS = torch.tensor([[0.3, 0.4], [0.2, 0.8], [1.0, 0.1]], dtype=DOUBLE)
WEIGHTS = torch.tensor([0.5, 0.3, 0.2], dtype=DOUBLE)


def models(sde):
    made = {
        "gaussian": Gaussian([0.5, -1.0], [0.7, 0.2], sde),
        "mixture": GaussianMixture(MEANS, STDS, WEIGHTS, sde),
        "isotropic": GaussianMixture(MEANS, [0.5, 0.1, 0.9], None, sde),
    }
    if sde.event_shape is None:
        made["covariance"] = Gaussian([0.5, -1.0], sde=sde, cov=COV)
    return made


def points(n: int, *event: int) -> torch.Tensor:
    return torch.randn(n, *event, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)


@pytest.mark.parametrize("name", SDES)
def test_score_is_the_gradient_of_log_prob(name):
    sde = SDES[name]
    x = points(4, 2).requires_grad_()
    for t in (torch.tensor([0.0, 0.01, 0.4, 1.0], dtype=DOUBLE), torch.tensor(0.3, dtype=DOUBLE)):
        for model in models(sde).values():
            log_prob = model.log_prob(t * sde.T, x)
            assert log_prob.shape == (4,)
            (slope,) = torch.autograd.grad(log_prob.sum(), x)
            torch.testing.assert_close(model(t * sde.T, x), slope, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("name", SDES)
def test_law_is_the_sum_of_data_and_noise(name):
    # Against torch's own densities, with the moments put together here.
    sde, normal = SDES[name], torch.distributions.Normal
    t, x = torch.tensor(0.3 * sde.T, dtype=DOUBLE), points(5, 2)
    alpha, var = sde.mean_coefficient(t), sde.std(t).square()

    def moments(mean, std):
        centre = sde.offset + alpha * (mean - sde.offset)
        return centre, (alpha**2 * std**2 + var).sqrt()

    one = models(sde)["gaussian"]
    mean, std = moments(torch.tensor([0.5, -1.0]), torch.tensor([0.7, 0.2], dtype=DOUBLE))
    torch.testing.assert_close(one.log_prob(t, x), normal(mean, std).log_prob(x).sum(1))
    mean, std = moments(MEANS, STDS)
    parts = normal(mean, std).log_prob(x.unsqueeze(1)).sum(2) + WEIGHTS.log()
    torch.testing.assert_close(models(sde)["mixture"].log_prob(t, x), parts.logsumexp(1))
    if sde.event_shape is None:
        mean, _ = moments(torch.tensor([0.5, -1.0], dtype=DOUBLE), torch.zeros(2))
        law = torch.distributions.MultivariateNormal(mean, alpha**2 * COV + var * torch.eye(2))
        torch.testing.assert_close(models(sde)["covariance"].log_prob(t, x), law.log_prob(x))


@pytest.mark.parametrize("name", ["ou", "vp", "subvp"])
def test_log_prob_obeys_the_flow(name):
    # d/dt log p_t(x_t) = -div v along the probability flow: times and densities agree.
    sde = SDES[name]
    model = models(sde)["mixture"]
    flow = ProbabilityFlow(sde, model)

    def rate(t, state):
        x = torch.from_numpy(state[:2]).view(1, 2)
        time = torch.tensor(t, dtype=DOUBLE)
        jacobian = torch.autograd.functional.jacobian(lambda y: flow.drift(time, y[None])[0], x[0])
        return [*flow.drift(time, x)[0].tolist(), -float(jacobian.trace())]

    x = torch.tensor([[0.4, 0.3]], dtype=DOUBLE)
    start = [*x[0].tolist(), float(model.log_prob(torch.tensor(0.0, dtype=DOUBLE), x))]
    end = solve_ivp(rate, (0.0, 0.3), start, rtol=1e-8, atol=1e-9).y[:, -1]
    arrived = torch.from_numpy(end[:2]).view(1, 2)
    want = float(model.log_prob(torch.tensor(0.3, dtype=DOUBLE), arrived))
    assert end[2] == pytest.approx(want, abs=1e-6)


def test_high_dimension_is_stable():
    d = 10_000
    means = torch.stack([torch.full((d,), v) for v in (-1.0, 1.0)])
    model = GaussianMixture(means, 0.1, [0.5, 0.5], VP())
    x = torch.stack([means[0], means[1], 0.0 * means[0]]).float()
    t = torch.tensor(0.01)
    score, log_prob = model(t, x), model.log_prob(t, x)
    assert torch.isfinite(score).all()
    assert torch.isfinite(log_prob).all()
    # Between the two, each pulls with half its weight: no score. Log-weights there are -1e5 and so.
    torch.testing.assert_close(score[2], torch.zeros(d))
    std = math.sqrt(0.1**2 * math.exp(-0.001995) - math.expm1(-0.001995))
    want = -0.5 * d * math.log(2 * math.pi * std**2) + math.log(0.5)
    alpha = math.exp(-0.5 * 0.001995)
    want -= 0.5 * d * ((1 - alpha) / std) ** 2
    # float32 sums of 1e4 terms near 1.3: relative 1e-5 is 100 roundings.
    assert float(log_prob[0]) == pytest.approx(want, rel=1e-5)


def test_event_shapes_and_dtypes():
    sde = VP()
    x, t = points(3, 2, 2), torch.tensor([0.1, 0.5, 0.9], dtype=DOUBLE)
    flat = Gaussian([0.1, 0.2, 0.3, 0.4], sde=sde, cov=torch.diag(torch.tensor([1.0, 2, 3, 4])))
    square = Gaussian([[0.1, 0.2], [0.3, 0.4]], [[1.0, 2**0.5], [3**0.5, 2.0]], sde)
    wide = Gaussian([[0.1, 0.2], [0.3, 0.4]], sde=sde, cov=torch.diag(torch.tensor([1.0, 2, 3, 4])))
    torch.testing.assert_close(wide(t, x), square(t, x))
    torch.testing.assert_close(wide.log_prob(t, x), square.log_prob(t, x))
    torch.testing.assert_close(flat(t, x.flatten(1)), square(t, x).flatten(1))
    everywhere = Gaussian(0.5, 2.0, sde)
    assert everywhere(t, x).shape == x.shape
    assert everywhere(t.float(), x.float()).dtype == torch.float32
    assert everywhere.log_prob(0.3, x[:, 0, 0]).shape == (3,)
    assert square(t[:0], x[:0]).shape == (0, 2, 2)
    assert GaussianMixture(MEANS, STDS, WEIGHTS, sde)(t[:0], x[:0, 0]).shape == (0, 2)


def test_data_have_their_law():
    n = 40_000
    sde = VP()
    full = Gaussian([0.5, -1.0], sde=sde, cov=COV).sample(n, seed=0, dtype=DOUBLE)
    # Four standard errors: sqrt(C_ii / n) of a mean, sqrt((C_ij^2 + C_ii C_jj) / n) of a C_ij.
    error = (COV.diagonal() / n).sqrt()
    assert ((full.mean(0) - torch.tensor([0.5, -1.0])).abs() < 4 * error).all()
    error = ((COV**2 + torch.outer(COV.diagonal(), COV.diagonal())) / n).sqrt()
    assert ((full.mT.cov() - COV).abs() < 4 * error).all()
    mixture = GaussianMixture(MEANS, STDS, WEIGHTS, sde)
    draws = mixture.sample(n, seed=0, dtype=DOUBLE)
    mean = WEIGHTS @ MEANS
    var = WEIGHTS @ (STDS**2 + MEANS**2) - mean**2
    assert ((draws.mean(0) - mean).abs() < 4 * (var / n).sqrt()).all()
    share = (draws - MEANS[:, None]).div(STDS[:, None]).norm(dim=2).argmin(0).bincount() / n
    # Components overlap by less than 1e-2; the share itself has a standard error of 2.5e-3.
    assert ((share - WEIGHTS).abs() < 4 * 2.5e-3 + 1e-2).all()
    again = mixture.sample(5, seed=0, first_sample=100, dtype=DOUBLE)
    assert torch.equal(again, draws[100:105])
    assert Gaussian(0.0, 1.0, sde).sample(3, seed=0, event_shape=(2, 2)).shape == (3, 2, 2)
    assert mixture.sample(0, seed=0).shape == (0, 2)


BAD = [
    (lambda: Gaussian(0.0, 1.0), TypeError, "sde must be an AffineSDE"),
    (lambda: Gaussian(0.0, 1.0, VP(), cov=COV), TypeError, "either std or cov"),
    (lambda: Gaussian(0.0, sde=VP()), TypeError, "either std or cov"),
    (lambda: Gaussian(0.0, -1.0, VP()), ValueError, "std must be 0 or more"),
    (lambda: Gaussian([0.0, 1.0], [1.0, 1.0, 1.0], VP()), ValueError, "one event shape"),
    (lambda: Gaussian([0.0, 1.0, 2.0], sde=VP(), cov=COV), ValueError, r"shape \(3, 3\)"),
    (lambda: Gaussian(0.0, sde=VP(), cov=[[1.0, 2.0], [0.0, 1.0]]), ValueError, "symmetric"),
    (lambda: Gaussian(0.0, sde=VP(), cov=[[1.0, 2.0], [2.0, 1.0]]), ValueError, "semi-definite"),
    (lambda: Gaussian(0.0, sde=OU([1.0, 2.0]), cov=COV), ValueError, "use std"),
    (lambda: Gaussian(0.0, 1.0, VP()).sample(3, seed=0), ValueError, "event_shape"),
    (lambda: Gaussian([0.0, 1.0], 1.0, VP())(0.5, torch.ones(2, 3)), ValueError, r"\(B, 2\)"),
    (lambda: GaussianMixture([0.0, 1.0], 1.0, None, VP()), ValueError, r"\(K, D...\)"),
    (lambda: GaussianMixture(MEANS, [1.0, 2.0], None, VP()), ValueError, "stds must be"),
    (lambda: GaussianMixture(MEANS, 1.0, [0.5, 0.5], VP()), ValueError, r"shape \(3,\)"),
    (lambda: GaussianMixture(MEANS, 1.0, [0.0] * 3, VP()), ValueError, "all zero"),
    (lambda: GaussianMixture(MEANS, 1.0, [1.0, -1.0, 1.0], VP()), ValueError, "0 or more"),
    (lambda: GaussianMixture(MEANS, 1.0, None, "vp"), TypeError, "AffineSDE"),
]


@pytest.mark.parametrize(("call", "error", "says"), BAD)
def test_bad_input_says_what_is_needed(call, error, says):
    with pytest.raises(error, match=says):
        call()
