"""Methods for position and velocity: orders, and what they keep exactly."""

from __future__ import annotations

import math

import pytest
import torch

import sdekit as sk
from sdekit.noise.brownian import Brownian
from sdekit.noise.increment import Increment
from sdekit.sde import MatrixOU, UnderdampedLangevin
from sdekit.solvers import SOLVERS, Equation
from tests.solve.paths import both, close
from tests.solvers.laws import F64, covers, double_well

FRICTION, TEMPERATURE, MASS, STIFFNESS = 0.8, 0.7, 1.3, 2.1
HARMONIC = UnderdampedLangevin(
    force=lambda q: -STIFFNESS * q, friction=FRICTION, temperature=TEMPERATURE, mass=MASS
)
ANHARMONIC = UnderdampedLangevin(
    lambda q: 0.5 * (q.square() - 1.0).square(),
    friction=torch.tensor([0.3, 3.0], dtype=F64),
    temperature=TEMPERATURE,
    mass=MASS,
)


def wells(temperature):
    """One form for two tests, so that its kernels are compiled once."""
    return UnderdampedLangevin(
        lambda q: (q.square() - 1.0).square(), friction=0.7, temperature=temperature
    )


@pytest.mark.parametrize("method", ["baoab", "quicsort"])
def test_one_kernel_equals_step_by_step(method):
    sde = wells(temperature=0.8)
    x0 = torch.linspace(-0.5, 1.0, 600).view(150, 2, 2)
    assert sk.explain(sde, method).name == "trajectory_kernel"
    fused, stepwise = both(sde, x0, t1=0.7, steps=40, method=method)
    assert close(fused.x, stepwise.x)
    for name, value in fused.carried.items():
        assert close(value, stepwise.carried[name])


def linear_map(solver, sde, dt):
    """(M, L): a step of a linear equation is M x + L z, with z standard normal."""
    equation, zero = Equation(sde), torch.zeros((), dtype=F64)
    draws = len(solver.draws)
    rows = torch.zeros(2 + 2 * draws, 2, 1, dtype=F64)
    rows[0, 0], rows[1, 1] = 1.0, 1.0
    normals = [torch.zeros_like(rows) for _ in solver.draws]
    for i, z in enumerate(normals):
        z[2 + 2 * i, 0], z[3 + 2 * i, 1] = 1.0, 1.0
    w = Increment.of(solver.draws, normals, dt, math.sqrt(dt))
    carried = solver.start(equation, zero, rows)
    made = solver.step(equation, zero, zero + dt, dt, rows, w, *carried)
    end = (made[0] if isinstance(made, tuple) else made)[..., 0]
    return end[:2].T, end[2:].T


def covariance_after(solver, sde, dt, steps):
    m, noise = linear_map(solver, sde, dt)
    p = torch.zeros(2, 2, dtype=F64)
    for _ in range(steps):
        p = m @ p @ m.T + noise @ noise.T
    return p


@pytest.mark.parametrize("share", [0.1, 1.0, 1.9])
def test_baoab_has_the_exact_law_of_q_under_a_harmonic_force(share):
    """At steps up to 0.95 of the longest stable one, 2 / frequency; without chance."""
    dt = share / math.sqrt(STIFFNESS / MASS)
    p = covariance_after(SOLVERS["baoab"], HARMONIC, dt, 4000)
    assert float(p[0, 0]) == pytest.approx(TEMPERATURE / STIFFNESS, rel=1e-11)
    assert abs(float(p[0, 1])) < 1e-11
    other = covariance_after(SOLVERS["quicsort"], HARMONIC, min(dt, 1.0), 4000)
    assert float(other[0, 0]) != pytest.approx(TEMPERATURE / STIFFNESS, rel=1e-9)


@pytest.mark.parametrize(("method", "order"), [("baoab", 2), ("quicsort", 3)])
def test_weak_order_under_a_harmonic_force(method, order):
    """The covariance at time 1 against the closed form of the matrix OU process, without chance."""
    drift = torch.tensor([[0.0, -1.0], [STIFFNESS / MASS, FRICTION]], dtype=F64)
    scale = math.sqrt(2 * FRICTION * TEMPERATURE / MASS)
    exact = MatrixOU(drift, 0.0, torch.tensor([0.0, scale], dtype=F64)).covariance(1.0, 1.0)
    errors = [
        float((covariance_after(SOLVERS[method], HARMONIC, 1 / n, n) - exact).abs().max())
        for n in (16, 32, 64)
    ]
    slope = math.log2(errors[1] / errors[2])
    assert slope > order - 0.1
    assert errors[2] < 1e-4


