"""No sample harms another: bad input, bad scores, blow-up, order and splits of the batch."""

from __future__ import annotations

import math

import pytest
import torch

from sdekit.likelihood import log_likelihood
from sdekit.score import Gaussian, GaussianMixture
from sdekit.sde import GBM, VP, Brownian

SDE = VP()
SCORE = GaussianMixture([[-1.0, 0.5], [1.0, -0.5]], [0.3, 0.5], None, SDE)
X = SCORE.sample(6, seed=1, dtype=torch.float64)
TIGHT = {"rtol": 1e-6, "atol": 1e-6}


def test_order_of_the_batch_does_not_matter():
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    whole = log_likelihood(SDE, SCORE, X)
    mixed = log_likelihood(SDE, SCORE, X[order])
    # The worst sample's error does not depend on the order, so the steps are the same.
    torch.testing.assert_close(mixed.log_prob, whole.log_prob[order], rtol=1e-11, atol=1e-11)


def test_a_hard_sample_does_not_loosen_the_others():
    # The mean over 1000 easy samples would hide the hard one; the worst sample's norm does not.
    easy = torch.zeros(1000, 2, dtype=torch.float64)
    hard = torch.tensor([[6.0, -6.0]], dtype=torch.float64)
    alone = log_likelihood(SDE, SCORE, hard, **TIGHT)
    among = log_likelihood(SDE, SCORE, torch.cat([easy, hard]), **TIGHT)
    assert among.nfe[-1] >= alone.nfe[0]
    # About 20 steps, each within rtol |log p| = 1e-6 x 111 nats.
    torch.testing.assert_close(among.log_prob[-1:], alone.log_prob, rtol=0.0, atol=2e-3)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("divergence", ["exact", "hutchinson"])
def test_non_finite_input_is_reported(bad, divergence):
    x = X.clone()
    x[2, 1] = bad
    options = {"divergence": divergence, "n_probes": 3}
    good = log_likelihood(SDE, SCORE, X, **options, **TIGHT)
    got = log_likelihood(SDE, SCORE, x, **options, **TIGHT)
    assert got.status.dtype == torch.int8 and got.status.tolist() == [0, 0, 1, 0, 0, 0]
    assert got.log_prob[2].isnan() and got.std_error[2].isnan() and got.nfe[2] == 0
    others = got.status == 0
    torch.testing.assert_close(got.log_prob[others], good.log_prob[others], rtol=0, atol=1e-4)
    torch.testing.assert_close(got.std_error[others], good.std_error[others], rtol=0, atol=1e-4)


def test_all_non_finite():
    got = log_likelihood(SDE, SCORE, torch.full((3, 2), math.nan))
    assert got.status.tolist() == [1, 1, 1] and got.log_prob.isnan().all()


@pytest.mark.parametrize("since", [0.0, 0.4])
def test_a_score_that_turns_nan_harms_only_its_sample(since):
    x = X.clone()
    x[4] = torch.tensor([-9.0, 9.0])

    def score(t, x):
        broken = (x[:, :1] < -2.0) & (t >= since)
        return torch.where(broken, math.nan, SCORE(t, x))

    good = log_likelihood(SDE, SCORE, x, **TIGHT)
    got = log_likelihood(SDE, score, x, **TIGHT)
    assert got.status.tolist() == [0, 0, 0, 0, 1, 0] and got.log_prob[4].isnan()
    others = got.status == 0
    torch.testing.assert_close(got.log_prob[others], good.log_prob[others], rtol=0, atol=1e-4)


class Line:
    """Log-density 0 everywhere: only the integral of the divergence is looked at."""

    def log_prob(self, x):
        return torch.zeros_like(x[:, 0])


def test_blow_up_in_finite_time_ends_that_sample_only():
    # s = -2 x^2 under Brownian motion: dx/dt = x^2, x(t) = x / (1 - x t), log p = 2 log(x_T / x).
    x = torch.tensor([[-1.0], [4.0], [0.5]], dtype=torch.float64)
    got = log_likelihood(
        Brownian(), lambda t, x: -2.0 * x.square(), x, prior=Line(), t_min=0.0, **TIGHT
    )
    assert got.status[0] == 0 and got.status[1] != 0 and got.status[2] == 0
    want = torch.tensor([2.0 * math.log(0.5), 2.0 * math.log(2.0)], dtype=torch.float64)
    torch.testing.assert_close(got.log_prob[[0, 2]], want, rtol=0.0, atol=1e-4)
    assert got.log_prob[1].isnan()


