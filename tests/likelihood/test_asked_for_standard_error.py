"""``std_error=``: no bias, an error that is told as large as it is, and as small as was asked for.

Copies of one sample have probes of their own, so that a batch of them is as many repetitions. The
field is -A x / 2, whose steps cost nothing, and A's few large eigenvalues make the probes' forms
skewed: that is where mean and spread of few of them go together.
"""

from __future__ import annotations

import math

import pytest
import torch

import sdekit as sk
from sdekit.likelihood import Flow
from sdekit.likelihood.rounds import LEAST, first_set, second_error, second_sets

DOUBLE = torch.float64
DIM, COPIES = 80, 600


class Line:
    """Log-density 0 everywhere: log_prob is the integral of the divergence."""

    def log_prob(self, x):
        return torch.zeros_like(x[:, 0])


def field():
    turn = torch.linalg.qr(
        torch.randn(DIM, DIM, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    )[0]
    a = (turn * torch.tensor([4.0, 2.0] + [0.1] * (DIM - 2), dtype=DOUBLE)) @ turn.mT
    return (lambda t, x: -0.5 * x @ a), float(-0.5 * a.trace())


def copies(n=COPIES):
    return torch.linspace(-1.0, 1.0, DIM, dtype=DOUBLE).expand(n, DIM).contiguous()


def found(divergence, **options):
    drift, truth = field()
    got = sk.log_likelihood(
        Flow(drift, Line()),
        copies(),
        divergence=divergence,
        rtol=1e-3,
        atol=1e-3,
        seed=3,
        **options,
    )
    return got, got.log_prob - truth


@pytest.mark.parametrize("asked", [0.5, 0.8])
def test_no_bias_an_honest_error_and_the_one_that_was_asked_for(asked):
    # Gaussian probes: one column has the std 3.2, most of it of one eigenvalue.
    got, wrong = found("hutchinson", probes="gaussian", std_error=asked)
    some = got.std_error > 0.0
    assert some.double().mean() > 0.1 and got.stats.probes.unique().numel() > 2
    rms = float(wrong.square().mean().sqrt())
    # 4 standard errors. Stopping by the spread of the same probes gave a bias of 0.3 times asked,
    # eight of them.
    assert abs(float(wrong.mean())) < 4.0 * float(wrong.std()) / math.sqrt(COPIES) + 1e-3
    assert rms < asked
    told = got.std_error.square().mean().sqrt()
    # The larger of two estimates: told too large by a fifth at the most, and not too small.
    assert rms < 1.05 * float(told) and float(told) < 1.35 * rms
    assert float(told) < 1.05 * asked
    # 0.3 % of normal errors; 18 to 31 % it was. 1.2 % and 4 standard errors of 600 copies.
    beyond = (wrong.abs() > 3.0 * got.std_error)[some].double().mean()
    assert float(beyond) < 0.03


@pytest.mark.parametrize("divergence", ["hutch++", "xtrace"])
def test_the_other_methods(divergence):
    # 120 components: two first sets are fewer products.
    turn = torch.linalg.qr(
        torch.randn(120, 120, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)
    )[0]
    size = 3.0 * torch.arange(1, 121, dtype=DOUBLE).pow(-0.5)
    a = (turn * size) @ turn.mT
    x = torch.zeros(100, 120, dtype=DOUBLE)
    got = sk.log_likelihood(
        Flow(lambda t, x: -0.5 * x @ a, Line()),
        x,
        divergence=divergence,
        std_error=0.4,
        rtol=1e-2,
        atol=1e-2,
    )
    wrong, some = got.log_prob + 0.5 * a.trace(), got.std_error > 0.0
    assert some.any() and divergence in got.stats.divergence
    assert abs(float(wrong.mean())) < 4.0 * float(wrong.std()) / math.sqrt(100) + 1e-3
    rms, told = (float(v.square().mean().sqrt()) for v in (wrong, got.std_error))
    # Each is known to a tenth.
    assert rms < 0.4 and rms < 1.25 * told
    assert (wrong.abs() > 3.0 * got.std_error)[some].double().mean() < 0.04


@pytest.mark.parametrize("divergence", ["hutchinson", "hutch++", "xtrace"])
@pytest.mark.parametrize("max_probes", [2, 3, 4, 5, 6, 7, 31, 33])
def test_a_small_budget(divergence, max_probes):
    drift, _ = field()
    ask = {"divergence": divergence, "std_error": 1e-3, "rtol": 1e-2, "atol": 1e-2}
    flow, x = Flow(drift, Line()), copies(3)
    if max_probes < LEAST[divergence]:
        with pytest.raises(ValueError, match=f"from {LEAST[divergence]} probes on"):
            sk.log_likelihood(flow, x, max_probes=max_probes, **ask)
        return
    got = sk.log_likelihood(flow, x, max_probes=max_probes, **ask)
    assert got.log_prob.isfinite().all() and (got.std_error > 0.0).all()
    assert (got.stats.probes <= max_probes).all()
    assert got.error.solver.isfinite().all()


@pytest.mark.parametrize("divergence", ["hutchinson", "hutch++", "xtrace"])
def test_the_budget_of_a_value_with_an_error_that_was_asked_for(divergence):
    sde = sk.VP()
    means = torch.randn(2, 100, generator=torch.Generator().manual_seed(0))
    law = sk.score.GaussianMixture(means, 0.4, None, sde)
    x = law.sample(2, seed=0)
    got = sk.log_likelihood(
        sde, lambda t, x: law(t, x), x, divergence=divergence, std_error=2.0, rtol=1e-2, atol=1e-2
    )
    for part in (got.error.solver, got.error.truncation, got.error.prior):
        assert part.isfinite().all()


def test_how_many_probes_the_first_set_chooses():
    assert first_set("hutchinson", 1, 4096, 784) == ("hutchinson", 16, True)
    assert first_set("hutchinson", 40, 4096, 784) == ("hutchinson", 40, True)
    assert first_set("hutchinson", 1, 20, 784) == ("hutchinson", 20, False)
    assert first_set("hutchinson", 1, 4096, 32) == ("exact", 16, False)
    assert first_set("hutchinson", 1, 20, 30) == ("hutchinson", 20, False)
    assert first_set("hutch++", 1, 4096, 784) == ("hutch++", 48, True)
    error = torch.tensor([0.1, 0.7, 0.8, 1.0, 2.0, 50.0])
    sets = second_sets(error, 1.0, "hutchinson", 16, 4096, 100)
    number = {int(i): (kind, n) for kind, n, rows in sets for i in rows.nonzero()}
    assert [number[i] for i in range(6)] == [
        ("hutchinson", 16),
        ("hutchinson", 16),
        ("hutchinson", 24),
        ("hutchinson", 32),
        ("exact", 16),
        ("exact", 16),
    ]
    # Never above the budget, whatever the spread.
    (only,) = second_sets(torch.tensor([1e6]), 1e-6, "hutchinson", 16, 50, 100)
    assert only[:2] == ("hutchinson", 34)
    own, first = torch.tensor([1.0, 2.0]), torch.tensor([1.5, 1.5])
    told = second_error(own, first, "hutchinson", 16, 16)
    torch.testing.assert_close(told, torch.tensor([1.5 * math.sqrt(15.0 / 13.0), 2.0]))
    assert torch.equal(second_error(own, first, "hutch++", 48, 48), own)
    assert torch.equal(second_error(own, first, "xtrace", 32, 32), math.sqrt(1.5) * own)
