"""Heston's model: Riccati equations, moment equations, published prices, other formulas, paths."""

from __future__ import annotations

import cmath
import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from scipy.stats import norm

import sdekit as sk
from sdekit.sde import Heston, nonnegative_mask

DOUBLE = torch.float64
# rate, kappa, theta, xi, rho, v0: Fang & Oosterlee 2008; Andersen 2008, cases I and II; rough ones.
FANG = (0.0, 1.5768, 0.0398, 0.5751, -0.5711, 0.0175)
ANDERSEN_1 = (0.0, 0.5, 0.04, 1.0, -0.9, 0.04)
ANDERSEN_2 = (0.0, 0.3, 0.04, 0.9, -0.5, 0.04)
UPWARDS = (0.05, 0.2, 0.09, 1.5, 0.8, 0.3)  # kappa - rho xi below zero
CALM = (0.03, 2.0, 0.05, 1e-4, 0.3, 0.1)
SETS = [FANG, ANDERSEN_1, UPWARDS, CALM]


def start(v0, s0=100.0):
    return torch.tensor([[math.log(s0), v0]], dtype=DOUBLE)


@pytest.mark.parametrize("given", SETS)
@pytest.mark.parametrize("t", [0.1, 1.0, 15.0])
def test_characteristic_function_solves_riccati_equations(given, t):
    """E exp(i u log S) = exp(i u (log S_0 + rate t) + C + D v), integrated without a logarithm."""
    rate, kappa, theta, xi, rho, v0 = given
    sde, x0 = Heston(*given[:5]), start(v0)
    for u in (0.3, 4.0, 25.0, 2.0 - 0.5j):
        s = 1j * u

        def slope(_, y, s=s):
            d = y[1]
            return [
                kappa * theta * d,
                0.5 * (s * s - s) - (kappa - rho * xi * s) * d + 0.5 * xi**2 * d * d,
            ]

        end = solve_ivp(slope, (0, t), [0j, 0j], rtol=1e-12, atol=1e-13, method="DOP853").y[:, -1]
        want = cmath.exp(s * (x0[0, 0].item() + rate * t) + end[0] + end[1] * v0)
        got = sde.characteristic_function(u, t, x0).item()
        assert abs(got - want) < 1e-10 * max(1.0, abs(want))


