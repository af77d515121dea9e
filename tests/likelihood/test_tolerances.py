"""What the tolerances promise: an error in nats, at a cost, in float32 as in float64."""

from __future__ import annotations

import pytest
import torch

import sdekit as sk
from sdekit.likelihood import log_prob_with_gradient
from sdekit.likelihood.tolerances import check_accuracy, hold
from sdekit.ode import integrate

SDES = {"vp": sk.VP(), "subvp": sk.SubVP(), "ve": sk.VE()}


class LawAtT:
    """p_T itself."""

    def __init__(self, law):
        self.law = law

    def log_prob(self, x):
        return self.law.log_prob(torch.tensor(self.law.sde.T, dtype=x.dtype), x)


def mixture(sde, dim, stds):
    generator = torch.Generator().manual_seed(0)
    means = 0.7 * torch.randn(5, dim, generator=generator, dtype=torch.float64)
    return sk.score.GaussianMixture(means, stds, None, sde)


def off(sde, law, x, **tolerances):
    """(|log p - truth| in nats, what was found)."""
    found = sk.log_likelihood(sde, law, x, prior=LawAtT(law), **tolerances)
    start = torch.tensor(sde.t_min_likelihood, dtype=torch.float64)
    return (found.log_prob.double() - law.log_prob(start, x.double())).abs(), found


@pytest.mark.parametrize("name", SDES)
@pytest.mark.parametrize(("dim", "batch"), [(2, 200), (16, 100), (784, 24)])
def test_float32_is_within_a_thousandth_of_a_nat(name, dim, batch):
    """Widths 0.1 to 0.5. In 784 components 2.7e-4 is the most of 100 draws; it was 2e-3."""
    sde = SDES[name]
    law = mixture(sde, dim, torch.linspace(0.1, 0.5, 5))
    x = law.sample(batch, seed=7, dtype=torch.float64).float()
    error, found = off(sde, law, x)
    assert found.log_prob.dtype == torch.float32
    assert error.max() < 5e-4


def test_a_mixture_of_very_different_widths():
    """The state's error, times a slope of log p of some hundred, was 1.1e-3 nats; 7e-5 is left."""
    sde = SDES["vp"]
    angle = torch.arange(6, dtype=torch.float64) * (torch.pi / 3.0)
    means = 2.0 * torch.stack([angle.cos(), angle.sin()], 1)
    weights = [0.02, 0.03, 0.05, 0.2, 0.3, 0.4]
    law = sk.score.GaussianMixture(means, [0.01, 0.02, 0.05, 0.2, 0.5, 1.0], weights, sde)
    error, _ = off(sde, law, law.sample(1000, seed=0, dtype=torch.float64))
    assert error.max() < 3e-4


@pytest.mark.parametrize("scale", [1.0, 6.0])
@pytest.mark.parametrize("dim", [2, 16])
def test_rounding_never_refuses_a_step(dim, scale):
    """The finest tolerances of float32, on draws and on outliers of -20 to -2000 nats."""
    sde = SDES["vp"]
    law = mixture(sde, dim, 0.4)
    x = scale * law.sample(20, seed=0)
    _, found = off(sde, law, x, rtol=1e-6, atol=1e-6)
    _, double = off(sde, law, x.double(), rtol=1e-6, atol=1e-6)
    assert (found.status == 0).all()
    assert found.stats.rejected.double().mean() <= double.stats.rejected.double().mean() + 1.0
    assert (found.nfe <= 1.5 * double.nfe).all()


def test_an_error_test_without_a_relative_part_has_that_of_the_rounding():
    """A sum of some hundred held to 1e-9 in float32: 10,000 steps, and no end, without it."""
    rate = torch.linspace(50.0, 200.0, 8)

    def field(t, y, rows):
        x = y[:, :1]
        return torch.cat([-x, rate[rows, None] * torch.cos(3.0 * t)[:, None] * (1.0 + x)], 1)

    done = integrate(
        field, torch.ones(8, 2), 0.0, 2.0, rtol=1e-5, atol=1e-5, split=1, rest=(0.0, 1e-9)
    )
    assert (done.status == 0).all() and (done.nfe < 600).all()


def test_tolerances_finer_than_the_type_are_refused():
    law = mixture(SDES["vp"], 2, 0.4)
    x = law.sample(4, seed=0)
    with pytest.raises(ValueError, match=r"atol must be at least 9.5e-07 in torch.float32"):
        sk.log_likelihood(SDES["vp"], law, x, atol=1e-9)
    with pytest.raises(ValueError, match=r"atol must be at least .* write x.double\(\)"):
        log_prob_with_gradient(SDES["vp"], law, x, atol=1e-9)
    assert check_accuracy(1e-9, 1e-9, torch.float64) == (1e-9, 1e-9)
    # What the solver is given stays above the rounding, and is never looser than what was asked.
    assert hold(1e-6, 2e-6, 2, torch.float32)[:2] == (8 * 2.0**-23, 8 * 2.0**-23)
    assert hold(1e-5, 1e-9, 2, torch.float64)[:2] == pytest.approx((1e-6, 1e-10))


@pytest.mark.parametrize("tolerance", [1e-4, 1e-5, 1e-6])
def test_the_solver_error_down_to_the_finest_tolerance(tolerance):
    """At 1e-6 float32 allows no finer solve: the error is that of a looser one, scaled."""
    sde = SDES["vp"]
    law = sk.score.GaussianMixture([[0.0, 0.0], [2.0, 0.0]], [0.02, 0.6], None, sde)
    error, found = off(sde, law, law.sample(64, seed=0), rtol=tolerance, atol=tolerance)
    said = found.error.solver.double()
    true, told = error.square().mean().sqrt(), said.square().mean().sqrt()
    assert 0.1 * true < told < 2.0 * true and (said != 0.0).any()


def test_the_second_solve_asks_for_no_more_than_the_type_can_give(monkeypatch):
    """A tenth of atol = 1e-8 once took float32 13 s for four samples."""
    asked = []

    def held(rtol, atol, dim, dtype):
        asked.append((rtol, atol))
        return hold(rtol, atol, dim, dtype)

    monkeypatch.setattr("sdekit.likelihood.solve.hold", held)
    law = mixture(SDES["vp"], 2, 0.4)
    for rtol, atol in ((1e-6, 1e-6), (1e-6, 5e-6), (1e-4, 1e-6)):
        _, found = off(SDES["vp"], law, law.sample(2, seed=0), rtol=rtol, atol=atol)
        assert found.error.solver.isfinite().all()
    assert len(asked) == 6
    assert min(map(min, asked)) >= 8 * 2.0**-23
