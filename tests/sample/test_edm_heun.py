"""EDM's sampler: Algorithm 2 of Karras et al. 2022 in its own coordinates, under every equation.

The transcription below knows a denoiser D(u; level) and nothing of t, alpha or the SDE: that it
gives the library's samples for VP, subVP, VE and the others proves the change of variables.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from sdekit_kernels import normal

from sdekit.noise import keys
from sdekit.sample import chain_times, edm_heun, edm_sigmas, levels_at, times_of_levels
from sdekit.score import Gaussian, GaussianMixture
from sdekit.sde import DDPM, OU, VE, VP
from tests.sample.cases import SDES

M, S = np.array([0.4, -1.5, 0.0]), np.array([0.3, 1.2, 0.8])
LEVEL = {  # sigma / alpha by hand, at t_min and at T
    "vp": [math.sqrt(math.expm1(0.1 * t + 9.95 * t * t)) for t in (1e-3, 1.0)],
    "ve": [0.01 * math.sqrt(5000.0 ** (2 * t) - 1) for t in (1e-5, 1.0)],
    "ve_edm": [0.002, 80.0],
}
ONE = [k for k in SDES if k != "vp_cosine"] + ["vp_cosine", "chain"]


def sde_of(name):
    return DDPM.linear(1000).sde if name == "chain" else SDES[name]


def algorithm_2(u, levels, denoiser, noise, churn=0.0, low=0.0, high=math.inf, extra=1.0):
    """u at the last level; noise(i) is the normal of step i."""
    n = len(levels) - 1
    for i, level in enumerate(levels[:-1]):
        gamma = min(churn / n, math.sqrt(2) - 1) if low <= level <= high else 0.0
        hat = level + gamma * level
        u_hat = u + math.sqrt(hat**2 - level**2) * extra * noise(i)
        slope = (u_hat - denoiser(u_hat, hat)) / hat
        u = u_hat + (levels[i + 1] - hat) * slope
        if levels[i + 1] > 0:
            other = (u - denoiser(u, levels[i + 1])) / levels[i + 1]
            u = u_hat + (levels[i + 1] - hat) * (slope + other) / 2
    return u


def denoiser(u, level, m=M, s=S):
    return (level**2 * m + s**2 * u) / (level**2 + s**2)


@pytest.mark.parametrize(
    "churn",
    [{}, {"churn": 3.0, "churn_min": 0.3, "churn_max": 3.0, "churn_noise": 1.007}],
    ids=["flow", "churn"],
)
@pytest.mark.parametrize("name", ONE)
def test_algorithm_2(name, churn):
    sde, shape, n = sde_of(name), (5, 3), 12
    who = {"seed": 4, "first_sample": 7, "dtype": torch.float64}
    x, info = edm_heun(
        sde, Gaussian(M, S, sde), shape, steps=n, return_info=True, path_points=3, **churn, **who
    )
    ends = levels_at(sde, torch.tensor([sde.t_min, sde.T], dtype=torch.float64)).tolist()
    if name in LEVEL:
        np.testing.assert_allclose(ends, LEVEL[name], rtol=1e-9)
    levels = edm_sigmas(n, sigma_min=ends[0], sigma_max=ends[1]).tolist()
    centre = float(sde.offset)
    alpha = float(sde.mean_coefficient(torch.tensor(sde.T, dtype=torch.float64)))
    u = float(sde.prior_std) * normal(shape, stream=keys.PRIOR, **who).numpy() / alpha
    want = algorithm_2(
        u,
        levels,
        lambda u, level: denoiser(u, level, M - centre),
        lambda i: normal(shape, stream=keys.CHURN, step=i, **who).numpy(),
        *churn.values(),
    )
    # Rounding, of a start of up to 2e4 that shrinks to one, and of times found by bisection.
    np.testing.assert_allclose(x.numpy(), want + centre, rtol=1e-8, atol=1e-9)
    assert info.nfe == 2 * n - 1 and not bool(info.status.any())
    assert torch.equal(info.path[-1], x) and float(info.path_t[-1]) == 0.0


def test_sigmas():
    # The paper's formula for N = 18, and the numbers that its published code prints.
    got = edm_sigmas(18).tolist()
    want = [(80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(18)]
    np.testing.assert_allclose(got, [*want, 0.0], rtol=1e-12)
    assert got[0] == 80.0 and got[17] == 0.002 and got[18] == 0.0
    assert edm_sigmas(1).tolist() == [80.0, 0.0]


@pytest.mark.parametrize("name", ONE)
def test_times_of_levels_inverts(name):
    sde = sde_of(name)
    levels = edm_sigmas(30, sigma_min=1e-3, sigma_max=LEVEL.get(name, [0, 1.2])[1])
    t = times_of_levels(sde, levels)
    assert t.dtype == torch.float64 and float(t[-1]) == 0.0 and bool((t.diff() < 0).all())
    np.testing.assert_allclose(levels_at(sde, t).numpy(), levels.numpy(), rtol=1e-9)


def final_variance(n, churn, s):
    """Exact variance at the smallest level from the exact law at the largest, by the recursion."""
    levels = edm_sigmas(n, sigma_min=0.02, sigma_max=20.0).tolist()[:-1]

    def shrunk(u, level):
        return s**2 * u / (level**2 + s**2)

    var = s**2 + 400.0
    for a, b in pairwise(levels):
        gamma = min(churn / n, math.sqrt(2) - 1)
        hat = (1 + gamma) * a
        # One step from u_hat = 1, without noise; its square is the factor of the variance.
        factor = algorithm_2(1.0, [hat, b], shrunk, lambda i: 0.0)
        var = factor**2 * (var + hat**2 - a**2)
    return var / (s**2 + 0.02**2)


@pytest.mark.parametrize("churn", [0.0, 4.0])
def test_order_two_with_and_without_churn(churn):
    errors = [abs(final_variance(n, churn, 0.5) - 1.0) for n in (100, 200, 400, 800)]
    orders = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    assert errors[-1] < 1e-3 and np.all(np.abs(orders[1:] - 2.0) < 0.1), (errors, orders)


def test_the_recursion_is_the_samplers():
    # denoise=False ends at sigma_min: the variance of 40,000 samples within 5 standard errors.
    sde, n = VE("edm"), 20
    x = edm_heun(
        sde,
        Gaussian(0.0, 0.5, sde),
        (40000, 1),
        steps=n,
        sigma_min=0.02,
        sigma_max=20.0,
        churn=4.0,
        churn_max=math.inf,
        denoise=False,
        seed=3,
        x_init=math.sqrt(0.25 + 400.0) * normal((40000, 1), seed=3, stream=77),
    ).double()
    want = final_variance(n, 4.0, 0.5) * (0.25 + 0.02**2)
    assert abs(float(x.var()) / want - 1.0) < 5 * math.sqrt(2 / 40000)


@pytest.mark.parametrize(("sde", "churn"), [(VP(), 20.0), (VE("edm"), 0.0)], ids=["vp", "ve"])
def test_a_mixture(sde, churn):
    # 40 steps: the error of the steps is below 2e-3 (order 2), the start's mean 0.3 / 80 and less.
    n = 8000
    score = GaussianMixture([[-1.0], [1.0]], [0.2, 0.4], [0.3, 0.7], sde)
    x = edm_heun(sde, score, (n, 1), steps=40, churn=churn, seed=2).double()
    want = score.sample(10 * n, seed=9, dtype=torch.float64)
    for f in (lambda v: v, torch.square, lambda v: (v > 0).double(), lambda v: (5 * v).cos()):
        a, b = f(x), f(want)
        error = math.sqrt(float(a.var()) / n + float(b.var()) / (10 * n))
        assert abs(float(a.mean() - b.mean())) < 5 * error + 5e-3


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"sde": OU([1.0, 2.0, 3.0])}, ValueError, "one noise level for all components"),
        ({"sde": None}, TypeError, "AffineSDE"),
        ({"score": 3}, TypeError, "callable"),
        ({"steps": 0}, ValueError, "steps"),
        ({"rho": 0.0}, ValueError, "rho"),
        ({"sigma_min": 1000.0}, ValueError, "sigma_min must be below sigma_max"),
        ({"churn": -1.0}, ValueError, "churn"),
        ({"churn_noise": -1.0}, ValueError, "churn_noise"),
        ({"sde": DDPM.linear(100).sde, "sigma_max": 1e4}, ValueError, "smaller sigma_max"),
        ({"shape": (4,)}, ValueError, r"write \(4, 1\)"),
        ({"x_init": torch.zeros(2, 2)}, ValueError, "x_init has shape"),
    ],
)
def test_bad_input(change, error, text):
    sde = SDES["vp"]
    given = {"sde": sde, "score": Gaussian(0.0, 1.0, sde), "shape": (4, 3)} | change
    with pytest.raises(error, match=text):
        edm_heun(given.pop("sde"), given.pop("score"), given.pop("shape"), **given)


def test_chain_times():
    chain = DDPM.linear(1000)
    t = chain_times(chain, 50)
    assert torch.equal(t, chain_times(chain.sde, 50))
    assert float(t[0]) == 1.0 and float(t[-1]) == 0.0
    assert (t * 1000).round().tolist() == list(range(1000, -1, -20))
    assert torch.equal(chain_times(chain, 1000), chain.times)
    quadratic = (chain_times(chain, 30, spacing="quadratic") * 1000).round()
    assert quadratic.tolist()[-4:] == [10.0, 4.0, 1.0, 0.0]
    dense = (chain_times(DDPM.linear(20), 15, spacing="quadratic") * 20).round()
    assert dense[0] == 20 and dense[-1] == 0 and bool((dense.diff() <= -1).all())
    with pytest.raises(ValueError, match="steps"):
        chain_times(chain, 1001)
    with pytest.raises(TypeError, match="a DDPM or its sde"):
        chain_times(VP(), 10)
    with pytest.raises(ValueError, match="Did you mean 'quadratic'"):
        chain_times(chain, 10, spacing="quadratik")
