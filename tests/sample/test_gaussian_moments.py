"""Gaussian data and its exact score: the final mean and variance are known for any number of steps.

The exact values come from the papers' formulas (``published.py``), the samples from the library, in
its default float32. Tolerance: 5 standard errors of the mean, std / sqrt(n), and of the variance,
var sqrt(2 / n), for n samples; a right sampler fails one such comparison in 1.7 million. On the
first SDE every run is one kernel; on the others, whose kernels differ in coefficients alone, it
goes step by step.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sdekit.sample import PREDICTORS as TABLE
from sdekit.sample import sample, uniform_times
from sdekit.score import Gaussian
from tests.sample.cases import PREDICTORS, SDES, case, uniform
from tests.sample.published import corrector_alpha, gaussian, moments, updates


@pytest.mark.parametrize("corrector", ["none", "annealed", "ou"])
@pytest.mark.parametrize("predictor", PREDICTORS)
@pytest.mark.parametrize("name", SDES)
def test_mean_and_variance(name, predictor, corrector):
    # (components, samples, steps, corrector first, denoise); fewer than 4 components share a call
    # of the generator between four steps, 4 and more between four components.
    for d, n, steps, first, denoise in (
        (1, 20000, 20, False, True),
        (1, 20000, 47, True, False),
        (5, 20000, 31, False, False),
    ):
        sde, law, mean, std = case(name, d)
        run = updates(
            law,
            uniform(law, steps),
            mean,
            std,
            predictor_name=predictor,
            corrector_name=corrector,
            first=first,
        )
        want_mean, want_var = moments(law, run, denoise)
        x = sample(
            sde,
            Gaussian(mean, std, sde),
            (n, d),
            steps=steps,
            predictor=predictor,
            corrector=corrector,
            corrector_first=first,
            denoise=denoise,
            seed=3,
            fuse=None if name == next(iter(SDES)) else False,
        ).double()
        deviation = (x.mean(0).numpy() - want_mean) / np.sqrt(want_var / n)
        assert np.abs(deviation).max() < 5.0, (d, steps, deviation)
        spread = (x.var(0).numpy() / want_var - 1.0) / np.sqrt(2.0 / (n - 1))
        assert np.abs(spread).max() < 5.0, (d, steps, spread)


def limit_variance(law, grid, m, s, snr, first, stretch=None):
    """Mean and variance as D grows: |z|^2 / |s|^2 tends to 1 / E[s_d^2], so that eps is a number.

    ``stretch``: (k, h) multiplies the step size of the k-th corrector step by 1 + h.
    """
    run = updates(
        law,
        grid,
        m,
        s,
        predictor_name="reverse_diffusion",
        corrector_name="langevin",
        snr=snr,
        first=first,
    )
    mean, var, k = law.offset, law.prior_std**2, 0
    for u in run:
        if u.kind == "predictor":
            p, q, r = u.p, u.q, u.r
        else:
            centre, spread = u.score_moments
            eps = 2 * u.alpha * snr**2 * spread**2 / (var + (mean - centre) ** 2)
            if stretch is not None and stretch[0] == k:
                eps *= 1 + stretch[1]
            p, q, r = 1 - eps / spread, eps * centre / spread, np.sqrt(2 * eps)
            k += 1
        mean, var = p * mean + q, p * p * var + r * r
    return mean, var


@pytest.mark.parametrize("norm", ["sample", "batch"])
@pytest.mark.parametrize("first", [False, True], ids=["predictor_first", "corrector_first"])
@pytest.mark.parametrize("name", SDES)
def test_snr_corrector_with_many_components(name, first, norm):
    # |z|^2 and |s|^2 are sums of D squares, each known to sqrt(2 / D): the step size is off by a
    # relative 2 / sqrt(D) (std), and 2 / D on average. The response of the final moments to each
    # step size is found by finite differences, and its sizes are added up, since the steps of one
    # sample are not independent. With norm="batch" the samples share a step size that is sqrt(n)
    # times better known, which the average over n samples below comes to as well.
    d, n, steps, snr, m, s = 1 << 14, 4, 20, 0.16, 0.4, 0.6
    sde, law = SDES[name], case(name, 1)[1]
    grid = uniform(law, steps)
    x = sample(
        sde,
        Gaussian(m, s, sde),
        (n, d),
        steps=steps,
        corrector="langevin",
        corrector_first=first,
        snr=snr,
        norm=norm,
        denoise=False,
        seed=5,
    ).double()
    mean, var = limit_variance(law, grid, m, s, snr, first)
    h = 1e-4
    moved = [limit_variance(law, grid, m, s, snr, first, (k, h)) for k in range(steps)]
    mean_response = sum(abs(a - mean) for a, _ in moved) / h
    var_response = sum(abs(b - var) for _, b in moved) / h
    step_error = 5.0 * 2.0 / np.sqrt(d * n) + 2.0 / d
    mean_tolerance = 5.0 * np.sqrt(var / (n * d)) + step_error * mean_response
    var_tolerance = 5.0 * var * np.sqrt(2.0 / (n * d)) + step_error * var_response
    # Both tolerances are small against what they guard.
    assert var_tolerance < 0.1 * var
    assert abs(float(x.mean()) - mean) < mean_tolerance
    assert abs(float(x.var(1).mean()) - var) < var_tolerance


@pytest.mark.parametrize(("norm", "inflated"), [("sample", True), ("batch", False)])
def test_snr_corrector_with_few_components_inflates_the_variance(norm, inflated):
    # The docstring's (1 + 2 / D)^2. The law is N(0, 1) at all times, the chain forgets its start at
    # a rate of 2 eps = 4 alpha snr^2 = 0.04 alpha a step, and its finite steps add O(snr^2).
    d, n, snr = 8, 4000, 0.1
    sde = SDES["vp"]
    x = sample(
        sde,
        Gaussian(0.0, 1.0, sde),
        (n, d),
        steps=400,
        predictor="none",
        corrector="langevin",
        snr=snr,
        norm=norm,
        denoise=False,
        seed=4,
    ).double()
    want = (1 + 2 / d) ** 2 if inflated else 1.0
    # 5 standard errors of the mean of n |x|^2, each of relative variance 2 / D for a normal; 3 / D
    # leaves room for the law that the chain ends in.
    assert abs(float(x.square().mean()) / want - 1) < 5 * np.sqrt(3 / (n * d)) + 2 * snr**2


def test_the_correctors_alpha_at_the_last_level():
    # One more step as long as the last, cut at 0: with N = 1000 that is Song et al.'s beta_1 / N.
    law = case("vp", 1)[1]
    fine, coarse = uniform(law, 999), uniform(law, 20)
    assert corrector_alpha(law, fine, 999) == pytest.approx(1 - (0.1 + 19.9e-3) * 1e-3)
    assert corrector_alpha(law, coarse, 20) == pytest.approx(1 - (0.1 + 19.9e-3) * 1e-3)


@pytest.mark.parametrize(
    ("predictor", "option"),
    [
        *((p, {}) for p in PREDICTORS if p != "none"),
        ("ddim", {"eta": 0.5}),
        ("ddpm", {"variance": "fixed_large"}),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", SDES)
def test_final_variance_converges_at_the_declared_order(name, predictor, option):
    # From the exact law at T, by the library's own coefficients: what is left at t_min is the error
    # of the steps. Short steps at both ends: there the levels of VE and the cosine schedule race.
    sde, law, mean, std = case(name, 1)
    m, s = float(mean[0]), float(std[0])
    row = TABLE[predictor]
    assert row is not None
    errors = []
    for n in (1000, 2000, 4000):
        ramp = 0.5 + 0.5 * torch.linspace(0.0, math.pi, n + 1, dtype=torch.float64).cos()
        t = sde.t_min + (sde.T - sde.t_min) * ramp
        a, b, c = (v.expand(n).tolist() for v in row.coefficients(sde, t[:-1], t[1:], **option))
        var = gaussian(law, sde.T, m, s)[1]
        for i, now in enumerate(t[:-1].tolist()):
            var = (a[i] - b[i] / gaussian(law, now, m, s)[1]) ** 2 * var + c[i] ** 2
        exact = gaussian(law, sde.t_min, m, s)[1]
        errors.append(abs(var - exact) / exact)
    orders = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    assert errors[-1] < 0.05, errors
    # The next term of the expansion bends the slope by O(dt): a tenth at these step numbers.
    assert orders[-1] > row.weak_order - 0.1, (errors, orders)


def test_samples_reach_the_data():
    # The whole error at 400 steps: declared order one, dt = 1/400, plus t_min and the prior.
    sde = SDES["vp"]
    x = sample(sde, Gaussian(0.5, 0.3, sde), (20000, 1), steps=400, predictor="ancestral", seed=1)
    assert abs(float(x.mean()) - 0.5) < 5 * 0.3 / 20000**0.5 + 0.005
    assert abs(float(x.std()) / 0.3 - 1) < 5 / 40000**0.5 + 0.02
    assert uniform_times(sde, 400).shape == (401,)
