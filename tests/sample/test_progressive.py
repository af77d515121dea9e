"""x0_hat on the way, and reconstructions from x_k: their laws where the data are Gaussian."""

from __future__ import annotations

import pytest
import torch
from sdekit_kernels import normal

import sdekit as sk
from sdekit.sample import lossy, progressive

F64 = torch.float64
PROCESS = sk.DDPM.linear(60, 1e-3, 0.25)
MEAN, STD = 0.4, 0.6


def eps_model(t, x):
    """The best network for N(MEAN, STD^2) data."""
    assert t.shape == x.shape[:1] and t.dtype == x.dtype
    k = (t.double() * 60).round().long()
    a, s = (v.view(-1, *[1] * (x.ndim - 1)).to(x) for v in PROCESS.coefficients(k))
    return s * (x - a * MEAN) / ((a * STD).square() + s.square())


def posterior(k, x):
    """Mean and variance of x_0 given x_k."""
    a, s = (float(v) for v in PROCESS.coefficients(k))
    share = a * STD**2 / (a**2 * STD**2 + s**2)
    return MEAN + share * (x - a * MEAN), STD**2 * s**2 / (a**2 * STD**2 + s**2)


def test_guesses_are_posterior_means_and_the_run_is_the_sampler_s():
    levels = [60, 45, 30, 10, 1]
    found = progressive(
        PROCESS, eps_model, (5, 2, 3), levels=torch.tensor(levels), seed=4, dtype=F64
    )
    assert found.levels.tolist() == levels
    assert found.noisy.shape == found.x0_hat.shape == (5, 5, 2, 3)
    for k, noisy, guess in zip(levels, found.noisy, found.x0_hat, strict=True):
        torch.testing.assert_close(guess, posterior(k, noisy)[0], rtol=1e-10, atol=1e-10)
    score = sk.score.Gaussian(MEAN, STD, PROCESS.sde)
    want = sk.sample(
        PROCESS.sde,
        score,
        (5, 2, 3),
        predictor="ancestral",
        times=PROCESS.times,
        seed=4,
        dtype=F64,
        fuse=False,
    )
    torch.testing.assert_close(found.sample, want, rtol=1e-9, atol=1e-9)
    # The last guess is the sample: the last step's mean is x0_hat from x_1.
    torch.testing.assert_close(found.x0_hat[-1], found.sample, rtol=1e-9, atol=1e-9)
    part = progressive(
        PROCESS, eps_model, (2, 2, 3), levels=levels, seed=4, dtype=F64, first_sample=3
    )
    torch.testing.assert_close(part.x0_hat, found.x0_hat[:, 3:], rtol=1e-12, atol=1e-12)


def test_evaluations_and_subsets():
    calls = []

    def spy(t, x):
        calls.append(round(float(t[0]) * 60))
        return eps_model(t, x)

    found = progressive(PROCESS, spy, (2, 3), levels=4, steps=12, predictor="ddpm")
    assert calls == list(range(60, 0, -5))
    assert found.levels.tolist() == [60, 40, 25, 5]
    assert found.sample.shape == (2, 3)
    calls.clear()
    made = lossy(PROCESS, spy, torch.zeros(2, 3), levels=[7, 20], steps=5)
    assert calls == [7, 6, 4, 3, 1, 20, 16, 12, 8, 4]
    assert made.samples.shape == (2, 2, 1, 3)


def test_lossy_reconstructions_follow_their_law():
    n, copies, k = 400, 8, 12
    x0 = MEAN + STD * normal((n, 1), seed=9, dtype=F64)
    found = lossy(PROCESS, eps_model, x0, levels=[k, 40], copies=copies, seed=2)
    assert found.samples.shape == (2, n, copies, 1)
    a, s = (float(v) for v in PROCESS.coefficients(k))
    z = (found.noisy[0] - a * x0) / s
    assert abs(float(z.mean())) < 4.0 / n**0.5
    assert abs(float(z.square().mean()) - 1.0) < 4.0 * (2.0 / n) ** 0.5
    other = (found.noisy[1] - PROCESS.coefficients(40)[0] * x0) / PROCESS.coefficients(40)[1]
    assert abs(float((z * other).mean())) < 4.0 / n**0.5
    mean, variance = posterior(k, found.noisy[0])
    torch.testing.assert_close(found.x0_hat[0], mean, rtol=1e-10, atol=1e-10)
    # The copies: about the posterior's mean, with its variance up to the chain's (no noise in the
    # last step, beta_k for v_k); exact for the linear chain, by its recursion.
    gain, spread = 1.0, 0.0
    for j in range(k, 0, -1):
        a_j, s_j = (float(v) for v in PROCESS.coefficients(j))
        beta = float(PROCESS.betas[j - 1])
        step = (1.0 - beta / (a_j**2 * STD**2 + s_j**2)) / (1.0 - beta) ** 0.5
        gain, spread = gain * step, spread * step**2 + (beta if j > 1 else 0.0)
    off = found.samples[0, ..., 0] - MEAN - gain * (found.noisy[0] - a * MEAN)
    error = (spread / off.numel()) ** 0.5
    assert abs(float(off.mean())) < 4.0 * error
    assert abs(float(off.square().mean()) / spread - 1.0) < 4.0 * (2.0 / off.numel()) ** 0.5
    assert spread == pytest.approx(variance, rel=0.25)
    between = (off[:, 0] * off[:, 1]).mean() / spread
    assert abs(float(between)) < 4.0 / n**0.5


def test_samples_of_a_part_of_the_batch():
    x0 = normal((4, 3), seed=1, dtype=F64)
    whole = lossy(PROCESS, eps_model, x0, levels=[30], copies=2, seed=3)
    part = lossy(PROCESS, eps_model, x0[1:3], levels=[30], copies=2, seed=3, first_sample=1)
    torch.testing.assert_close(part.samples, whole.samples[:, 1:3], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(part.noisy, whole.noisy[:, 1:3])


def test_wrong_arguments():
    x0 = torch.zeros(2, 3)
    with pytest.raises(TypeError, match="DDPM chain"):
        progressive(sk.VP(), eps_model, (2, 3))
    with pytest.raises(TypeError, match="callable"):
        progressive(PROCESS, 3, (2, 3))
    with pytest.raises(ValueError, match=r"levels \[7\] are not visited"):
        progressive(PROCESS, eps_model, (2, 3), levels=[60, 7], steps=10)
    with pytest.raises(ValueError, match="different integers"):
        progressive(PROCESS, eps_model, (2, 3), levels=[7, 7])
    with pytest.raises(ValueError, match=r"must lie in 1\.\.60"):
        lossy(PROCESS, eps_model, x0, levels=[0, 3])
    with pytest.raises(TypeError, match="must be integers"):
        lossy(PROCESS, eps_model, x0, levels=[0.5])
    with pytest.raises(TypeError, match="corrector= is not for"):
        progressive(PROCESS, eps_model, (2, 3), corrector="langevin")
    with pytest.raises(ValueError, match="Did you mean 'ancestral'"):
        progressive(PROCESS, eps_model, (2, 3), predictor="ancestrel")
    with pytest.raises(TypeError, match="floating-point"):
        lossy(PROCESS, eps_model, torch.zeros(2, 3, dtype=torch.int64), levels=[3])
    with pytest.raises(ValueError, match="copies"):
        lossy(PROCESS, eps_model, x0, levels=[3], copies=0)
    with pytest.raises(ValueError, match="eps_model returned shape"):
        lossy(PROCESS, lambda t, x: x[:, :1], x0, levels=[3])
