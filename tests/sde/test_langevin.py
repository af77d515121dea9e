"""Langevin dynamics, with velocities and without: balance, forces from potentials, what traces."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.func import hessian, jacrev, vmap

import sdekit as sk
from sdekit.sde import DoubleWell, Langevin, MatrixOU, UnderdampedLangevin

DOUBLE = torch.float64
T0 = torch.tensor(0.0, dtype=DOUBLE)
WELL = DoubleWell(1.5, 0.4)


def harmonic(q):
    """One energy a sample."""
    return 0.5 * q.square().flatten(1).sum(1) if q.ndim > 1 else 0.5 * q.square()


def coupled(q):
    a, b = q.unbind(1)
    return torch.cos(a * b) + 0.25 * (a - b).square() ** 2


def states(*shape):
    return torch.sin(torch.arange(1.0, math.prod(shape) + 1.0, dtype=DOUBLE)).view(shape) * 1.3


@pytest.mark.parametrize("potential", [harmonic, WELL.potential, coupled])
def test_force_is_minus_the_gradient(potential):
    q = states(5, 2).requires_grad_()
    (slope,) = torch.autograd.grad(potential(q).sum(), q)
    for sde in (Langevin(potential), UnderdampedLangevin(potential)):
        torch.testing.assert_close(sde.force(q), -slope)
        total = potential(q).flatten(1).sum(1) if potential(q).ndim > 1 else potential(q)
        torch.testing.assert_close(sde.potential(q), total)
        with torch.no_grad():
            torch.testing.assert_close(sde.force(q), -slope)


def test_a_potential_and_its_force_are_one_equation():
    x = states(5, 2, 3)
    by_potential = UnderdampedLangevin(WELL.potential, mass=2.0, friction=0.7)
    by_force = UnderdampedLangevin(force=WELL.force, mass=2.0, friction=0.7)
    torch.testing.assert_close(by_potential.drift(T0, x), by_force.drift(T0, x))
    q = x[:, 0]
    torch.testing.assert_close(Langevin(WELL.potential).drift(T0, q), WELL.drift(T0, q))
    one = Langevin(WELL.potential, temperature=0.4)
    torch.testing.assert_close(one.log_density(q), WELL.log_density(q))
    torch.testing.assert_close(one.diffusion(T0, q), WELL.diffusion(T0, q))


def test_overdamped_balance():
    """No flux: f = (g^2 / 2) grad log p."""
    sde, x = Langevin(coupled, temperature=torch.tensor(0.4, dtype=DOUBLE)), states(5, 2)
    score = vmap(jacrev(lambda y: sde.log_density(y[None])[0]))(x)
    torch.testing.assert_close(sde.drift(T0, x), 0.5 * sde.diffusion(T0, x) ** 2 * score)


@pytest.mark.parametrize("mass", [0.7, [0.5, 2.0]])
@pytest.mark.parametrize("friction", [0.0, 1.3, [0.4, 2.0]])
def test_underdamped_balance(mass, friction):
    """Fokker and Planck: -div f - f . s + g^2 / 2 (div_v s + |s_v|^2) = 0, s = grad log p."""
    sde = UnderdampedLangevin(coupled, friction=friction, temperature=0.6, mass=mass)
    variance = sde.diffusion(T0, states(1, 2, 2)).expand(1, 2, 2)[0] ** 2

    def rate(x):
        def log_density(y):
            return sde.log_density(y[None])[0]

        f = sde.drift(T0, x[None])[0]
        div = jacrev(lambda y: sde.drift(T0, y[None])[0])(x).reshape(4, 4).trace()
        s = jacrev(log_density)(x)
        curvature = hessian(log_density)(x).reshape(4, 4).diagonal().view(2, 2)
        return -div - (f * s).sum() + 0.5 * (variance * (curvature + s * s)).sum()

    x = states(6, 2, 2)
    rates = torch.stack([rate(one) for one in x])
    torch.testing.assert_close(rates, torch.zeros(6, dtype=DOUBLE), rtol=0, atol=1e-12)


def test_energy_and_log_density():
    sde = UnderdampedLangevin(harmonic, temperature=0.5, mass=[1.0, 2.0, 4.0])
    x = states(4, 2, 3)
    mass = torch.tensor([1.0, 2.0, 4.0], dtype=DOUBLE)
    want = 0.5 * (x[:, 0] ** 2 + mass * x[:, 1] ** 2).sum(1)
    torch.testing.assert_close(sde.energy(x), want)
    torch.testing.assert_close(sde.log_density(x), -2.0 * want)
    flat = UnderdampedLangevin(harmonic)
    torch.testing.assert_close(flat.energy(x[:, :, 0]), flat.energy(x[:, :, :1]))


def test_paths_have_the_law_of_the_linear_equation():
    """A harmonic well is an Ornstein-Uhlenbeck process of two components."""
    friction, temperature, mass, paths = 0.8, 0.5, 2.0, 50_000
    sde = UnderdampedLangevin(harmonic, friction=friction, temperature=temperature, mass=mass)
    scale = math.sqrt(2 * friction * temperature / mass)
    exact = MatrixOU([[0.0, -1.0], [1 / mass, friction]], sigma=[[0.0], [scale]])
    x0 = torch.tensor([1.0, -0.5])
    run = sk.ensemble(sde, x0, paths=paths, t1=2.0, steps=400, seed=3, covariance=True)
    law = exact.marginal(2.0, x0[None].double())
    assert ((run.mean - law.mean).abs() < 4 * run.std_error + 3e-3).all()  # Euler: dt = 1/200
    spread = law.std[0][:, None] * law.std[0]
    assert ((run.cov[0] - law.cov[0]).abs() < spread * (4 * math.sqrt(2 / paths) + 1e-2)).all()
    late = exact.stationary_cov  # equipartition: <q^2> = T, <v^2> = T / m
    torch.testing.assert_close(late, torch.tensor([0.5, 0.25], dtype=DOUBLE).diag())


TRACED = [
    (Langevin(WELL.potential), states(6, 3)),
    (Langevin(harmonic), states(6, 3)),
    (Langevin(coupled), states(6, 2)),
    (DoubleWell(), states(6, 3)),
    (UnderdampedLangevin(WELL.potential), states(6, 2, 3)),
    (UnderdampedLangevin(harmonic, friction=torch.tensor(0.5), mass=[1.0, 2.0]), states(6, 2, 2)),
    (UnderdampedLangevin(coupled), states(6, 2, 2)),
    (UnderdampedLangevin(force=torch.sin), states(6, 2)),
]


@pytest.mark.parametrize(("sde", "x0"), TRACED)
def test_all_take_the_trajectory_kernel(sde, x0):
    path = sk.explain(sde, x0=x0.float())
    assert path.name == "trajectory_kernel", path.reason
    assert sk.explain(sde, "heun", x0=x0.float()).name == "trajectory_kernel"


def test_kernel_equals_single_steps():
    sde = UnderdampedLangevin(coupled, mass=[1.0, 2.0])
    x0 = states(20, 2, 2).float()
    fused, stepwise = (sk.solve(sde, x0, steps=50, seed=1, fuse=f).x for f in (True, False))
    torch.testing.assert_close(fused, stepwise, rtol=1e-5, atol=1e-5)


def test_gradients_pass_through_the_force():
    class Learned(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.k = torch.nn.Parameter(torch.tensor(2.0, dtype=DOUBLE))

        def forward(self, q):
            return 0.5 * self.k * q.square().sum(1)

    net, q = Learned(), states(4, 2)
    Langevin(net).drift(T0, q).sum().backward()
    torch.testing.assert_close(net.k.grad, -q.sum())


def test_shapes_and_empty_batches():
    sde = UnderdampedLangevin(WELL.potential, mass=[1.0, 2.0, 3.0])
    assert sde.diffusion(T0, states(4, 2, 3)).shape == (1, 2, 3)
    assert UnderdampedLangevin(harmonic).diffusion(T0, states(4, 2, 3, 2)).shape == (1, 2, 1, 1)
    assert UnderdampedLangevin(harmonic).diffusion(T0, states(4, 2)).tolist() == [[0.0, 2**0.5]]
    for x in (states(4, 2, 3)[:0], states(4, 2, 3).float()):
        drift = sde.drift(T0, x)
        assert drift.shape == x.shape and drift.dtype == x.dtype
        assert sde.diffusion(T0, x).dtype == x.dtype
        assert sde.energy(x).shape == x.shape[:1]


class Backless(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q):
        return q.square().sum(1)


BAD = [
    (lambda: Langevin(), TypeError, "needs a potential or a force: write Langevin"),
    (lambda: UnderdampedLangevin(3.0), TypeError, "potential must be a function"),
    (lambda: Langevin(force=torch.ones(2)), TypeError, "force must be a function"),
    (lambda: Langevin(harmonic, temperature=0.0), ValueError, "temperature must be above 0"),
    (lambda: Langevin(harmonic, temperature=[1.0, 2.0]), TypeError, "must be one number"),
    (lambda: UnderdampedLangevin(harmonic, mass=0.0), ValueError, "mass must be above 0"),
    (
        lambda: UnderdampedLangevin(harmonic, friction=-1.0),
        ValueError,
        "friction must be 0 or more",
    ),
    (
        lambda: UnderdampedLangevin(harmonic).drift(T0, states(4, 3)),
        ValueError,
        r"shape \(B, 2, D...\), got \(4, 3\): write torch.stack",
    ),
    (
        lambda: UnderdampedLangevin(harmonic, mass=[1.0, 2.0]).drift(T0, states(4, 2, 3)),
        ValueError,
        "they must agree",
    ),
    (lambda: Langevin(force=torch.sin).log_density(states(4, 2)), TypeError, "a force alone"),
    (
        lambda: Langevin(force=lambda q: q[:, 0]).drift(T0, states(4, 2)),
        ValueError,
        "force returned",
    ),
    (lambda: Langevin(lambda q: 1.0).drift(T0, states(4, 2)), TypeError, "must return a tensor"),
    (lambda: Langevin(torch.sum).drift(T0, states(4, 2)), ValueError, "one energy a sample"),
    (
        lambda: Langevin(lambda q: torch.from_numpy(np.cos(q.numpy()))).force(states(4, 2)),
        TypeError,
        "the potential of Langevin has no gradient .* give the force itself",
    ),
    (lambda: Langevin(Backless.apply).force(states(4, 2)), TypeError, "setup_context and backward"),
    (lambda: Langevin(harmonic).drift(T0, [1.0]), TypeError, "torch.as_tensor"),
]


@pytest.mark.parametrize(("call", "error", "says"), BAD)
def test_bad_input_says_what_is_needed(call, error, says):
    with pytest.raises(error, match=says):
        call()


def test_an_error_of_the_potential_itself_is_not_hidden():
    with pytest.raises(RuntimeError, match="must match the size"):
        Langevin(lambda q: (q * torch.ones(7)).sum(1)).force(states(4, 2))