def test_without_force_quicsort_is_right_to_fifth_order():
    """The covariance over one step, of variance dt, is off by c^2 dt^5 / 600 and less."""
    free = UnderdampedLangevin(
        force=torch.zeros_like, friction=FRICTION, temperature=TEMPERATURE, mass=MASS
    )
    drift = torch.tensor([[0.0, -1.0], [0.0, FRICTION]], dtype=F64)
    scale = math.sqrt(2 * FRICTION * TEMPERATURE / MASS)
    known = MatrixOU(drift, 0.0, torch.tensor([0.0, scale], dtype=F64))
    for dt in (0.05, 0.1, 0.5):
        found = covariance_after(SOLVERS["quicsort"], free, dt, 1)
        assert torch.allclose(found, known.covariance(dt, dt), rtol=0.0, atol=2e-3 * dt**5)


@pytest.mark.parametrize(("method", "order"), [("baoab", 1.0), ("quicsort", 3.0)])
def test_strong_order_in_double_wells(method, order):
    """Weak and strong friction, 4 to 32 steps, against 256 of the third-order method."""
    x = torch.zeros(300, 2, 2, dtype=F64)
    x[:, 0], x[:, 1] = 0.4, -0.3
    best = sk.solve(ANHARMONIC, x, steps=256, method="quicsort", fuse=False).x
    errors = [
        float((sk.solve(ANHARMONIC, x, steps=n, refine=256 // n, method=method, fuse=False).x
               - best).abs().mean())
        for n in (8, 16, 32)
    ]  # fmt: skip
    assert math.log2(errors[0] / errors[2]) / 2 == pytest.approx(order, abs=0.15)
    if method == "quicsort":
        assert errors[2] < 1e-5


@pytest.mark.parametrize("method", ["baoab", "quicsort"])
def test_stationary_law_in_a_double_well(method):
    """20 000 chains of 120 steps: E q^2, E q and E v^2 of the known law, within 4 errors."""
    sde = wells(temperature=0.5)
    end = sk.solve(sde, torch.zeros(10_000, 2, 2), t1=12.0, steps=120, method=method, seed=5).x
    q, v = (part.double().flatten() for part in end.unbind(1))
    x, p = double_well()
    assert covers(q**2, float(p @ x**2))
    assert covers(q, 0.0)
    if method == "quicsort":
        assert covers(v**2, 0.5)


def test_baoab_takes_one_force_a_step():
    calls = []

    def force(q):
        calls.append(1)
        return -q

    sde = UnderdampedLangevin(force=force)
    sol = sk.solve(sde, torch.ones(3, 2, 2), steps=10, method="baoab", fuse=False)
    assert len(calls) <= 10 + 4  # one for the start, three where the equation was looked at
    assert torch.equal(sol.carried["force"], -sol.x[:, 0])


@pytest.mark.parametrize("method", ["baoab", "quicsort"])
def test_samples_of_their_own_times(method):
    x0 = torch.linspace(-1, 1, 12, dtype=F64).view(3, 2, 2)
    t1, steps = torch.tensor([0.5, 1.0, 1.5], dtype=F64), torch.tensor([5, 8, 3])
    many = sk.solve(ANHARMONIC, x0, t1=t1, steps=steps, method=method, fuse=False).x
    for i in range(3):
        one = sk.solve(ANHARMONIC, x0[i : i + 1], t1=float(t1[i]), steps=int(steps[i]),
                       first_sample=i, method=method, fuse=False).x  # fmt: skip
        assert torch.allclose(many[i], one[0], atol=1e-12)


@pytest.mark.parametrize("method", ["baoab", "quicsort"])
def test_parameters_that_do_not_fit_the_positions_are_refused(method):
    sde = UnderdampedLangevin(torch.square, friction=torch.ones(2))
    with pytest.raises(ValueError, match="UnderdampedLangevin has parameters for events of shape"):
        sk.solve(sde, torch.ones(5, 2, 1), steps=2, method=method)


def test_frictionless_motion_keeps_its_energy():
    """Friction 0 is velocity Verlet, and a third-order method for the ODE."""
    sde = UnderdampedLangevin(lambda q: 1 - torch.cos(q), friction=0.0)
    x0 = torch.tensor([[[0.5], [0.3]]], dtype=F64)
    start = float(sde.energy(x0))
    for method, bound in (("baoab", 2e-4), ("quicsort", 1e-4)):
        x = sk.solve(sde, x0, t1=20.0, steps=400, method=method, fuse=False).x
        assert float(sde.energy(x)) == pytest.approx(start, abs=bound)


def test_quicsort_in_float32_is_as_good_as_float32():
    """Its coefficients subtract nothing that is nearly equal, however short the step."""
    x0 = torch.linspace(-1, 1, 80).view(20, 2, 2)
    errors = []
    for dtype in (torch.float32, torch.float64):
        path = Brownian((20, 2, 2), seed=2, dtype=torch.float64)
        w = path.over(0, 1e-3, ("dw", "h", "k"))
        w = w._replace(**{n: getattr(w, n).to(dtype) for n in ("dw", "h", "k")})
        zero = torch.zeros((), dtype=dtype)
        errors.append(
            SOLVERS["quicsort"].step(Equation(ANHARMONIC), zero, zero + 1e-3, 1e-3, x0.to(dtype), w)
        )
    assert float((errors[0].double() - errors[1]).abs().max()) < 2e-7
