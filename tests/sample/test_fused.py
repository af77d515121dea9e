"""The whole run as one kernel: the loop's noise, the loop's result."""

from __future__ import annotations

import pytest
import torch

from sdekit.sample import sample
from sdekit.score import MLP, Gaussian, GaussianMixture
from tests.sample.cases import PREDICTORS, SDES

VP = SDES["vp"]
HOW = {"steps": 30, "seed": 9, "dtype": torch.float64}


def both(sde, score, shape, **how):
    fused, info = sample(sde, score, shape, fuse=True, return_info=True, path_points=4, **how)
    apart, other = sample(sde, score, shape, fuse=False, return_info=True, path_points=4, **how)
    assert "one kernel" in info.reason
    assert "step by step" in other.reason
    assert torch.equal(info.path_t, other.path_t)
    assert info.nfe == other.nfe
    # Rounding alone, but a snr step of few components divides by the norm of a score near zero.
    torch.testing.assert_close(info.path, other.path, rtol=1e-8, atol=1e-8)
    assert torch.equal(info.path[-1], fused)
    return fused, apart


@pytest.mark.parametrize("corrector_first", [False, True])
@pytest.mark.parametrize("corrector", ["none", "langevin", "annealed"])
@pytest.mark.parametrize("predictor", PREDICTORS)
def test_every_pair(predictor, corrector, corrector_first):
    """With the last noise in one order and without it in the other: each is a kernel to compile."""
    score = Gaussian(0.3, 0.5, VP)
    how = {"predictor": predictor, "corrector": corrector, "corrector_first": corrector_first}
    how["denoise"] = corrector_first != (corrector == "langevin")
    if predictor != "none" or corrector != "none":
        both(VP, score, (50, 6), **how, **HOW)


@pytest.mark.parametrize("predictor", ["none", "ddim"])
def test_the_corrector_without_bias(predictor):
    score = Gaussian(0.3, 0.5, VP)
    how = {"predictor": predictor, "corrector": "ou", "corrector_first": predictor == "ddim"}
    both(VP, score, (50, 6), data_std=[0.5, 0.4, 1.0, 2.0, 0.1, 1.0], **how, **HOW)


@pytest.mark.parametrize("name", sorted(SDES))
def test_every_sde(name):
    sde = SDES[name]
    shape = (50, *(sde.event_shape or (6,)))
    both(sde, Gaussian(0.3, 0.5, sde), shape, corrector="annealed", **HOW)


def test_a_mixture_and_a_small_network():
    mixture = GaussianMixture([[1.0, 0.0], [-1.0, 2.0], [0.0, -2.0]], 0.3, [0.3, 0.3, 0.4], VP)
    both(VP, mixture, (100, 2), corrector="annealed", **HOW)
    net = torch.nn.Linear(3, 3).double()

    def score(t, x):
        return -x + 0.1 * torch.tanh(net(x) * t)

    both(VP, score, (40, 3), **HOW)


def test_pieces_have_the_bits_of_the_whole():
    score = Gaussian(0.3, 0.5, VP)
    how = {"corrector": "langevin", "fuse": True, "steps": 30, "seed": 4}
    whole = sample(VP, score, (11, 3), first_sample=100, **how)
    cuts = ((100, 1), (101, 7), (108, 3))
    parts = [sample(VP, score, (n, 3), first_sample=at, **how) for at, n in cuts]
    assert torch.equal(torch.cat(parts), whole)


@pytest.mark.parametrize("shape", [(1, 3), (7, 1)])
def test_the_start_that_is_kept_is_not_written_over(shape):
    # The transpose of one sample, or of one component, is contiguous without a copy.
    both(VP, Gaussian(0.3, 0.5, VP), shape, **HOW)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"corrector": "langevin", "corrector_steps": 2}, "one corrector step"),
        ({"corrector": "langevin", "norm": "batch"}, "ties the samples together"),
        ({"backend": "torch"}, "torch backend"),
        ({"dtype": torch.bfloat16}, "float32 or float64"),
    ],
)
def test_what_cannot_be_one_kernel_says_why(options, reason):
    score = Gaussian(0.3, 0.5, VP)
    _, info = sample(VP, score, (3, 2), steps=20, return_info=True, **options)
    assert reason in info.reason
    with pytest.raises(RuntimeError, match=reason):
        sample(VP, score, (3, 2), steps=20, fuse=True, **options)


def test_large_states_and_large_networks_go_step_by_step():
    _, info = sample(VP, Gaussian(0.0, 1.0, VP), (2, 65), steps=20, return_info=True)
    assert "64 components" in info.reason
    net = MLP((4,), sde=VP)
    _, info = sample(VP, net, (2, 4), steps=20, return_info=True)
    assert "step by step" in info.reason
    with pytest.raises(RuntimeError, match="one kernel"):
        sample(VP, lambda t, x: -x if float(t) > 0.5 else x, (2, 3), steps=20, fuse=True)


def test_a_sample_that_is_lost_is_reported_alone():
    def score(t, x):
        return torch.where((x.abs() > 2.5).any(1, keepdim=True) & (t < 0.9), torch.inf, -x)

    x, info = sample(VP, score, (500, 2), steps=40, seed=3, return_info=True, fuse=True)
    y, other = sample(VP, score, (500, 2), steps=40, seed=3, return_info=True, fuse=False)
    assert torch.equal(info.nonfinite_step, other.nonfinite_step)
    assert 0 < int(info.status.sum()) < 500
    lost = info.status == 1
    assert torch.isfinite(x[~lost]).all()
    torch.testing.assert_close(x[~lost], y[~lost], rtol=1e-4, atol=1e-5)
