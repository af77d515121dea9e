"""Stochastic divergences over thousands of samples at once: no bias, and a standard error.

Every sample of a batch has its own probes, so a batch of one point is that many repetitions.
"""

from __future__ import annotations

import math

import pytest
import torch

from sdekit.likelihood import log_likelihood
from sdekit.likelihood.divergence import make_divergence
from sdekit.score import GaussianMixture
from sdekit.sde import VP

DOUBLE = torch.float64
D, B = 20, 4000
METHODS = {
    "rademacher": ("hutchinson", 6, "rademacher"),
    "gaussian": ("hutchinson", 6, "gaussian"),
    "orthogonal": ("hutchinson", 6, "orthogonal"),
    "orthogonal_many": ("hutchinson", 15, "orthogonal"),
    "hutch++": ("hutch++", 12, "rademacher"),
    "hutch++gaussian": ("hutch++", 12, "gaussian"),
    "hutch++orthogonal": ("hutch++", 12, "orthogonal"),
    "xtrace": ("xtrace", 12, "gaussian"),
    "xtrace_rademacher": ("xtrace", 12, "rademacher"),
}


def matrix(d=D, power=1.0, turn=0):
    """Singular values j^-power, and singular vectors left and right that partly agree."""
    g = torch.Generator().manual_seed(turn)
    left = torch.linalg.qr(torch.randn(d, d, generator=g, dtype=DOUBLE))[0]
    tilt = 0.3 * torch.randn(d, d, generator=g, dtype=DOUBLE) / math.sqrt(d)
    right = torch.linalg.qr(left + tilt)[0]
    signs = right.mul(left).sum(0).sign()
    return (left * torch.arange(1, d + 1, dtype=DOUBLE).pow(-power) * signs) @ right.mT


def make(method, x, **options):
    kind, n, probes = METHODS[method]
    return make_divergence(kind, x, n_probes=n, probes=probes, **options)


@pytest.mark.parametrize("method", METHODS)
def test_no_bias_and_a_true_standard_error(method):
    a, x = matrix(), torch.zeros(B, D, dtype=DOUBLE)
    estimator = make(method, x, seed=11)
    estimate, error = estimator.combine(estimator(lambda y: y @ a.mT, x)[1])
    wrong = estimate - a.trace()
    spread = wrong.square().mean()
    # 4.5 standard errors of the mean: 7e-6 for each of 9 methods.
    assert abs(float(wrong.mean())) < 4.5 * math.sqrt(float(spread) / B)
    claimed = error.square()
    ratio = float(spread / claimed.mean())
    # Of the ratio of two means, each known to the relative error of its own entries.
    noise = [float(v.std() / v.mean()) / math.sqrt(B) for v in (wrong.square(), claimed)]
    tolerance = 4.5 * math.hypot(*noise)
    assert tolerance < 0.35
    if estimator.kind == "xtrace":
        # The estimates share their sketches: the paper promises the right size. Measured here and
        # at spectra 2^-j: a variance of 1.1 to 1.5 times the one that is reported.
        assert 0.8 < ratio < 2.0
    else:
        assert abs(ratio - 1.0) < tolerance


def test_variance_of_hutchinson_is_the_one_in_the_books():
    # 2 |A_s|_F^2 / n (Gaussian), without the diagonal (Rademacher), and times
    # D / (D + 2) * (D - n) / (D - 1) for the traceless part (orthogonal).
    a = matrix()
    sym = 0.5 * (a + a.mT)
    whole = 2.0 * float(sym.square().sum())
    off = whole - 2.0 * float(sym.diagonal().square().sum())
    traceless = whole - 2.0 * float(sym.trace()) ** 2 / D
    x = torch.zeros(B, D, dtype=DOUBLE)
    for method, variance in (
        ("gaussian", whole / 6),
        ("rademacher", off / 6),
        ("orthogonal", traceless * D / (D + 2) / 6 * (D - 6) / (D - 1)),
        ("orthogonal_many", traceless * D / (D + 2) / 15 * (D - 15) / (D - 1)),
    ):
        estimator = make(method, x, seed=3)
        wrong = estimator.combine(estimator(lambda y: y @ a.mT, x)[1])[0] - a.trace()
        square = wrong.square()
        assert abs(float(square.mean()) - variance) < 4.5 * float(square.std()) / math.sqrt(B)


