"""Data that a likelihood cannot be of, and solves that do not come to their end."""

from __future__ import annotations

import pytest
import torch

import sdekit as sk
from sdekit.likelihood import Flow

SDE = sk.VP()
SCORE = sk.score.Gaussian(0.0, 0.5, SDE)
DIGITS = torch.arange(48).reshape(3, 16) % 17
TRANSFORM = sk.DataTransform(17)


def test_data_outside_the_range_is_named_and_how_far():
    x = TRANSFORM.forward(DIGITS)
    x[1, 5] = 1.25
    x[2, 0] = -3.0
    with pytest.raises(ValueError, match=r"x\[1, 5\] = 1.25 is 0.25 outside, .* 2 of 48 numbers"):
        sk.log_likelihood(SDE, SCORE, x, transform=TRANSFORM)
    sk.log_likelihood(SDE, SCORE, x)  # a density has no range


def test_data_that_was_never_dequantized():
    lattice = TRANSFORM.low + 2.0 * DIGITS / 17.0
    with pytest.raises(ValueError, match=r"sample 0 has all numbers at one place .* never deq"):
        sk.log_likelihood(SDE, SCORE, lattice, transform=TRANSFORM)
    middles = sk.DataTransform(17, dequantize=False)
    with pytest.raises(ValueError, match="never dequantized are no bound"):
        sk.log_likelihood(SDE, SCORE, middles.forward(DIGITS), transform=middles)
    with pytest.raises(ValueError, match="bits per dimension need the map"):
        _ = sk.log_likelihood(SDE, SCORE, lattice).bits_per_dim
    good = sk.log_likelihood(SDE, SCORE, TRANSFORM.forward(DIGITS), transform=TRANSFORM)
    assert good.bits_per_dim.isfinite().all()


def test_max_steps_leaves_the_samples_that_finished_intact():
    law = sk.score.GaussianMixture(torch.tensor([[0.0, 0.0], [2.0, 0.0]]), [0.02, 0.6], None, SDE)
    x = torch.tensor([[2.2, 0.3], [0.01, 0.0], [1.4, -0.5], [0.0, 0.02]])
    full = sk.log_likelihood(SDE, law, x)
    order = full.nfe.sort().values
    assert order[1] < order[2]
    steps = int((full.stats.accepted + full.stats.rejected).sort().values[1])
    cut = sk.log_likelihood(SDE, law, x, max_steps=steps)
    late = cut.status == 3
    assert late.sum() == 2 and cut.log_prob[late].isnan().all()
    assert torch.equal(cut.log_prob[~late], full.log_prob[~late])


def test_a_flow_says_itself_what_an_equation_needs_told():
    flow = Flow.from_score(SDE, SCORE)
    x = torch.zeros(2, 3)
    assert torch.equal(
        sk.log_likelihood(flow, x).log_prob, sk.log_likelihood(SDE, SCORE, x).log_prob
    )
    with pytest.raises(TypeError, match="leave t_min= away"):
        sk.log_likelihood(flow, x, t_min=0.1)
    with pytest.raises(TypeError, match=r"log_prob\(x\)"):
        Flow(lambda t, x: x, 3)
    with pytest.raises(ValueError, match="two finite times"):
        Flow(lambda t, x: x, SCORE, t_prior=0.0)
    with pytest.raises(ValueError, match="the exact divergence has none"):
        sk.log_likelihood(flow, x, std_error=0.1)