def test_non_finite_prior_is_reported():
    class Half:
        def log_prob(self, x):
            return torch.where(x[:, 0] > 0, 0.0, -math.inf).to(x.dtype)

    x = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    got = log_likelihood(SDE, Gaussian(0.0, 1.0, SDE), x, prior=Half())
    assert got.status.tolist() == [0, 1]


def test_state_dependent_noise():
    # GBM with the score of its own lognormal law at every time: x_0 = e^{y}, y ~ N(0, s^2).
    mu, sigma, s = 0.1, 0.5, 0.4
    sde = GBM(mu, sigma)

    def law(t):
        return (mu - 0.5 * sigma**2) * t, s**2 + sigma**2 * t

    def log_prob(t, x):
        m, v = law(t)
        y = x.log()
        logs = -0.5 * (y - m).square() / v - 0.5 * math.log(2.0 * math.pi) - y
        return (logs - 0.5 * torch.log(torch.as_tensor(v, dtype=x.dtype))).sum(1)

    def score(t, x):
        m, v = law(t)
        return -((x.log() - m) / v + 1.0) / x

    class AtOne:
        def log_prob(self, x):
            return log_prob(1.0, x)

    x = torch.tensor([[0.7, 1.2], [1.0, 2.0]], dtype=torch.float64)
    got = log_likelihood(sde, score, x, prior=AtOne(), t_min=0.0, t_max=1.0, **TIGHT)
    torch.testing.assert_close(got.log_prob, log_prob(0.0, x), rtol=0.0, atol=1e-4)


def test_empty_batch():
    got = log_likelihood(SDE, SCORE, X[:0])
    assert got.log_prob.shape == got.std_error.shape == got.nfe.shape == got.status.shape == (0,)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"divergence": "hutchison"}, ValueError, "hutchinson"),
        ({"probes": "normal"}, ValueError, "gaussian"),
        ({"method": "dopri"}, ValueError, "dopri5"),
        ({"derivative": "backward"}, ValueError, "reverse"),
        ({"n_probes": 0}, ValueError, "n_probes"),
        ({"n_probes": 1.5}, TypeError, "n_probes"),
        ({"rtol": 0.0}, ValueError, "rtol"),
        ({"atol": -1.0}, ValueError, "atol"),
        ({"rtol": 1e-18}, ValueError, "rounding"),
        ({"chunk": 0}, ValueError, "chunk"),
        ({"t_min": 1.0}, ValueError, "t_min < t_max"),
        ({"t_min": -0.1}, ValueError, "t_min < t_max"),
        ({"t_max": math.inf}, ValueError, "t_min < t_max"),
        ({"t_max": 0.5}, ValueError, "law at T = 1, but t_max is 0.5: write .*prior=p"),
        ({"prior": 3}, TypeError, "log_prob"),
        ({"prior": torch.distributions.Normal(0.0, 1.0)}, ValueError, "one number a sample"),
        ({"transform": 255}, TypeError, "DataTransform"),
        ({"x": torch.zeros(3, 2, dtype=torch.int64)}, TypeError, "float32 or float64"),
        ({"x": torch.zeros(3, 2, dtype=torch.float16)}, TypeError, "float32 or float64"),
        ({"x": torch.zeros(3, 0)}, ValueError, "D >= 1"),
        ({"x": torch.tensor(1.0)}, ValueError, "D >= 1"),
        ({"x": torch.zeros(3)}, ValueError, r"x.view\(-1, 1\)"),
        ({"x": [[1.0]]}, TypeError, "torch.Tensor"),
        ({"x": torch.zeros(3, 5)}, ValueError, "shape"),
        ({"score": lambda t, x: x[:, :1]}, ValueError, "shape"),
        ({"score": 3}, TypeError, "callable"),
        ({"sde": 3}, TypeError, "int has no"),
        ({"sde": GBM(0.1, 0.5), "t_min": 0.0, "t_max": 1.0}, TypeError, "prior="),
    ],
)
def test_wrong_arguments(change, error, says):
    given = {"sde": SDE, "score": SCORE, "x": X, **change}
    with pytest.raises(error, match=says):
        log_likelihood(given.pop("sde"), given.pop("score"), given.pop("x"), **given)