@pytest.mark.parametrize("method", ["hutch++", "hutch++orthogonal", "xtrace"])
def test_no_bias_where_the_jacobian_has_turned(method):
    # The sketch is made at the first call and stays: elsewhere it is less apt, and as unbiased. The
    # sum of both calls stands for the integral along a path.
    x = torch.zeros(B, D, dtype=DOUBLE)
    a, b = matrix(), matrix(turn=1)
    estimator = make(method, x, seed=2)
    columns = [estimator(lambda y, m=m: y @ m.mT, x)[1] for m in (a, b)]
    torch.testing.assert_close(
        estimator(lambda y: y @ (a + b).mT, x)[1], sum(columns), rtol=1e-10, atol=1e-10
    )
    estimate, error = estimator.combine(sum(columns))
    wrong = estimate - (a + b).trace()
    spread = float(wrong.square().mean())
    assert abs(float(wrong.mean())) < 4.5 * math.sqrt(spread / B)
    assert 0.7 < spread / float(error.square().mean()) < 2.0


@pytest.mark.parametrize("method", ["orthogonal", "hutch++orthogonal", "xtrace"])
def test_log_likelihoods_have_a_true_standard_error(method):
    # Copies of one sample along the whole flow, from a Jacobian of stiffness 100 to one near 0.
    n, g = 128, torch.Generator().manual_seed(0)
    means = torch.randn(3, D, generator=g, dtype=DOUBLE)
    stds = 0.2 + torch.rand(3, D, generator=g, dtype=DOUBLE)
    sde = VP()
    model = GaussianMixture(means, stds, None, sde)
    turn = torch.linalg.qr(torch.randn(D, D, generator=g, dtype=DOUBLE))[0]
    x = model.sample(1, seed=1, dtype=DOUBLE) @ turn.mT
    kind, probes_in_all, probes = METHODS[method]

    def score(t, x):
        return model(t, x @ turn) @ turn.mT

    exact = log_likelihood(sde, score, x).log_prob
    got = log_likelihood(
        sde,
        score,
        x.expand(n, D).contiguous(),
        divergence=kind,
        n_probes=probes_in_all,
        probes=probes,
        rtol=1e-4,
        atol=1e-4,
    )
    wrong = got.log_prob - exact
    spread = float(wrong.square().mean())
    # 1e-2: the ODE's own error at these tolerances.
    assert abs(float(wrong.mean())) < 4.5 * math.sqrt(spread / n) + 1e-2
    # Two variances from 128 numbers each: sqrt(2 / 127) and less, 0.13, for normal ones.
    assert 0.5 < spread / float(got.std_error.square().mean()) < 2.0


@pytest.mark.parametrize(
    ("kind", "n"), [("hutchinson", 1), ("hutch++", 3), ("xtrace", 2), ("xtrace", 3)]
)
def test_one_column_has_no_standard_error(kind, n):
    x = torch.zeros(4, D, dtype=DOUBLE)
    estimator = make_divergence(kind, x, n_probes=n)
    estimate, error = estimator.combine(estimator(torch.sin, x)[1])
    assert estimate.isfinite().all() and error.isnan().all()


def test_errors_fall_as_theory_says():
    # Singular values 1 / j. Hutchinson: 1 / sqrt(m). Hutch++: what k vectors leave has the
    # Frobenius norm k^-1/2, and the probes divide it by sqrt(l): 1 / m. XTrace at least so.
    d, b = 256, 200
    a, x = matrix(d), torch.zeros(b, d, dtype=DOUBLE)
    sizes = torch.tensor([12.0, 24.0, 48.0], dtype=DOUBLE)
    slopes, errors = {}, {}
    for kind in ("hutchinson", "hutch++", "xtrace"):
        found = []
        for m in (12, 24, 48):
            estimator = make_divergence(kind, x, n_probes=m, probes="gaussian", seed=m)
            estimate = estimator.combine(estimator(lambda y: y @ a.mT, x)[1])[0]
            found.append(float((estimate - a.trace()).square().mean().sqrt()))
        logs = torch.stack([sizes.log(), torch.tensor(found, dtype=DOUBLE).log()])
        logs = logs - logs.mean(1, keepdim=True)
        slopes[kind] = float((logs[0] * logs[1]).sum() / logs[0].square().sum())
        errors[kind] = found
    # An RMS of 200 errors is known to 1 / sqrt(400) = 0.05, a slope over a factor of 4 to 0.05.
    assert abs(slopes["hutchinson"] + 0.5) < 0.2
    assert -1.4 < slopes["hutch++"] < -0.8
    assert slopes["xtrace"] < -0.8
    for i in (1, 2):
        assert errors["xtrace"][i] < errors["hutch++"][i] < errors["hutchinson"][i]
