"""Samples given a measurement: where the conditional law is Gaussian, it is known."""

from __future__ import annotations

import math

import pytest
import torch

import sdekit as sk
from sdekit.sample import conditional_score, inpaint
from sdekit.sample.conditional import conjugate_gradients
from sdekit.sample.operators import LinearOperator

SDES = {"vp": sk.VP, "subvp": sk.SubVP, "ve": lambda: sk.VE(sigma_max=20.0)}
D = 5
MASK = torch.tensor([True, False, True, False, False])


def law():
    """Mean and covariance of correlated Gaussian data in D components."""
    i = torch.arange(D, dtype=torch.float64)
    root = torch.sin(1.0 + i.view(-1, 1) * 1.7 + i * 0.9) + 0.8 * torch.eye(D)
    return torch.cos(2.0 * i), root @ root.mT / 2.0


def gaussian_score(sde, mean, cov):
    def score(t, x):
        alpha, std = sde.mean_coefficient(t).double(), sde.std(t).double()
        alpha, std = alpha.view(-1, 1, 1), std.view(-1, 1, 1)
        k = alpha.square() * cov + std.square() * torch.eye(len(mean), dtype=torch.float64)
        y = x.double() - alpha.squeeze(2) * mean
        return -torch.linalg.solve(k, y.unsqueeze(2)).squeeze(2).to(x.dtype)

    return score


def matrix():
    return torch.sin(0.3 + torch.arange(2.0 * D, dtype=torch.float64) * 1.3).view(2, D)


def given(mean, cov, a, m, noise_std):
    """Mean and covariance of x_0 given A x_0 + noise_std n = m."""
    k = a @ cov @ a.mT + noise_std**2 * torch.eye(len(a), dtype=torch.float64)
    gain = cov @ a.mT @ torch.linalg.inv(k)
    return mean + gain @ (m - a @ mean), cov - gain @ a @ cov


@pytest.mark.parametrize("noise_std", [0.0, 0.3])
@pytest.mark.parametrize("how", ["mask", "matrix"])
@pytest.mark.parametrize("name", SDES)
def test_the_score_is_that_of_the_conditional_law(name, how, noise_std):
    sde, (mean, cov) = SDES[name](), law()
    a = torch.eye(D, dtype=torch.float64)[MASK] if how == "mask" else matrix()
    operator = MASK if how == "mask" else lambda x: x @ a.mT
    m = torch.tensor([[0.7, -1.1]], dtype=torch.float64)
    mine = conditional_score(
        sde, gaussian_score(sde, mean, cov), m, operator, (D,), noise_std=noise_std
    )
    exact = gaussian_score(sde, *given(mean, cov, a, m[0], noise_std))
    x = torch.sin(torch.arange(4.0 * D, dtype=torch.float64)).view(4, D)
    for share in (0.05, 0.3, 1.0):
        t = torch.tensor(share * sde.T, dtype=torch.float64)
        torch.testing.assert_close(mine(t, x), exact(t, x), rtol=1e-8, atol=1e-8)
        rows = t * torch.tensor([1.0, 0.9, 0.8, 0.7], dtype=torch.float64)
        torch.testing.assert_close(mine(rows, x), exact(rows, x), rtol=1e-8, atol=1e-8)


