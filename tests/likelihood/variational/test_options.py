"""Chunks, parts of a batch, types, bits, drawn levels, and what is refused."""

from __future__ import annotations

import json
import math

import pytest
import torch

import sdekit as sk
from sdekit.likelihood import DataTransform, rate_distortion, variational_bound
from tests.likelihood.variational.gaussian_chain import best_eps

F64 = torch.float64
PROCESS = sk.DDPM.cosine(40)
MEAN, COV = torch.zeros(4, dtype=F64), 0.2 * torch.eye(4, dtype=F64) + 0.05
EPS = best_eps(PROCESS, MEAN, COV)
K = (torch.arange(24) * 37 % 256).view(6, 4)


def points(dtype=F64):
    return (K.double() / 127.5 - 1.0).to(dtype)


def test_samples_chunks_and_types():
    x0, seen = points(), []

    def spy(t, x):
        assert t.shape == x.shape[:1] and t.dtype == x.dtype
        seen.append(len(x))
        return EPS(t, x)

    whole = variational_bound(PROCESS, spy, x0, seed=5)
    assert max(seen) <= 128 and sum(seen) == 6 * 2 * 40 == 6 * whole.nfe
    assert whole.terms.shape == (6, 41) and whole.squared_error.shape == (6, 40)
    for chunk in (1, 5, 16, 48, 10_000):
        seen.clear()
        got = variational_bound(PROCESS, spy, x0, seed=5, chunk=chunk)
        assert max(seen) <= chunk
        torch.testing.assert_close(got.terms, whole.terms, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(got.std_error, whole.std_error, rtol=1e-8, atol=1e-10)
    part = variational_bound(PROCESS, EPS, x0[2:4], seed=5, first_sample=2)
    torch.testing.assert_close(part.terms, whole.terms[2:4], rtol=1e-10, atol=1e-10)
    more = variational_bound(PROCESS, EPS, x0, seed=5, draws=1)
    assert bool(more.std_error.isnan().all())
    image = variational_bound(
        PROCESS, lambda t, x: EPS(t, x.flatten(1)).view_as(x), x0.view(6, 1, 2, 2), seed=5
    )
    torch.testing.assert_close(image.terms, whole.terms, rtol=1e-10, atol=1e-10)
    low = variational_bound(PROCESS, EPS, points(torch.float32), seed=5)
    # float32 points are 3e-8 off the middles, and eps and the network are rounded.
    torch.testing.assert_close(low.terms, whole.terms, rtol=1e-4, atol=1e-4)
    assert low.terms.dtype == F64
    assert not torch.equal(variational_bound(PROCESS, EPS, x0, seed=6).terms, whole.terms)


def test_a_bad_sample_is_alone():
    x0 = points()
    whole = variational_bound(PROCESS, EPS, x0)

    def fails(t, x):
        out = EPS(t, x)
        nearest = torch.cdist(x, x0).argmin(1)
        out[(nearest == 1) & (t < 0.06)] = math.inf  # levels 1 and 2, where x_k is near x_0
        return out

    bad = variational_bound(PROCESS, fails, x0)
    assert not bool(bad.total[1].isfinite())
    keep = [0, 2, 3, 4, 5]
    assert torch.equal(bad.terms[keep], whole.terms[keep])


def test_integers_and_bits():
    whole = variational_bound(PROCESS, EPS, points(torch.float32))
    same = variational_bound(PROCESS, EPS, K)
    assert torch.equal(whole.terms, same.terms) and same.transform.levels == 256
    nats = same.total / (4 * math.log(2.0))
    torch.testing.assert_close(same.bits_per_dim, nats)
    torch.testing.assert_close(same.bits_by_level.sum(), nats.mean())
    torch.testing.assert_close(same.bits_std_error, same.std_error / (4 * math.log(2.0)))
    assert "41" not in repr(same) and "40 levels" in repr(same)
    # A discretized decoder takes the middles of the bins of any transform.
    noisy = DataTransform(256, -1.0, 1.0)
    still = DataTransform(256, -1.0, 1.0, dequantize=False)
    mapped = variational_bound(PROCESS, EPS, K, transform=noisy)
    again = variational_bound(PROCESS, EPS, still.forward(K), transform=still)
    assert torch.equal(mapped.terms, again.terms)
    dense = variational_bound(PROCESS, EPS, K, decoder="gaussian", transform=noisy, seed=3)
    want = variational_bound(
        PROCESS, EPS, noisy.forward(K, seed=3), decoder="gaussian", transform=noisy, seed=3
    )
    assert torch.equal(dense.terms, want.terms)
    bits = (dense.total / 4 - noisy.log_abs_det) / math.log(2.0)
    torch.testing.assert_close(dense.bits_per_dim, bits)
    torch.testing.assert_close(dense.bits_by_level.sum(), bits.mean())
    free = variational_bound(PROCESS, EPS, points(), decoder="gaussian")
    with pytest.raises(ValueError, match="transform=DataTransform"):
        _ = free.bits_per_dim
    fixed = variational_bound(PROCESS, EPS, points(), decoder="gaussian", transform=still)
    with pytest.raises(ValueError, match="never dequantized"):
        _ = fixed.bits_by_level


@pytest.mark.parametrize("variance", ["fixedsmall", "fixedlarge"])
def test_drawn_levels_are_unbiased_by_level(variance):
    x0 = points()[:2]
    rows = x0.repeat(1000, 1)
    whole = variational_bound(PROCESS, EPS, rows[:200], variance=variance, draws=4, chunk=4096)
    few = variational_bound(PROCESS, EPS, rows, variance=variance, draws=6, levels=4, chunk=4096)
    assert few.nfe == 6 * 5

    def mean(found, copies):
        error = found.std_error.view(copies, 2).square().sum(0).sqrt() / copies
        return found.terms.view(copies, 2, -1).mean(0), error

    want, e1 = mean(whole, 100)
    got, e2 = mean(few, 1000)
    off = (got.sum(1) - want.sum(1)) / (e1.square() + e2.square()).sqrt()
    assert float(off.abs().max()) < 4.0
    # Each column alone, too: 24000 draws visit each of 39 levels some hundred times.
    torch.testing.assert_close(got, want, rtol=0.25, atol=0.02)
    one = variational_bound(PROCESS, EPS, x0, levels=3, draws=1)
    assert int((one.terms != 0.0).sum(1).max()) <= 3 + 2
    assert bool(one.squared_error.isnan().any())
    part = variational_bound(PROCESS, EPS, x0[1:], levels=3, draws=1, first_sample=1)
    torch.testing.assert_close(part.terms, one.terms[1:])


def test_control_takes_noise_away_and_moves_nothing():
    x0 = points().repeat(50, 1)
    near = variational_bound(PROCESS, EPS, x0, decoder="gaussian", draws=8, data_std=0.5)
    none = variational_bound(PROCESS, EPS, x0, decoder="gaussian", draws=8, data_std=1e-6)
    assert float(near.std_error.mean()) < 0.5 * float(none.std_error.mean())
    off = (near.total - none.total).view(50, 6).mean(0)
    error = (near.std_error.square() + none.std_error.square()).view(50, 6).sum(0).sqrt() / 50
    assert float((off / error).abs().max()) < 4.0


@pytest.mark.parametrize("count", [17, 256, 4096])
@pytest.mark.parametrize("decoder", ["discretized", "discretized_tanh"])
def test_control_of_the_decoder(count, decoder):
    # Half bins of 8, 0.5 and 0.03 stds of the decoder: with the first L_0 is nothing.
    process = sk.DDPM.linear(1000)
    transform = DataTransform(count, -1.0, 1.0)
    k = (torch.arange(200) % 7 + count // 2).view(100, 2).repeat(1, 8)
    net = best_eps(process, torch.zeros(16, dtype=F64), 0.25 * torch.eye(16, dtype=F64))
    noise = []
    for std in (0.5, 1e-9):
        found = [
            variational_bound(
                process,
                net,
                k,
                transform=transform,
                decoder=decoder,
                levels=1,
                draws=1,
                data_std=std,
                seed=seed,
            ).terms[:, 0]
            for seed in range(4)
        ]
        values = torch.stack(found)
        noise.append((float(values.mean()), float(values.std(0).mean())))
    (mean, spread), (bare, most) = noise
    assert abs(mean - bare) < 4.0 * most / math.sqrt(400.0) + 1e-6
    assert spread < (1e-3 if count == 17 else 0.4 * most)


def test_rate_distortion_of_integers():
    found = rate_distortion(PROCESS, EPS, K, draws=3)
    assert found.unit == pytest.approx(127.5)
    torch.testing.assert_close(found.distortions, 127.5 * found.bound.squared_error.flip(1).sqrt())
    torch.testing.assert_close(found.rate, found.rates.mean(0))
    first = found.bound.terms_bits[:, 0].mean()
    assert found.lossless == pytest.approx(float(found.rate[-1] + first))
    table = found.table(5)
    assert [row["step"] for row in table] == [1, 11, 21, 30, 40]
    assert table[-1]["level"] == 1 and table[-1]["rate"] == float(found.rate[-1])
    kept = json.loads(json.dumps(found.to_dict()))
    assert kept["distortion_rmse"] == found.distortion.tolist() and kept["samples"] == 6
    with pytest.raises(TypeError, match="all levels"):
        rate_distortion(PROCESS, EPS, K, levels=4)


def test_wrong_arguments():
    x0 = points()
    with pytest.raises(TypeError, match="DDPM chain"):
        variational_bound(sk.VP(), EPS, x0)
    with pytest.raises(TypeError, match="callable"):
        variational_bound(PROCESS, 3, x0)
    with pytest.raises(ValueError, match="Did you mean 'discretized'"):
        variational_bound(PROCESS, EPS, x0, decoder="discretised")
    with pytest.raises(ValueError, match="unknown variance"):
        variational_bound(PROCESS, EPS, x0, variance="fixed")
    with pytest.raises(ValueError, match="middles of the bins"):
        variational_bound(PROCESS, EPS, 0.9 * x0)
    with pytest.raises(ValueError, match="integers in 0"):
        variational_bound(PROCESS, EPS, K + 1000)
    with pytest.raises(TypeError, match="float32 or float64"):
        variational_bound(PROCESS, EPS, x0.half())
    with pytest.raises(ValueError, match="eps_model returned shape"):
        variational_bound(PROCESS, lambda t, x: x[:, :2], x0)
    with pytest.raises(TypeError, match="learned"):
        variational_bound(PROCESS, lambda t, x: (x, x), x0)
    with pytest.raises(TypeError, match="returns \\(eps, u\\)"):
        variational_bound(PROCESS, EPS, x0, variance="learned")
    with pytest.raises(ValueError, match="learns v_1"):
        variational_bound(PROCESS, EPS, x0, variance="learned", decoder_variance=0.1)
    for name, value in {
        "draws": 0,
        "levels": 0,
        "chunk": 0,
        "data_std": 0.0,
        "decoder_variance": -1.0,
        "clip": (1.0, -1.0),
    }.items():
        with pytest.raises(ValueError, match=name):
            variational_bound(PROCESS, EPS, x0, **{name: value})
    with pytest.raises(TypeError, match="clip"):
        variational_bound(PROCESS, EPS, x0, clip=3.0)
    with pytest.raises(TypeError, match="DataTransform"):
        variational_bound(PROCESS, EPS, x0, transform=256)
    empty = variational_bound(PROCESS, EPS, x0[:0])
    assert empty.total.shape == (0,)
