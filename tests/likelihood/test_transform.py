"""The data transform: its round trip, its noise, and the offset of bits per dimension."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sdekit.likelihood import DataTransform, log_likelihood
from sdekit.score import Gaussian
from sdekit.sde import VP


@settings(derandomize=True, deadline=None, max_examples=50)
@given(
    levels=st.integers(2, 1024),
    low=st.floats(-3.0, 3.0),
    width=st.floats(0.5, 10.0),
    dequantize=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 2**64 - 1),
)
def test_round_trip(levels, low, width, dequantize, dtype, seed):
    transform = DataTransform(levels, low, low + width, dequantize=dequantize)
    k = torch.arange(levels).repeat(3).view(-1, 1)
    x = transform.forward(k, seed=seed, dtype=dtype)
    assert x.dtype == dtype and x.shape == k.shape
    assert torch.equal(transform.inverse(x), k)
    assert float(x.min()) >= low and float(x.max()) < low + width


def test_noise_is_uniform_and_belongs_to_samples():
    transform = DataTransform(17, 0.0, 17.0)
    k = torch.zeros(20_000, 5, dtype=torch.int64)
    u = transform.forward(k, seed=1, dtype=torch.float64)
    n = u.numel()
    # Moments of the uniform law within 4 standard errors.
    assert abs(float(u.mean()) - 0.5) < 4.0 * math.sqrt(1.0 / 12.0 / n)
    assert abs(float(u.var()) - 1.0 / 12.0) < 4.0 * math.sqrt(1.0 / 180.0 / n)
    part = transform.forward(k[70:], seed=1, first_sample=70, dtype=torch.float64)
    assert torch.equal(part, u[70:])
    assert not torch.equal(transform.forward(k, seed=1, step=1, dtype=torch.float64), u)
    assert not torch.equal(transform.forward(k, seed=2, dtype=torch.float64), u)


def test_midpoints_without_dequantization():
    transform = DataTransform(4, -1.0, 1.0, dequantize=False)
    x = transform.forward([[0, 1, 2, 3]])
    torch.testing.assert_close(x, torch.tensor([[-0.75, -0.25, 0.25, 0.75]]))


def test_inverse_takes_the_nearest_bin_outside():
    transform = DataTransform(256, -1.0, 1.0)
    x = torch.tensor([[-5.0, -1.0, 0.999999, 1.0, math.inf]])
    assert transform.inverse(x).tolist() == [[0, 0, 255, 255, 255]]


def test_bits_per_dim_from_the_log_prob():
    sde = VP()
    transform = DataTransform(256, -1.0, 1.0)
    x = torch.linspace(-0.9, 0.8, 96, dtype=torch.float64).reshape(2, 3, 4, 4)
    got = log_likelihood(
        sde, Gaussian(0.0, 0.5, sde), x, transform=transform, divergence="hutchinson", n_probes=2
    )
    # Song et al. 2021's "+ 7 bits" for 8-bit data on [-1, 1], here derived: log2(256 / 2) = 7.
    want = 7.0 - got.log_prob / (48.0 * math.log(2.0))
    torch.testing.assert_close(got.bits_per_dim, want)
    torch.testing.assert_close(got.bits_std_error, got.std_error / (48.0 * math.log(2.0)))


def test_bits_do_not_depend_on_the_interval():
    # The same integers, mapped to two intervals, with the same law moved along.
    sde = VP()
    k = torch.tensor([[3, 9, 14], [0, 16, 8]])
    bits = []
    for low, high in ((-1.0, 1.0), (0.0, 5.0)):
        transform = DataTransform(17, low, high)
        x = transform.forward(k, seed=4, dtype=torch.float64)
        score = Gaussian(0.5 * (low + high), 0.3 * (high - low), sde)

        class AtEnd:
            def __init__(self, score):
                self.score = score

            def log_prob(self, x):
                return self.score.log_prob(torch.ones((), dtype=x.dtype), x)

        got = log_likelihood(sde, score, x, transform=transform, prior=AtEnd(score), t_min=0.0)
        bits.append(got.bits_per_dim)
    torch.testing.assert_close(bits[0], bits[1], rtol=0.0, atol=1e-4)


def test_uniform_data_cost_log2_of_the_levels():
    # -log_abs_det is what a density of 1 over a unit interval costs: log2(levels) bits.
    assert -DataTransform(32, 0.0, 1.0).log_abs_det / math.log(2.0) == pytest.approx(5.0)


def test_bits_need_a_transform():
    sde = VP()
    got = log_likelihood(sde, Gaussian(0.0, 1.0, sde), torch.zeros(1, 2))
    with pytest.raises(ValueError, match="DataTransform"):
        _ = got.bits_per_dim


@pytest.mark.parametrize(
    ("k", "says"),
    [
        ([[0, 17]], r"got 17 at \(0, 1\)"),
        ([[0, 1], [-1, 40]], r"got -1 at \(1, 0\)"),
        ([[0.5, 1.0]], r"got 0.5 at \(0, 0\)"),
        ([[1.0, math.nan]], r"got nan at \(0, 1\)"),
        ([[1.0, math.inf]], r"got inf at \(0, 1\)"),
        (3, "single number"),
    ],
)
def test_wrong_data(k, says):
    with pytest.raises(ValueError, match=says):
        DataTransform(17).forward(k)


@pytest.mark.parametrize(
    ("args", "error"),
    [
        ((1,), ValueError),
        ((2.5,), TypeError),
        ((17, 1.0, -1.0), ValueError),
        ((17, 0.0, 0.0), ValueError),
        ((17, 0.0, math.inf), ValueError),
        ((17, math.nan, 1.0), ValueError),
        ((17, "a", 1.0), TypeError),
    ],
)
def test_wrong_transforms(args, error):
    with pytest.raises(error):
        DataTransform(*args)


def test_wrong_types():
    transform = DataTransform(256)
    with pytest.raises(ValueError, match="too coarse"):
        transform.forward([[1]], dtype=torch.bfloat16)
    with pytest.raises(TypeError, match="dtype"):
        transform.forward([[1]], dtype=torch.int64)
    with pytest.raises(TypeError, match="bool"):
        transform.forward(torch.tensor([[True]]))
    with pytest.raises(TypeError, match="floating-point"):
        transform.inverse(torch.tensor([[1]]))
    with pytest.raises(ValueError, match=r"NaN at \(0, 1\)"):
        transform.inverse(torch.tensor([[1.0, math.nan]]))