def test_isotropic_is_exact_for_isotropic_data():
    sde = sk.VP()
    mean, cov = law()[0], 0.49 * torch.eye(D, dtype=torch.float64)
    a, m = matrix(), torch.tensor([[0.7, -1.1]], dtype=torch.float64)
    mine = conditional_score(
        sde,
        gaussian_score(sde, mean, cov),
        m,
        lambda x: x @ a.mT,
        (D,),
        covariance="isotropic",
        data_std=0.7,
        noise_std=0.2,
    )
    exact = gaussian_score(sde, *given(mean, cov, a, m[0], 0.2))
    x = torch.sin(torch.arange(4.0 * D, dtype=torch.float64)).view(4, D)
    t = torch.tensor(0.3, dtype=torch.float64)
    torch.testing.assert_close(mine(t, x), exact(t, x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("noise_std", [0.0, 0.3])
def test_samples_have_the_conditional_law(noise_std):
    """Means and covariances within 5 standard errors; 400 steps leave a bias below one."""
    sde, (mean, cov), n = sk.VP(), law(), 4000
    a, m = matrix(), torch.tensor([[0.7, -1.1]], dtype=torch.float64)
    times = torch.linspace(1.0, 1e-3, 401, dtype=torch.float64).square() * sde.T
    x = inpaint(
        sde,
        gaussian_score(sde, mean, cov),
        m,
        lambda v: v @ a.mT,
        (n, D),
        noise_std=noise_std,
        times=times,
        seed=4,
    )
    want, spread = given(mean, cov, a, m[0], noise_std)
    if noise_std == 0.0:
        torch.testing.assert_close(x @ a.mT, m.expand(n, 2), rtol=1e-6, atol=1e-6)
    # Along the eigenvectors; where the measurement fixes all, nothing is left to compare.
    values, vectors = torch.linalg.eigh(spread)
    z = (x - want) @ vectors[:, values > 1e-9] / values[values > 1e-9].sqrt()
    assert float(z.mean(0).abs().max()) < 5.0 / math.sqrt(n)
    errors = (z.mT @ z / n - torch.eye(z.shape[1])).abs()
    assert float(errors.max()) < 5.0 * math.sqrt(2.0 / n)


def test_a_mixture_chooses_the_mode_that_was_seen():
    """Two clusters, and a first component that only one of them has: all samples go there."""
    sde = sk.VP()
    means = torch.tensor([[2.0, 1.0, -1.0], [-2.0, -1.0, 1.0]])
    score = sk.score.GaussianMixture(means, 0.3, sde=sde)
    known = torch.tensor([True, False, False])
    x = inpaint(sde, score, torch.tensor([[2.1]]), known, (500, 3), steps=200, seed=1)
    assert torch.allclose(x[:, 0], torch.tensor(2.1), atol=1e-4)
    off = (x[:, 1:] - means[0, 1:]).mean(0) / (0.3 / math.sqrt(500))
    # Components are independent within a cluster. 200 equal steps leave some bias: half a
    # standard deviation would be 11 standard errors.
    assert float(off.abs().max()) < 6.0
    assert torch.allclose(x[:, 1:].std(0), torch.tensor(0.3), rtol=0.15)


def test_each_sample_has_its_own_measurement_and_knows_no_other():
    sde = sk.VP()
    score = sk.score.GaussianMixture(torch.tensor([[1.0, 0.5], [-1.0, -0.5]]), 0.4, sde=sde)
    m = torch.linspace(-1.0, 1.0, 6).view(6, 1)
    known = torch.tensor([True, False])
    whole = inpaint(sde, score, m, known, (6, 2), steps=30, seed=2)
    assert torch.allclose(whole[:, :1], m, atol=1e-5)
    part = inpaint(sde, score, m[3:4], known, (1, 2), steps=30, seed=2, first_sample=3)
    assert torch.equal(whole[3:4], part)


def test_any_number_of_steps_will_do():
    """Nine equal steps have beta(t) dt > 1, which the chain's posterior does not allow."""
    sde = sk.VP()
    score, known = sk.score.Gaussian(0.0, 0.5, sde), torch.tensor([True, False])
    m = torch.tensor([[0.4]])
    x = inpaint(sde, score, m, known, (400, 2), steps=9, seed=3)
    assert torch.allclose(x[:, 0], torch.tensor(0.4), atol=1e-4)
    assert 0.3 < float(x[:, 1].std()) < 0.6
    with pytest.raises(ValueError, match="steps="):
        inpaint(sde, score, m, known, (4, 2), steps=9, predictor="ancestral")


def test_operators():
    like = torch.zeros((), dtype=torch.float64)
    a = matrix()
    op = LinearOperator(lambda x: x @ a.mT, (D,), like)
    u = torch.tensor([[1.0, -2.0], [0.5, 0.1]], dtype=torch.float64)
    torch.testing.assert_close(op.adjoint(u), u @ a)
    image = LinearOperator(
        lambda x: torch.nn.functional.avg_pool2d(x.unsqueeze(1), 2).squeeze(1), (4, 4), like
    )
    assert image(torch.ones(3, 4, 4, dtype=torch.float64)).shape == (3, 2, 2)
    assert float(image.adjoint(torch.ones(1, 2, 2, dtype=torch.float64))[0, 0, 0]) == 0.25


def test_conjugate_gradients_leave_what_is_not_positive():
    k = torch.stack([torch.diag(torch.tensor([1.0, 2.0, 5.0])), -torch.eye(3)]).double()
    b = torch.ones(2, 3, dtype=torch.float64)
    u = conjugate_gradients(lambda v: (k @ v.unsqueeze(2)).squeeze(2), b, 3)
    torch.testing.assert_close(u[0], 1.0 / torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64))
    assert torch.equal(u[1], torch.zeros(3, dtype=torch.float64))


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"operator": torch.ones(3)}, TypeError, "boolean"),
        ({"operator": torch.zeros(3, dtype=torch.bool)}, ValueError, "knows no component"),
        ({"operator": torch.ones(4, dtype=torch.bool)}, ValueError, "one entry for each"),
        ({"operator": lambda x: x[:, :1].square()}, ValueError, "not linear"),
        ({"operator": lambda x: x[:, :1] + 1.0}, ValueError, "not linear"),
        ({"operator": "blur"}, TypeError, "linear function"),
        ({"measurement": torch.ones(2, 1)}, ValueError, "one a sample"),
        ({"measurement": torch.ones(1, 2)}, ValueError, "measures"),
        ({"measurement": torch.tensor([[math.nan]])}, ValueError, "finite"),
        ({"noise_std": -1.0}, ValueError, "noise_std"),
        ({"covariance": "exact"}, ValueError, "moment"),
        ({"score": lambda t, x: -x.detach()}, RuntimeError, "no derivative"),
    ],
)
def test_bad_input(change, error, says):
    sde = sk.VP()
    arguments = {
        "score": sk.score.Gaussian(0.0, 1.0, sde),
        "measurement": torch.ones(1, 1),
        "operator": torch.tensor([True, False, False]),
        "shape": (4, 3),
        "steps": 20,
    } | change
    with pytest.raises(error, match=says):
        inpaint(sde, **arguments)