@pytest.mark.parametrize("given", SETS)
def test_marginal_solves_moment_equations(given):
    rate, kappa, theta, xi, rho, v0 = given

    def slope(_, m):
        x, v, _, xv, vv = m
        return [
            rate - 0.5 * v,
            kappa * (theta - v),
            2 * (rate * x - 0.5 * xv) + v,
            rate * v - 0.5 * vv + kappa * (theta * x - xv) + rho * xi * v,
            2 * kappa * (theta * v - vv) + xi**2 * v,
        ]

    a = 0.7
    first = [a, v0, a * a, a * v0, v0 * v0]
    x, v, xx, xv, vv = solve_ivp(
        slope, (0.5, 2.5), first, rtol=1e-12, atol=1e-14, method="DOP853"
    ).y[:, -1]
    law = Heston(*given[:5]).transition(0.5, 2.5, torch.tensor([[a, v0]], dtype=DOUBLE))
    assert law.mean[0].tolist() == pytest.approx([x, v], rel=1e-10)
    cov = [[xx - x * x, xv - x * v], [xv - x * v, vv - v * v]]
    np.testing.assert_allclose(law.cov[0].numpy(), cov, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(law.std.square(), law.cov.diagonal(dim1=1, dim2=2))


# Prices as printed. Fang & Oosterlee's first one is short of the exact value by 1.6e-8.
PUBLISHED = [
    (FANG, 1.0, 100.0, 5.785155450, 2e-8),
    (FANG, 10.0, 100.0, 22.318945791, 1e-9),
    (ANDERSEN_1, 10.0, 70.0, 35.850, 6e-4),
    (ANDERSEN_1, 10.0, 100.0, 13.085, 6e-4),
    (ANDERSEN_1, 10.0, 140.0, 0.296, 6e-4),
    (ANDERSEN_2, 15.0, 70.0, 37.170, 6e-4),
    (ANDERSEN_2, 15.0, 100.0, 16.649, 6e-4),
    (ANDERSEN_2, 15.0, 140.0, 5.138, 6e-4),
]


@pytest.mark.parametrize(("given", "t", "strike", "want", "error"), PUBLISHED)
def test_published_prices(given, t, strike, want, error):
    price = Heston(*given[:5]).call_price(strike, t, start(given[5]))
    assert price.shape == (1,) and price.item() == pytest.approx(want, abs=error)


@pytest.mark.parametrize("given", [FANG, ANDERSEN_1, UPWARDS])
@pytest.mark.parametrize(("t", "strike"), [(0.05, 104.0), (1.0, 60.0), (4.0, 130.0)])
def test_prices_by_gil_pelaez(given, t, strike):
    """S P_1 - K e^{-rt} P_2, two probabilities by 20 Gauss-Legendre nodes a panel.

    The panels shrink towards zero: in the last set the moments explode just above the first one.
    """
    sde, x0 = Heston(*given[:5]), start(given[5])
    forward = sde.characteristic_function(-1j, t, x0).item().real
    assert forward == pytest.approx(100.0 * math.exp(given[0] * t), rel=1e-12)
    nodes, weights = np.polynomial.legendre.leggauss(20)
    edges = np.concatenate([[0.0], 2.0 ** np.arange(-20.0, 2.0), np.arange(4.0, 3000.0, 2.0)])
    width = np.diff(edges)[:, None]
    u = torch.from_numpy((edges[:-1, None] + 0.5 * width * (nodes + 1.0)).ravel())

    def probability(shift):
        phi = sde.characteristic_function(u - shift * 1j, t, x0)[0]
        values = (torch.exp(-1j * u * math.log(strike)) * phi / (1j * u)).real.numpy()
        total = (0.5 * width[:, 0] * (values.reshape(-1, 20) @ weights)).sum()
        return 0.5 + total / (math.pi * (forward if shift else 1.0))

    discount = math.exp(-given[0] * t)
    want = discount * (forward * probability(1) - strike * probability(0))
    assert sde.call_price(strike, t, x0).item() == pytest.approx(want, abs=1e-10)


@pytest.mark.parametrize("t", [1 / 365, 0.1, 1.0, 30.0])
def test_prices_of_black_and_scholes_in_the_limit(t):
    strikes = torch.tensor([20.0, 90.0, 100.0, 101.0, 300.0], dtype=DOUBLE)
    got = Heston(0.03, 1.0, 0.04, 0.0, 0.0).call_price(strikes, t, start(0.04))[0].numpy()
    total = 0.2 * math.sqrt(t)
    d = (np.log(100.0 / strikes.numpy()) + 0.03 * t) / total + 0.5 * total
    discounted = strikes.numpy() * math.exp(-0.03 * t)
    want = 100.0 * norm.cdf(d) - discounted * norm.cdf(d - total)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-10)


def test_prices_of_many_paths_times_and_strikes():
    kappa, t = torch.tensor([1.0, 2.0], dtype=DOUBLE), torch.tensor([0.5, 3.0], dtype=DOUBLE)
    strikes = torch.tensor([[90.0, 100.0, 110.0]], dtype=DOUBLE)
    x0 = torch.cat([start(0.04), start(0.09, 95.0)])
    got = Heston(0.02, kappa, 0.05, 0.6, -0.7).call_price(strikes, t, x0)
    assert got.shape == (2, 1, 3)
    for i in range(2):
        one = Heston(0.02, kappa[i], 0.05, 0.6, -0.7)
        for j in range(3):
            want = one.call_price(strikes[0, j], float(t[i]), x0[i : i + 1])
            assert got[i, 0, j].item() == pytest.approx(want.item(), abs=1e-10)
    u = torch.tensor([0.5, 1.0], dtype=DOUBLE)
    phi = Heston(0.02, kappa, 0.05, 0.6, -0.7).characteristic_function(u, t, x0)
    assert phi.shape == (2, 2) and phi.dtype == torch.complex128


