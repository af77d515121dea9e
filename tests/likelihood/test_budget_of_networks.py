"""The budget of scores without a closed form, of samples without a value, and on torchdiffeq."""

from __future__ import annotations

import math

import pytest
import torch

import sdekit as sk
from sdekit.likelihood import truncation_error
from sdekit.likelihood.divergence import field_divergence
from sdekit.ode.solution import MAX_STEPS

SDE = sk.VP()
LAW = sk.score.GaussianMixture([[-0.5, 0.5], [0.5, -0.2]], [0.3, 0.5], None, SDE)
X = LAW.sample(6, seed=0, dtype=torch.float64)
T_MIN = 1e-3


def unnamed(t, x):
    """The score without its closed form."""
    return LAW(t, x)


def with_residual(t, x):
    """A network's: the noise that it predicts is wrong by a constant, in units of the noise."""
    return LAW(t, x) - 0.6 / SDE.std(t).to(x).view(-1, 1)


def test_truncation_of_a_score_without_a_closed_form():
    truth = LAW.log_prob(torch.tensor(T_MIN).double(), X) - LAW.log_prob(
        torch.tensor(0.0).double(), X
    )
    got = sk.log_likelihood(SDE, unnamed, X, t_min=T_MIN, rtol=1e-7, atol=1e-7).error.truncation
    # The flow from t_min / 100 leaves a hundredth; half a percent for what grows faster.
    assert (got - truth).abs().max() < 0.03 * truth.abs().max() + 1e-5


def test_a_residual_of_the_score_is_no_truncation():
    found = sk.log_likelihood(SDE, with_residual, X, rtol=1e-6, atol=1e-6)
    at_once = sk.log_likelihood(SDE, with_residual, X, t_min=1e-9, rtol=1e-6, atol=1e-6)
    moved = found.log_prob - at_once.log_prob

    def divergence(t, x):
        return field_divergence(lambda x: with_residual(t, x), x)[1][:, 0]

    # Two components of 0.6^2 / 2 nats each, which no flow of this score has.
    start = SDE.t_min_likelihood
    formula = truncation_error(SDE, with_residual, X, divergence, t_min=start)
    assert float(formula.mean()) > 0.3 and float(moved.abs().max()) < 0.05
    # From t_min / 100, where a tenth of the way in sqrt(t) is left.
    assert (found.error.truncation - moved).abs().max() < 0.2 * moved.abs().max()


def test_samples_without_a_value_have_no_budget():
    got = sk.log_likelihood(SDE, unnamed, torch.cat([X, 40.0 * X[:1]]), max_steps=17)
    assert set(got.status.tolist()) == {0, MAX_STEPS}
    lost = got.log_prob.isnan()
    value, error = got.error.bound
    parts = (got.error.solver, got.error.truncation, got.error.prior, got.error.probe, value, error)
    for part in parts:
        assert torch.equal(part.isnan(), lost)
    closed = sk.log_likelihood(SDE, LAW, torch.cat([X, 40.0 * X[:1]]), max_steps=17)
    assert torch.equal(closed.error.truncation.isnan(), closed.log_prob.isnan())


def test_torchdiffeq_has_a_default_method_and_counts_its_steps():
    got = sk.log_likelihood(SDE, LAW, X, ode="torchdiffeq")
    want = sk.log_likelihood(SDE, LAW, X)
    torch.testing.assert_close(got.log_prob, want.log_prob, rtol=0.0, atol=1e-3)
    few = sk.log_likelihood(SDE, LAW, X, ode="torchdiffeq", max_steps=3)
    assert (few.status == MAX_STEPS).all() and few.log_prob.isnan().all()
    # The last of them is still made.
    steps = next(
        n
        for n in range(4, 200)
        if (sk.log_likelihood(SDE, LAW, X, ode="torchdiffeq", max_steps=n).status == 0).all()
    )
    enough = sk.log_likelihood(SDE, LAW, X, ode="torchdiffeq", max_steps=steps)
    assert torch.equal(enough.log_prob, got.log_prob)
    with pytest.raises(ValueError, match="dopri5"):
        sk.log_likelihood(SDE, LAW, X, ode="torchdiffeq", method="tsit5")


def test_an_equation_without_a_place_to_draw_from():
    class Line:
        def log_prob(self, x):
            return torch.zeros_like(x[:, 0])

    sde = sk.GBM(0.1, 0.5)
    got = sk.log_likelihood(
        sde, lambda t, x: -1.0 / x, X.abs() + 0.5, prior=Line(), t_min=0.01, t_max=0.1
    )
    with pytest.raises(TypeError, match=r"error\.prior would draw.*this part is 0; else write"):
        _ = got.error.prior
    assert math.isfinite(float(got.error.solver[0]))
