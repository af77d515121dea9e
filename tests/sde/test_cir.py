"""The square-root process against moment equations, scipy's noncentral chi-square, and paths."""

from __future__ import annotations

import math

import mpmath
import pytest
import torch
from scipy.integrate import quad, solve_ivp
from scipy.stats import gamma, ncx2

import sdekit as sk
from sdekit.sde import CIR, nonnegative_mask
from sdekit.sde.bessel import log_bessel

DOUBLE = torch.float64


def double(*values):
    return torch.tensor(values, dtype=DOUBLE)


@pytest.mark.parametrize("order", [-0.99, -0.3, 0.0, 0.5, 12.0, 29.0, 30.5, 1e3])
def test_bessel_function_to_rounding(order):
    """Relative to its size or to one: two branches meet at order^2 + z^2 = 900."""
    for z in (0.0, 1e-12, 0.1, 5.0, 25.0, 29.9, 30.1, 100.0, 1e5):
        with mpmath.workdps(40):
            n, m = mpmath.mpf(order), mpmath.mpf(z)
            if z == 0.0:
                want = -mpmath.loggamma(n + 1)
            else:
                want = mpmath.log(mpmath.besseli(n, m)) - m - n * mpmath.log(m / 2)
        got = log_bessel(double(order), double(z)).item()
        assert got == pytest.approx(float(want), rel=2e-14, abs=2e-14)


def test_bessel_gradients():
    order = double(-0.7, 0.0, 3.0, 29.0, 31.0, 200.0).requires_grad_()
    z = double(0.5, 3.0, 20.0, 2.0, 15.0, 300.0).requires_grad_()
    assert torch.autograd.gradcheck(log_bessel, (order, z))
    zero = torch.zeros(1, dtype=DOUBLE, requires_grad=True)
    log_bessel(double(0.5), zero).sum().backward()
    assert zero.grad.item() == -1.0  # of -z; the series is even in z


@pytest.mark.parametrize("kappa", [0.0, 1e-9, 1.5])
def test_moments_solve_moment_equations(kappa):
    theta, xi, x0 = 0.5, 0.4, 0.3
    # m' = kappa (theta - m), q' = 2 kappa (theta m - q) + xi^2 m for the second moment q.
    end = solve_ivp(
        lambda _, y: [
            kappa * (theta - y[0]),
            2 * kappa * (theta * y[0] - y[1]) + xi**2 * y[0],
        ],
        (0.2, 1.5),
        [x0, x0**2],
        rtol=1e-12,
        atol=1e-14,
    ).y[:, -1]
    law = CIR(kappa, theta, xi).transition(double(0.2)[0], double(1.5)[0], double([x0]))
    assert law.mean.item() == pytest.approx(end[0], rel=1e-10)
    assert law.var.item() == pytest.approx(end[1] - end[0] ** 2, rel=1e-9)


def test_density_is_noncentral_chi_square():
    sde = CIR([0.7, 2.0], 0.05, [0.3, 0.2])
    assert not sde.feller and CIR(2.0, 0.05, 0.2).feller
    x = double([0.04, 0.1], [0.0, 0.03], [0.04, 0.1])
    y = double([0.05, 0.07], [0.01, 0.04], [0.05, -0.01])
    for tau in (1e-4, 0.1, 2.0, 1e3):
        got = sde.transition_log_prob(0.0, double(tau)[0], x, y)
        for i in range(2):
            want = 0.0
            for d, (kappa, xi) in enumerate([(0.7, 0.3), (2.0, 0.2)]):
                scale = 4 * kappa / (xi**2 * -math.expm1(-kappa * tau))
                want += math.log(scale) + ncx2.logpdf(
                    scale * y[i, d].item(),
                    4 * kappa * 0.05 / xi**2,
                    scale * x[i, d].item() * math.exp(-kappa * tau),
                )
            assert got[i].item() == pytest.approx(want, rel=1e-6, abs=1e-6)  # scipy's own error
        assert got[2] == -torch.inf
    late = sde.transition_log_prob(0.0, double(1e3)[0], x, y)
    torch.testing.assert_close(late, sde.stationary_log_prob(y), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("theta", "x"), [(0.05, 0.04), (0.5, 0.3)])
