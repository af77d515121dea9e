"""The Metropolis-adjusted Langevin algorithm keeps its law, at steps at which nothing else does."""

from __future__ import annotations

import math

import pytest
import torch
from sdekit_kernels import normal

import sdekit as sk
from sdekit.sde import DoubleWell, Langevin, UnderdampedLangevin
from tests.solve.paths import both, close
from tests.solvers.laws import F64, WELL, covers, double_well

N = 100_000


def test_one_kernel_equals_step_by_step():
    sde, x0 = DoubleWell(**WELL), torch.linspace(-0.5, 1.0, 300).view(150, 2)
    assert sk.explain(sde, "mala", x0=x0).name == "trajectory_kernel"
    fused, stepwise = both(sde, x0, t1=0.7, steps=40, method="mala")
    assert close(fused.x, stepwise.x)
    assert torch.equal(fused.carried["accepted"], stepwise.carried["accepted"])


def drawn_from_the_well():
    """N exact draws, by the inverse of the distribution function."""
    x, p = double_well()
    u = 0.5 * torch.special.erfc(-normal((N,), seed=11, dtype=F64) / math.sqrt(2.0))
    total = p.cumsum(0) - 0.5 * p
    right = torch.searchsorted(total, u).clamp(1, len(x) - 1)
    share = (u - total[right - 1]) / (total[right] - total[right - 1])
    return (x[right - 1] + share * (x[right] - x[right - 1]))[:, None]


@pytest.fixture(scope="module")
def chain():
    """1e5 paths of 10 steps of 0.3 from the exact law."""
    where = dict(t1=3.0, steps=10, seed=1, fuse=False)
    start = drawn_from_the_well()
    return {m: sk.solve(DoubleWell(**WELL), start, method=m, **where)
            for m in ("mala", "euler_maruyama")}  # fmt: skip


@pytest.mark.parametrize(
    "f",
    [lambda x: x, lambda x: x**2, lambda x: x**4, lambda x: (x.abs() < 0.5).to(F64)],
    ids=["x", "x^2", "x^4", "barrier"],
)
def test_mala_keeps_the_law_at_a_big_step(chain, f):
    x, p = double_well()
    assert covers(f(chain["mala"].x[:, 0]), float(p @ f(x)))


def test_without_the_test_the_law_is_lost(chain):
    """Steps of 0.3 under forces of slope 8: Euler's method is far off, if it is finite at all."""
    x, p = double_well()
    end = chain["euler_maruyama"].x[:, 0]
    end = end[end.isfinite()]
    assert not covers(end**2, float(p @ x**2), 20.0)


def test_acceptance_rate_is_that_of_the_integral(chain):
    r"""\int \int pi(x) q(x, y) min(1, pi(y) q(y, x) / (pi(x) q(x, y))), by sums over a grid."""
    dt, temperature, height = 0.3, WELL["temperature"], WELL["height"]
    x, p = (v[::4] for v in double_well())
    p = p / p.sum()
    y = torch.linspace(-12.0, 12.0, 4801, dtype=F64)

    def log_pi(x):
        return -height * (x**2 - 1) ** 2 / temperature

    def log_q(x, y):
        mean = x - dt * 4 * height * x * (x**2 - 1)
        return -((y - mean) ** 2) / (4 * temperature * dt)

    a, b = x[:, None], y[None]
    there = torch.exp(log_q(a, b)) * float(y[1] - y[0]) / math.sqrt(4 * math.pi * temperature * dt)
    ratio = log_pi(b) + log_q(b, a) - log_pi(a) - log_q(a, b)
    rate = float((p[:, None] * there * ratio.clamp(max=0.0).exp()).sum())
    assert 0.2 < rate < 0.8
    accepted = chain["mala"].carried["accepted"]
    assert accepted.shape == (N,)
    assert covers(accepted.to(F64) / 10, rate)


def test_mala_counts_and_stays_where_it_refuses():
    one = sk.solve(DoubleWell(**WELL), drawn_from_the_well()[:1000], t1=0.3, steps=1,
                   method="mala", save_at=[0.0, 0.3], fuse=False)  # fmt: skip
    moved = (one.x[0] != one.x[1])[:, 0]
    assert torch.equal(moved.to(F64), one.carried["accepted"])
    assert 0.0 < float(moved.double().mean()) < 1.0


def test_mala_takes_the_langevin_equations_alone():
    moving = UnderdampedLangevin(lambda q: q**2)
    with pytest.raises(ValueError, match=r"its drift must be its force"):
        sk.solve(moving, torch.ones(3, 2, 2), method="mala")
    with pytest.raises(ValueError, match="'mala' needs an equation with force"):
        sk.solve(sk.OU(), torch.ones(3, 2), method="mala")
    same = Langevin(lambda x: (x**2 - 1) ** 2, temperature=0.5)
    x0 = torch.linspace(-1, 1, 40, dtype=F64).view(20, 2)
    one, other = (sk.solve(s, x0, steps=20, method="mala", fuse=False)
                  for s in (same, DoubleWell(**WELL)))  # fmt: skip
    assert torch.allclose(one.x, other.x, atol=1e-12)


def test_mala_takes_one_force_and_one_density_a_step():
    """What is carried is that of the state, whether the last proposal was taken or refused."""
    calls = {"force": 0, "potential": 0}

    def force(x):
        calls["force"] += 1
        return -4.0 * x * (x.square() - 1.0)

    def potential(x):
        calls["potential"] += 1
        return (x.square() - 1.0).square()

    sde = Langevin(potential, force=force, temperature=0.5)
    x0 = torch.linspace(-1.5, 1.5, 40, dtype=F64).view(20, 2)
    sol = sk.solve(sde, x0, t1=9.0, steps=30, method="mala", fuse=False)
    assert calls["force"] <= 30 + 5  # beside the steps: the start, and looks at the equation
    assert calls["potential"] <= 30 + 2
    rate = sol.carried["accepted"] / 30
    assert 0.05 < float(rate.mean()) < 0.95
    assert torch.equal(sol.carried["force"], force(sol.x))
    assert torch.equal(sol.carried["log_density"], sde.log_density(sol.x))
