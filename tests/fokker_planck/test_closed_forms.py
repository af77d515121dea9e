"""Densities against closed forms, and the order at which they get there.

Errors are total variation between the cells' masses and those of the analytic law. Cells become
half as wide from grid to grid; order p makes the error 2^p times as small. Bounds on the order
leave 0.15 for the next term of the error (0.35 where weights of the scheme change with the cells).
"""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import ncx2

import sdekit as sk
from sdekit.fokker_planck import fokker_planck
from sdekit.fokker_planck.cells import make_cells
from sdekit.fokker_planck.field import make_field
from sdekit.fokker_planck.rates import Rates
from sdekit.solvers import Equation
from tests.fokker_planck.laws import (
    DOUBLE,
    distance,
    edges,
    gaussian,
    lognormal_cells,
    masses_of,
    normal_cells,
    orders,
    vector,
)

OU = sk.OU(1.3, 0.2, 0.7)
A = torch.tensor([[1.0, 0.8], [-0.6, 0.7]], dtype=DOUBLE)
START = vector(0.8, -0.4), torch.tensor([[0.10, 0.02], [0.02, 0.08]], dtype=DOUBLE)


def ou_law(t, mean=-1.0, variance=0.04):
    shrink = math.exp(-1.3 * t)
    return 0.2 + shrink * (mean - 0.2), shrink**2 * variance + 0.49 * (1 - shrink**2) / 2.6


def ou_start(x):
    return torch.exp(-((x[:, 0] + 1.0) ** 2) / 0.08)


@pytest.mark.parametrize("scheme", ["linear", "limited"])
@pytest.mark.parametrize("stretched", [False, True])
def test_order_two_in_space_on_ou(scheme, stretched):
    """On equal cells, and on cells whose widths vary smoothly by a factor of five."""
    errors, times = [], [0.3, 1.0, 8.0] if scheme == "linear" else [0.3, 1.0]
    for n in (50, 100, 200) if scheme == "linear" else (40, 80, 160):
        e = edges(-1.0, 1.0, n)
        e = 3.0 * (e + 0.6 * torch.sin(math.pi * e) / math.pi if stretched else e)
        d = fokker_planck(OU, ou_start, e, times, scheme=scheme)
        errors.append([distance(d, normal_cells(*ou_law(t), e), k) for k, t in enumerate(d.t)])
        assert torch.all(d.p >= 0) and torch.all((d.mass - 1).abs() < 1e-13)
    least = 1.85 if scheme == "linear" else 1.65
    for k in range(len(times)):
        found = orders([e[k] for e in errors])
        assert found[-1] > least, (k, errors, found)
        assert errors[-1][k] < 3e-3


def matrix_error(sde, n, t, **options):
    """Total variation after t between a matrix OU started normal and its normal law."""
    grid = edges(-3.5, 3.5, n), edges(-3.7, 3.7, n)
    d = fokker_planck(sde, gaussian(*START), grid, [t], **options)
    assert torch.all(d.p >= 0) and abs(float(d.mass) - 1) < 1e-13
    phi = torch.linalg.matrix_exp(-sde.A * t)
    cov = sde.covariance(t, t) + phi @ START[1] @ phi.T
    return distance(d, masses_of(gaussian(phi @ START[0], cov), grid)), d.scheme


# Drift matrix, noise, cells of the coarsest grid, the scheme, its least order.
MATRIX = {
    "additive": (A, 0.6, 30, "linear", 1.85),
    "correlated": (A, torch.tensor([[0.7, 0.0], [0.25, 0.45]], dtype=DOUBLE), 30, "linear", 1.85),
    "correlated by 0.9": (
        A,
        torch.tensor([[0.7, 0.0], [0.38, 0.18]], dtype=DOUBLE),
        30,
        "limited",
        1.6,
    ),
    "one motion, position without noise": (
        torch.tensor([[0.0, -1.0], [1.0, 0.5]], dtype=DOUBLE),
        vector(0.0, 0.7),
        24,
        "limited",
        1.6,
    ),
}