def test_density_has_the_moments(theta, x):
    sde, tau = CIR(1.2, theta, 0.4), double(0.6)[0]
    law = sde.transition(0.0, tau, double([x]))

    # In y = w^4 the density is smooth at zero, whatever the order of its pole.
    def weighted(w, power):
        log_prob = sde.transition_log_prob(0.0, tau, double([x]), double([w**4])).item()
        return math.exp(log_prob) * w ** (4 * power) * 4 * w**3

    mass, mean, second = (
        quad(weighted, 0, 2.0, args=(p,), epsabs=1e-12, limit=200)[0] for p in range(3)
    )
    assert mass == pytest.approx(1.0, abs=1e-10)
    assert mean == pytest.approx(law.mean.item(), rel=1e-9)
    assert second - mean**2 == pytest.approx(law.var.item(), rel=1e-8)


def test_gradients_of_the_density():
    x, y = double([0.04, 0.1]), double([0.05, 0.07])
    given = [double(v)[0].requires_grad_() for v in (0.7, 0.05, 0.3)]
    for tau in (1e-3, 0.5):
        assert torch.autograd.gradcheck(
            lambda k, th, xi, tau=tau: CIR(k, th, xi).transition_log_prob(0.0, tau, x, y), given
        )


def test_stationary_law_is_gamma():
    sde = CIR(1.2, 0.5, 0.4)
    y = double([0.3], [0.6])
    want = gamma.logpdf(y[:, 0].numpy(), 2 * 1.2 * 0.5 / 0.16, scale=0.16 / 2.4)
    assert sde.stationary_log_prob(y).tolist() == pytest.approx(want.tolist(), rel=1e-12)
    assert sde.stationary_std == pytest.approx(gamma.std(7.5, scale=0.16 / 2.4), rel=1e-12)
    assert sde.marginal(1e3, y).mean[0].item() == pytest.approx(0.5)
    assert sde.marginal(1e3, y).std[0].item() == pytest.approx(sde.stationary_std)


def test_paths_have_the_moments():
    sde, x0, paths, steps = CIR(1.5, 0.5, 0.4), torch.tensor([0.3]), 100_000, 200
    run = sk.ensemble(sde, x0, paths=paths, t1=1.0, steps=steps, seed=4)
    law = sde.marginal(1.0, x0[None])
    # Euler's mean is exact but for (1 - kappa dt)^n in place of e^{-kappa}.
    euler = 0.5 - 0.2 * (1 - 1.5 / steps) ** steps
    assert abs(run.mean.item() - euler) < 4 * run.std_error.item()
    assert abs(run.mean.item() - law.mean.item()) < 4 * run.std_error.item() + 5e-4
    assert abs(run.var.item() / law.var.item() - 1) < 4 * math.sqrt(2 / paths) + 1e-2


def test_the_noise_stops_at_zero_with_finite_gradients():
    sde, x = CIR(1.0, 0.2, 0.5), double([0.25], [0.0], [-0.1]).requires_grad_()
    g = sde.diffusion(double(0.0)[0], x)
    g.sum().backward()
    assert g[:, 0].tolist() == [0.25, 0.0, 0.0]
    assert x.grad[:, 0].tolist() == [0.5, 0.0, 0.0]
    assert nonnegative_mask(sde, torch.ones(3, 2, 2)).tolist() == [[[True, True], [True, True]]]


BAD = [
    (lambda: CIR(-1.0), ValueError, "kappa must be 0 or more"),
    (lambda: CIR(theta="a"), TypeError, "theta must be a number"),
    (lambda: CIR(xi=[1.0, 2.0]).drift(0.0, torch.ones(4, 3)), ValueError, "they must agree"),
    (lambda: CIR().transition(0.0, 1.0, [1.0]), TypeError, "write torch"),
    (lambda: CIR(0.0).stationary_std, ValueError, "kappa above zero"),
    (lambda: CIR(0.0).stationary_log_prob(torch.ones(1, 1)), ValueError, "kappa above zero"),
    (
        lambda: CIR(theta=0.0).transition_log_prob(0.0, 1.0, torch.ones(1, 1), torch.ones(1, 1)),
        ValueError,
        "kappa and theta are above 0",
    ),
]


@pytest.mark.parametrize(("call", "error", "says"), BAD)
def test_bad_input_says_what_is_needed(call, error, says):
    with pytest.raises(error, match=says):
        call()