def test_gradients_of_the_price():
    given = [torch.tensor(p, dtype=DOUBLE, requires_grad=True) for p in FANG[:5]]
    x0 = start(FANG[5]).requires_grad_()

    def price(x0, *parameters):
        return Heston(*parameters).call_price(95.0, 0.7, x0)

    assert torch.autograd.gradcheck(price, (x0, *given), atol=1e-5)
    calm = torch.tensor(0.0, dtype=DOUBLE, requires_grad=True)
    Heston(0.0, 1.0, 0.04, calm).call_price(100.0, 1.0, start(0.04)).sum().backward()
    assert calm.grad.isfinite()


def test_paths_have_the_moments_and_the_price():
    sde = Heston(0.02, 3.0, 0.06, 0.4, -0.6)
    assert sde.feller and not Heston(*FANG[:5]).feller
    x0, paths, t = start(0.05, 1.0).float()[0], 100_000, 1.0
    payoff = sk.Maximum(lambda t, x: torch.clamp(x[:, 0].exp() - 1.0, min=0.0) * (t >= 0.999))
    run = sk.ensemble(
        sde, x0, paths=paths, t1=t, steps=200, seed=5, covariance=True, functionals={"call": payoff}
    )
    law = sde.marginal(t, x0[None])
    assert ((run.mean - law.mean).abs() < 4 * run.std_error + 2e-4).all()
    assert ((run.var / law.std**2).log().abs() < 4 * math.sqrt(3 / paths) + 1e-2).all()
    correlation = law.cov[0, 0, 1] / law.std.prod()
    got = run.cov[0, 0, 1] / run.var.sqrt().prod()
    assert abs(got - correlation) < 4 / math.sqrt(paths) + 5e-3
    call = run.functionals["call"]
    want = sde.call_price(1.0, t, start(0.05, 1.0)).item() * math.exp(0.02 * t)
    assert abs(call.mean.item() - want) < 4 * call.std_error.item() + 2e-4


def test_shapes_noise_and_parameters_of_each_path():
    rho = torch.tensor([-0.5, 0.5, 1.0])
    sde, x = Heston(0.01, rho=rho), torch.tensor([[0.0, 0.04], [1.0, 0.09], [1.0, -0.01]])
    t = torch.tensor(0.0)
    g = sde.diffusion(t, x)
    assert g.shape == (3, 2, 2) and sde.drift(t, x).shape == (3, 2)
    cov = g @ g.mT
    v = x[:2, 1]
    torch.testing.assert_close(cov[:2, 0, 0], v)
    torch.testing.assert_close(cov[:2, 1, 1], 0.25 * v)
    torch.testing.assert_close(cov[:2, 0, 1], 0.5 * rho[:2] * v)
    assert (g[2] == 0).all()
    assert nonnegative_mask(sde, x).tolist() == [[False, True]]
    assert sk.explain(sde, x0=x).name == "trajectory_kernel"
    empty = Heston().marginal(0.5, x[:0])
    assert empty.mean.shape == (0, 2) and empty.cov.shape == (0, 2, 2)


BAD = [
    (lambda: Heston(kappa=0.0), ValueError, "kappa must be above 0"),
    (lambda: Heston(rho=1.5), ValueError, "rho must be between -1 and 1"),
    (lambda: Heston(rho=-1.5), ValueError, "rho must be -1 or more"),
    (lambda: Heston(theta=torch.ones(2, 2)), ValueError, r"one entry a path, \(B,\), got \(2, 2\)"),
    (lambda: Heston(xi="a"), TypeError, "xi must be a number"),
    (lambda: Heston().drift(0.0, torch.ones(3, 3)), ValueError, r"shape \(B, 2\), got \(3, 3\)"),
    (lambda: Heston().call_price(0.0, 1.0, start(0.04)), ValueError, "strike must be above zero"),
    (lambda: Heston().call_price(1.0, 0.0, start(0.04)), ValueError, "t must be above zero"),
    (
        lambda: Heston(theta=0.0).call_price(1.0, 1.0, start(0.0)),
        RuntimeError,
        "is the time or the variance zero",
    ),
]


@pytest.mark.parametrize(("call", "error", "says"), BAD)
def test_bad_input_says_what_is_needed(call, error, says):
    with pytest.raises(error, match=says):
        call()