@pytest.mark.parametrize("name", MATRIX)
def test_order_two_in_space_on_matrix_ou(name):
    a, noise, n, scheme, least = MATRIX[name]
    sde = sk.MatrixOU(a, 0.0, noise)
    errors = [matrix_error(sde, n * 2**k, 0.6, scheme=scheme)[0] for k in range(3)]
    found = orders(errors)
    assert found[-1] > least and errors[-1] < 6e-3, (errors, found)
    if scheme == "limited":
        assert matrix_error(sde, n, 0.6)[1] == "limited"


def test_upwinding_alone_has_order_one_without_noise():
    """What the limited scheme is for: the linear one in a direction without noise."""
    a, noise, _, _, _ = MATRIX["one motion, position without noise"]
    sde = sk.MatrixOU(a, 0.0, noise)
    linear = [matrix_error(sde, n, 0.6, scheme="linear")[0] for n in (48, 96)]
    assert orders(linear)[0] < 1.1
    assert matrix_error(sde, 96, 0.6)[0] < 0.1 * linear[1]


def test_double_well_settles_in_its_law_to_rounding():
    """The chain is in detailed balance with e^{-U / T} at the middles, on any grid."""
    sde = sk.DoubleWell(1.0, 0.5)
    even = edges(-2.4, 2.4, 80)
    for e in (even, even + 0.02 * torch.cos(7.0 * torch.arange(81, dtype=DOUBLE))):
        d = fokker_planck(sde, vector(1.0), e, [1e4])
        assert d.scheme == "linear"  # by "auto", here as everywhere
        want = (sde.log_density(d.middles[0][:, None])).exp()
        got = d.p[0] / d.p[0].sum()
        torch.testing.assert_close(got, want / want.sum(), rtol=1e-10, atol=0.0)


def test_two_dimensional_equilibrium_is_kept_to_rounding():
    """b = -C grad U with correlated noise: nothing flows, though C has mixed terms."""
    c = torch.tensor([[0.5, 0.2], [0.2, 0.3]], dtype=DOUBLE)
    g = torch.linalg.cholesky(2.0 * c)

    class Gradient:
        noise_type = "general"

        def drift(self, t, x):
            u = torch.stack([4.0 * x[:, 0] * (x[:, 0] ** 2 - 1.0), 2.0 * x[:, 1] - x[:, 0]], 1)
            u = u + torch.stack([-x[:, 1], torch.zeros_like(x[:, 1])], 1)
            return -0.3 * u @ c

        def diffusion(self, t, x):
            return g.expand(len(x), 2, 2)

    def weight(x):
        u = (x[:, 0] ** 2 - 1.0) ** 2 + x[:, 1] ** 2 - x[:, 0] * x[:, 1]
        return torch.exp(-0.3 * u)

    cells = make_cells((edges(-2.2, 2.2, 80), edges(-3.0, 3.0, 100)))
    field = make_field(Equation(Gradient()), 0.0, cells)
    q = Rates(cells, on_axes=False).generator(field)
    m = weight(torch.cartesian_prod(*cells.middles)).view(80, 100)
    # Simpson's rule is exact for cubic forces along each line between middles.
    assert len(q.jumps) == 3 and not bool(q.dominated.any())
    assert float((q.apply(m) / (q.loss * m)).abs().max()) < 1e-12


