"""What follows a path: functionals, stop conditions, antithetic pairs, times of its own."""

from __future__ import annotations

import math

import pytest
import torch

import sdekit as sk
from tests.solve.paths import OU, X0, Plain, both, close

FUNCTIONALS = dict(
    top=sk.Maximum(lambda t, x: x[:, 0]),
    low=sk.Minimum(lambda t, x: x.sum(-1)),
    area=sk.TimeIntegral(lambda t, x: t * x),
    hit=sk.FirstPassage(lambda t, x: x[:, 1], 0.8),
    sink=sk.FirstPassage(lambda t, x: x[:, 0], -0.4, direction="down"),
)


AREA = sk.TimeIntegral(lambda t, x: t[:, None] * x)  # where each sample has its own times


def test_functionals_stop_and_pairs():
    arguments = dict(
        functionals=FUNCTIONALS,
        stop=lambda t, x: x[:, 0] > 1.0,
        antithetic=True,
        save_at=[0.0, 0.3, 0.333, 1.0],
        first_sample=7,
    )
    fused, stepwise = both(sk.OU(**OU), **arguments)
    assert close(fused.x, stepwise.x)
    assert torch.equal(fused.status, stepwise.status) and 0 < (fused.status == 2).sum() < 150
    assert close(fused.stop_time, stepwise.stop_time)
    for name, value in stepwise.functionals.items():
        assert close(fused.functionals[name], value), name
    assert fused.functionals["area"].shape == (150, 2)
    # What stopped stands still, and its functionals with it.
    stopped = fused.status == 2
    assert (fused.x[-1][stopped, 0] > 1.0).all() and (fused.stop_time[stopped] <= 1.0).all()
    early = stopped & (fused.stop_time < 0.3)
    assert torch.equal(fused.x[1][early], fused.x[3][early])
    assert torch.isinf(fused.stop_time[~stopped]).all()


def test_functionals_have_their_meaning():
    """On dx = x dt they are known: x = e^t, its integral, extremes and the time of level 2."""
    growth = Plain(lambda t, x: x, lambda t, x: torch.zeros_like(x), deterministic=True)
    x0 = torch.ones(3, 1, dtype=torch.float64)
    values = dict(
        area=sk.TimeIntegral(lambda t, x: x[:, 0]),
        clock=sk.TimeIntegral(lambda t, x: 2 * t * torch.ones_like(x[:, 0])),
        top=sk.Maximum(lambda t, x: x[:, 0]),
        low=sk.Minimum(lambda t, x: x[:, 0]),
        hit=sk.FirstPassage(lambda t, x: x[:, 0], 2.0),
        never=sk.FirstPassage(lambda t, x: x[:, 0], 9.0),
        at_once=sk.FirstPassage(lambda t, x: x[:, 0], 0.5),
    )
    sol = sk.solve(growth, x0, steps=1000, method="heun", functionals=values)
    assert sol.stats.path == "trajectory_kernel"
    found = {name: float(v[0]) for name, v in sol.functionals.items()}
    # Trapezoidal rule and linear interpolation: errors of order dt^2 = 1e-6.
    assert found["area"] == pytest.approx(math.e - 1, abs=2e-6)
    assert found["clock"] == pytest.approx(1.0, abs=1e-9)
    assert found["top"] == pytest.approx(math.e, abs=2e-6) and found["low"] == 1.0
    assert found["hit"] == pytest.approx(math.log(2), abs=2e-6)
    assert found["never"] == math.inf and found["at_once"] == 0.0


def test_a_functional_of_ones_own():
    class Crossings(sk.Functional):
        """How often a path changes sign."""

        def start(self, t, x):
            return torch.zeros_like(x[:, 0])

        def update(self, value, t, t_next, dt, x, x_next):
            return value + (x[:, 0] * x_next[:, 0] < 0).to(x.dtype)

    fused, stepwise = both(sk.OU(**OU), functionals={"n": Crossings()})
    assert torch.equal(fused.functionals["n"], stepwise.functionals["n"])
    assert fused.functionals["n"].max() > 3


def test_a_functional_whose_shape_changes_is_refused():
    class Wrong(sk.Functional):
        def __init__(self, first):
            self.first = first

        def start(self, t, x):
            return self.first(t, x)

        def update(self, value, t, t_next, dt, x, x_next):
            return value + x_next[:, :1]  # (B,) + (B, 1) is (B, B)

    starts = {
        "starts with shape \\(150,\\), but": lambda t, x: torch.zeros_like(x[:, 0]),
        "got 0.0": lambda t, x: 0.0,
        "got \\(4,\\)": lambda t, x: torch.zeros(4),
    }
    for message, start in starts.items():
        with pytest.raises(ValueError, match=message):
            sk.solve(sk.OU(**OU), X0, steps=3, functionals={"w": Wrong(start)})


