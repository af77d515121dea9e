"""The root of time as the clock of a diffusion's flow: the same answer, and few evaluations."""

import math

import pytest
import torch

import sdekit as sk
from sdekit.likelihood import Flow
from sdekit.likelihood.clock import Clock
from sdekit.likelihood.gradient.log_prob import log_prob_with_gradient

SDE = sk.VP()


class Points:
    """The score of a law without any width, -eps / std: singular at t = 0, as networks' are."""

    def __call__(self, t, x):
        std = SDE.std(t).reshape(-1, *[1] * (x.ndim - 1))
        return -x / std.square()


def exact(x):
    """log N(x; 0, std(t_min)^2), up to what the prior leaves out."""
    std = SDE.std(torch.tensor(SDE.t_min_likelihood, dtype=x.dtype))
    return -0.5 * (x / std).square().sum(1) - x.shape[1] * (std.log() + 0.5 * math.log(2 * math.pi))


def test_a_singular_start_costs_few_steps_and_loses_no_accuracy():
    std = SDE.std(torch.tensor(SDE.t_min_likelihood, dtype=torch.float64))
    x = std * torch.linspace(-2.0, 2.0, 12, dtype=torch.float64).reshape(4, 3)

    class Law:
        def log_prob(self, z):
            s = SDE.std(torch.tensor(SDE.T, dtype=z.dtype))
            return torch.distributions.Normal(0.0, s).log_prob(z).sum(1)

    found = sk.log_likelihood(
        SDE, Points(), x, prior=Law(), divergence="exact", rtol=1e-6, atol=1e-6
    )
    torch.testing.assert_close(found.log_prob, exact(x), rtol=0.0, atol=1e-4)
    same = log_prob_with_gradient(SDE, Points(), x, prior=Law(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(same, found.log_prob, rtol=0.0, atol=1e-4)


def test_who_has_which_clock():
    law = sk.score.Gaussian(0.0, 1.0, SDE)
    flow = Flow.from_score(SDE, law)
    closed, root = Clock(flow, closed=True), Clock(flow, closed=False)
    assert (closed.of(0.25), closed.first(0.25)) == (0.25, None)
    assert (root.of(0.25), root.first(0.5), root.first(0.0)) == (0.5, 0.5, None)
    u = torch.tensor([root.of(root.low), 0.5, root.of(root.high)])
    t = root.field_time(u)
    assert t.min() >= root.low and t.max() <= root.high
    slope = torch.ones(3, 2)
    torch.testing.assert_close(root.by_clock(u, slope), 2.0 * u[:, None].expand(3, 2))
    assert closed.by_clock(u, slope) is slope
    plain = Flow(lambda t, x: -x, law, t_data=-1.0, t_prior=1.0, breaks=(-0.5, 0.5, 3.0))
    assert Clock(plain, closed=False).breaks() == [-0.5, 0.5]


@pytest.mark.parametrize("t_min", [0.0, 1e-5, 1e-2])
def test_any_start(t_min):
    law = sk.score.Gaussian(0.5, 0.7, SDE)
    x = torch.linspace(-1.0, 1.0, 8, dtype=torch.float64).reshape(4, 2)
    asked = {"t_min": t_min, "rtol": 1e-8, "atol": 1e-8}
    closed = sk.log_likelihood(SDE, law, x, **asked)
    root = sk.log_likelihood(SDE, lambda t, x: law(t, x), x, **asked)
    torch.testing.assert_close(root.log_prob, closed.log_prob, rtol=0.0, atol=1e-6)
