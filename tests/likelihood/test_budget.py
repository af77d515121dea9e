"""The error budget where every part of it is known: mixtures under VP, sub-VP, VE."""

from __future__ import annotations

import pytest
import torch

import sdekit as sk
from sdekit.likelihood import Flow

SDES = {"vp": sk.VP(), "subvp": sk.SubVP(), "ve": sk.VE()}


def at(t):
    return torch.tensor(t, dtype=torch.float64)


class LawAtT:
    """p_T itself."""

    def __init__(self, law):
        self.law = law

    def log_prob(self, x):
        return self.law.log_prob(torch.tensor(self.law.sde.T, dtype=x.dtype), x)


def mixture(sde, dim, seed=0):
    generator = torch.Generator().manual_seed(seed)
    means = torch.randn(5, dim, generator=generator, dtype=torch.float64)
    return sk.score.GaussianMixture(means, 0.4, None, sde)


@pytest.mark.parametrize("name", SDES)
@pytest.mark.parametrize(("dim", "batch"), [(2, 16), (16, 16), (784, 3)])
def test_exact_for_real(name, dim, batch):
    """float64 within 1e-6 nats at rtol 1e-9; float32 within 1e-3 nats at the default tolerance."""
    sde = SDES[name]
    law = mixture(sde, dim)
    x = law.sample(batch, seed=0, dtype=torch.float64)
    fine = sk.log_likelihood(sde, law, x, rtol=1e-9, atol=1e-9, prior=LawAtT(law))
    truth = law.log_prob(at(sde.t_min_likelihood), x)
    assert (fine.log_prob - truth).abs().max() < 1e-6
    assert fine.stats.divergence == "closed form" and (fine.std_error == 0).all()
    x = x.float()
    plain = sk.log_likelihood(sde, law, x, prior=LawAtT(law))
    truth = law.log_prob(at(sde.t_min_likelihood), x.double())
    assert plain.log_prob.dtype == torch.float32
    assert (plain.log_prob - truth).abs().max() < 1e-3


@pytest.mark.parametrize("name", SDES)
@pytest.mark.parametrize("dim", [2, 16])
def test_the_parts_add_up_to_the_density_of_the_data(name, dim):
    sde = SDES[name]
    law = mixture(sde, dim)
    x = law.sample(16, seed=0, dtype=torch.float64)
    truth = law.log_prob(at(0.0), x)
    found = sk.log_likelihood(sde, law, x)
    error = found.error
    assert error.probe.abs().max() == 0.0
    # Each by itself.
    tight = sk.log_likelihood(sde, law, x, rtol=1e-10, atol=1e-10).log_prob
    solver = found.log_prob - tight
    assert (error.solver - solver).abs().max() < 0.3 * solver.abs().max()
    truncation = law.log_prob(at(sde.t_min_likelihood), x) - truth
    assert (error.truncation - truncation).abs().max() < 0.02 * truncation.abs().max() + 1e-9
    gap = sde.prior_log_prob(found.latent) - LawAtT(law).log_prob(found.latent)
    assert (error.prior - gap).abs().max() < 5.0 * float(error.prior_std_error.max()) + 1e-4
    # And together: what is left is far below what was there.
    left = found.log_prob - error.solver - error.truncation - error.prior - truth
    assert left.abs().max() < 0.02 * (found.log_prob - truth).abs().max() + 1e-6


def test_bound_lies_below_the_flow_and_close_to_it():
    sde = SDES["vp"]
    law = mixture(sde, 2)
    x = law.sample(16, seed=0, dtype=torch.float64)
    found = sk.log_likelihood(sde, law, x)
    bound, std_error = found.error.bound
    # The exact score: equal in expectation up to the prior's gap.
    assert ((bound - found.log_prob).abs() < 4.5 * std_error + 0.01).all()


def test_a_flow_without_an_equation_has_no_ends_to_doubt():
    law = sk.score.Gaussian(0.0, 1.0, sk.VP())

    class Normal:
        def log_prob(self, x):
            return law.log_prob(torch.zeros((), dtype=x.dtype), x)

    flow = Flow(lambda t, x: -x, Normal())
    found = sk.log_likelihood(flow, torch.ones(3, 2, dtype=torch.float64))
    assert found.error.solver.abs().max() < 1e-3
    with pytest.raises(TypeError, match="this Flow is exact at both ends"):
        _ = found.error.truncation


def test_probes_are_added_until_the_error_is_reached():
    sde = SDES["vp"]
    law = mixture(sde, 64)

    def score(t, x):  # without its closed form
        return law(t, x)

    x = law.sample(8, seed=0, dtype=torch.float64)
    exact = sk.log_likelihood(sde, law, x)
    found = sk.log_likelihood(
        sde, score, x, divergence="hutchinson", probes="gaussian", std_error=4.0, max_probes=60
    )
    assert (found.std_error <= 4.0).all() and found.stats.probes.unique().numel() > 1
    assert ((found.log_prob - exact.log_prob).abs() < 5.0 * found.std_error + 1e-3).all()
    # One estimate whatever the company.
    alone = sk.log_likelihood(
        sde,
        score,
        x[5:6],
        divergence="hutchinson",
        probes="gaussian",
        std_error=4.0,
        max_probes=60,
        first_sample=5,
    )
    torch.testing.assert_close(alone.log_prob, found.log_prob[5:6], rtol=0.0, atol=1e-6)
    assert alone.stats.probes[0] == found.stats.probes[5]
    # Where D directions would do, the exact divergence is taken.
    sharp = sk.log_likelihood(sde, score, x, divergence="hutchinson", std_error=1e-3)
    assert (sharp.std_error == 0).all() and sharp.stats.divergence == "hutchinson, then exact"
    assert (sharp.log_prob - exact.log_prob).abs().max() < 1e-3