def test_functionals_of_a_state_of_16_bits_keep_float32():
    """Clocks: a sum of 2000 steps of 1/2000 in bfloat16 would stay at 1/4."""
    values = dict(
        area=sk.TimeIntegral(lambda t, x: torch.ones_like(x[:, 0])),
        hit=sk.FirstPassage(lambda t, x: t * torch.ones(2), 0.777),
    )
    x0 = torch.zeros(2, 1, dtype=torch.bfloat16)
    sol = sk.solve(
        sk.OU(**OU), x0, steps=2000, functionals=values, stop=lambda t, x: t * torch.ones(2) > 0.9
    )
    assert sol.x.dtype == torch.bfloat16 and sol.stop_time.dtype == torch.float32
    assert sol.functionals["area"][0].item() == pytest.approx(0.9005, abs=6e-5)  # 2000 roundings
    assert sol.functionals["hit"][0].item() == pytest.approx(0.777, abs=1e-5)
    assert sol.stop_time.tolist() == pytest.approx([0.9005] * 2, abs=1e-6)


def test_levels_on_the_component_axis_and_one_a_path():
    levels = torch.tensor([0.2, 0.4, 0.6])
    own = torch.linspace(0.0, 1.0, 150)
    values = dict(
        many=sk.FirstPassage(lambda t, x: x[:, :1], levels),
        own=sk.FirstPassage(lambda t, x: x[:, 0], own),
        one=sk.FirstPassage(lambda t, x: x[:, 0], 0.4),
    )
    fused, stepwise = both(sk.OU(**OU), functionals=values, steps=20)
    assert fused.functionals["many"].shape == (150, 3)
    assert torch.equal(fused.functionals["many"][:, 1], fused.functionals["one"])
    for name, value in stepwise.functionals.items():
        assert close(fused.functionals[name], value), name


def test_backwards_in_time():
    """An ODE from 1 to 0 with everything that a solve can carry."""
    ode = Plain(lambda t, x: -x * t, lambda t, x: torch.zeros_like(x), deterministic=True)
    fused, stepwise = both(
        ode,
        t0=1.0,
        t1=0.0,
        steps=50,
        method="heun",
        save_at=[0.9, 0.511, 0.5, 0.0],
        functionals={"area": sk.TimeIntegral(lambda t, x: x)},
        stop=lambda t, x: x[:, 1] > 1.2,
    )
    assert close(fused.x, stepwise.x) and torch.equal(fused.status, stepwise.status)
    assert 0 < (fused.status == 2).sum() < 150
    assert close(fused.functionals["area"], stepwise.functionals["area"])


@pytest.mark.parametrize("batch", [1, 2, 150])
def test_each_sample_its_own_times(batch):
    n = torch.arange(batch) % 37 + 1
    t0 = torch.linspace(0.0, 1.0, batch)
    t1 = t0 + 0.3 + torch.arange(batch) / 100
    fused, stepwise = both(
        sk.OU(**OU), X0[:batch], t0=t0, t1=t1, steps=n, functionals={"area": AREA}
    )
    assert close(fused.x, stepwise.x)
    assert close(fused.functionals["area"], stepwise.functionals["area"])
    assert torch.allclose(fused.t, t1.double()) and fused.stats.steps == int(n.max())
    i = batch - 1
    alone = sk.solve(
        sk.OU(**OU), X0[i : i + 1], float(t0[i]), float(t1[i]), int(n[i]), first_sample=i
    )
    assert close(fused.x[i], alone.x[0])


def test_own_times_with_a_stop_condition():
    t1 = torch.linspace(0.5, 1.5, 150)
    fused, stepwise = both(sk.OU(**OU), t1=t1, steps=20, stop=lambda t, x: x[:, 0] > 0.9)
    assert close(fused.x, stepwise.x) and torch.equal(fused.status, stepwise.status)
    assert (fused.stop_time[fused.status == 2] <= t1[fused.status == 2] + 1e-6).all()


def test_what_a_functional_starts_with_may_require_a_gradient():
    class Weighted(sk.Functional):
        """w x_0, plus the states that follow."""

        def start(self, t, x):
            return theta[0] * x[:, 0]

        def update(self, value, t, t_next, dt, x, x_next):
            return value + x_next[:, 0]

    theta = torch.tensor([2.0], requires_grad=True)
    sol = sk.solve(sk.OU(**OU), X0, steps=4, functionals={"w": Weighted()})
    assert "gradient" in sol.stats.reason
    sol.functionals["w"].sum().backward()
    assert theta.grad.item() == pytest.approx(X0[:, 0].sum().item(), rel=1e-5)