@pytest.mark.parametrize("grid", ["even", "geometric"])
def test_gbm_is_lognormal(grid):
    mu, sigma, t0, t1 = 0.1, 0.4, 0.5, 1.5
    errors = []
    for n in (100, 200, 400):
        e = edges(0.0, 10.0, n)
        if grid == "geometric":
            e = edges(math.log(0.04), math.log(12.0), n).exp()
        start = (mu - sigma**2 / 2) * t0

        def p0(x, start=start):
            return torch.exp(-((x[:, 0].log() - start) ** 2) / (2 * sigma**2 * t0)) / x[:, 0]

        low = "reflecting" if grid == "even" else "far"
        d = fokker_planck(sk.GBM(mu, sigma), p0, e, [t1], t0=t0, boundary=(low, "far"))
        law = lognormal_cells((mu - sigma**2 / 2) * t1, sigma**2 * t1, e)
        errors.append(distance(d, law))
    assert orders(errors)[-1] > 1.85 and errors[-1] < 2e-4, errors


def test_cir_is_noncentral_chi_square():
    """At a wall that the process comes near to, where its noise vanishes."""
    kappa, theta, xi, x0, errors = 1.5, 0.6, 0.8, 0.9, []
    scale = 2.0 * kappa / (xi**2 * -math.expm1(-kappa))
    degrees, shift = 4.0 * kappa * theta / xi**2, 2.0 * scale * x0 * math.exp(-kappa)
    for n in (100, 200, 400):
        e = edges(0.0, 4.0, n)
        d = fokker_planck(
            sk.CIR(kappa, theta, xi), vector(x0), e, [1.0], boundary=("reflecting", "far")
        )
        law = torch.from_numpy(ncx2.cdf(2.0 * scale * e.numpy(), degrees, shift)).diff()
        errors.append(distance(d, law))
    assert orders(errors)[-1] > 1.85 and errors[-1] < 5e-5, errors


@pytest.mark.parametrize("interpretation", ["ito", "stratonovich"])
def test_interpretations(interpretation):
    """dx = 0.4 x dW: the mean stays in Ito's sense, grows by e^{0.08 t} in Stratonovich's."""

    class Multiplicative:
        def __init__(self):
            self.interpretation = interpretation

        def drift(self, t, x):
            return torch.zeros_like(x)

        def diffusion(self, t, x):
            return 0.4 * x

    e = edges(math.log(0.1), math.log(10.0), 300).exp()
    d = fokker_planck(Multiplicative(), vector(1.0), e, [1.0])
    growth = 0.08 if interpretation == "stratonovich" else 0.0
    assert abs(float(d.mean()) - math.exp(growth)) < 2e-4
    law = lognormal_cells(growth - 0.08, 0.16, e)
    assert distance(d, law) < 1e-3


def test_density_of_an_ode():
    """dx = -x dt: the density shrinks by e^{-t}; at order two, but for its maximum."""

    class Shrinking:
        deterministic = True

        def drift(self, t, x):
            return -x

        def diffusion(self, t, x):
            return torch.zeros_like(x)

    errors = []
    for n in (100, 200, 400):
        e = edges(-2.0, 2.0, n)
        d = fokker_planck(Shrinking(), lambda x: torch.exp(-((x[:, 0] - 0.5) ** 2) / 0.1), e, [0.7])
        assert d.scheme == "limited" and torch.all(d.p >= 0)
        shrink = math.exp(-0.7)
        errors.append(distance(d, normal_cells(0.5 * shrink, 0.05 * shrink**2, e)))
    assert orders(errors)[-1] > 1.6 and errors[-1] < 1e-3, errors


def test_point_start_has_the_exact_mean():
    for x0 in (-0.713, 0.0, 1.99, -2.0):
        d = fokker_planck(
            sk.Brownian(1e-9), vector(x0), edges(-2.0, 2.0, 13), [0.0], boundary="reflecting"
        )
        inside = min(max(x0, float(d.middles[0][0])), float(d.middles[0][-1]))
        assert abs(float(d.mean()) - inside) < 1e-12
    grid = edges(-2.0, 2.0, 23), edges(-1.0, 3.0, 21)
    d = fokker_planck(sk.Brownian(0.4), vector(0.3, 0.9), grid, [0.0, 0.05])
    torch.testing.assert_close(d.mean(), vector(0.3, 0.9).expand(2, 2), rtol=0.0, atol=1e-9)
