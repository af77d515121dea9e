"""What the table of orders does not see of the Stratonovich methods and of the one for ODEs."""

from __future__ import annotations

import math

import pytest
import torch

import sdekit as sk
from sdekit.noise.brownian import Brownian
from sdekit.noise.increment import Increment
from sdekit.sde import to_stratonovich
from sdekit.solvers import SOLVERS, Equation
from tests.solve.paths import both, close

F64 = torch.float64
X0 = torch.linspace(0.2, 1.2, 300).view(150, 2)


class Noncommuting:
    """Two components, M Brownian motions whose fields do not commute."""

    noise_type, interpretation = "general", "stratonovich"

    def __init__(self, m=2):
        self.m = m

    def drift(self, t, x):
        return torch.sin(x) - x

    def diffusion(self, t, x):
        a, b = x.unbind(1)
        fields = [(0.3 + 0 * a, 0.5 * a), (0.4 * torch.sin(b), 0.2 + 0.3 * a), (0.1 * b, 0.2 * a)]
        return torch.stack([torch.stack(f, 1) for f in fields[: self.m]], 2)


class Elementwise:
    """dx_i = sin x_i dt + (1 + t) cos(x_i) / 2 o dW_i, written in each noise type."""

    interpretation = "stratonovich"

    def __init__(self, noise_type="diagonal"):
        self.noise_type = noise_type

    def drift(self, t, x):
        return torch.sin(x)

    def diffusion(self, t, x):
        g = 0.5 * torch.cos(x) * sk.sde.expand(1 + t, x)
        return torch.diag_embed(g) if self.noise_type == "general" else g


class Pendulum:
    deterministic = True

    def drift(self, t, x):
        q, v = x.unbind(1)
        return torch.stack([v, torch.cos(t) - torch.sin(q)], 1)

    def diffusion(self, t, x):
        return torch.zeros(())


def over(method, sde, x, path, n, fine, t1=1.0):
    """The method's last state over n steps of a path that is known on ``fine`` ones."""
    solver, equation = SOLVERS[method], Equation(sde)
    times = torch.linspace(0, t1, n + 1, dtype=F64)
    carried = solver.start(equation, times[0], x)
    for k in range(n):
        w = path.over(k, t1 / n, solver.draws, fine // n)
        made = solver.step(equation, times[k], times[k + 1], t1 / n, x, w, *carried)
        x, *carried = made if isinstance(made, tuple) else (made,)
    return x


@pytest.mark.parametrize(
    ("method", "sde"),
    [
        ("midpoint", Elementwise("diagonal")),
        ("euler_heun", Elementwise("scalar")),
        ("reversible_heun", Elementwise("general")),
        ("milstein_area", Noncommuting(1)),
        ("milstein_area", Noncommuting(2)),
        ("rk4", Pendulum()),
    ],
    ids=lambda v: v if isinstance(v, str) else type(v).__name__,
)
def test_one_kernel_equals_step_by_step(method, sde):
    assert sk.explain(sde, method, x0=X0).name == "trajectory_kernel"
    fused, stepwise = both(sde, X0, t1=0.7, steps=40, method=method)
    assert close(fused.x, stepwise.x)


def test_reversible_heun_steps_back_to_the_start():
    """100 steps there and back: off by rounding, as it grows along the way."""
    solver = SOLVERS["reversible_heun"]
    for noise_type in ("diagonal", "scalar", "general"):
        equation, n = Equation(Elementwise(noise_type)), 100
        x = y = start = X0.double()
        path = Brownian(equation.channels(torch.zeros((), dtype=F64), x), dtype=F64)
        times = torch.linspace(0, 1, n + 1, dtype=F64)
        steps = [path.over(k, 1 / n, ("dw",)) for k in range(n)]
        for k, w in enumerate(steps):
            x, y = solver.step(equation, times[k], times[k + 1], w.dt, x, w, y)
        assert float((x - start).abs().max()) > 0.1
        for k, w in reversed(list(enumerate(steps))):
            back = Increment(-w.dt, -w.dw)
            x, y = solver.step(equation, times[k + 1], times[k], back.dt, x, back, y)
        assert float((x - start).abs().max()) < 1e-13
        assert float((y - start).abs().max()) < 1e-13


def test_heun_does_not_step_back():
    """What the test above would say of a method that is not reversible."""
    equation, x = Equation(Elementwise()), X0.double()
    w = Brownian(tuple(x.shape), dtype=F64).over(0, 0.1, ("dw",))
    t, t_next = torch.zeros((), dtype=F64), torch.full((), 0.1, dtype=F64)
    there = SOLVERS["heun"].step(equation, t, t_next, w.dt, x, w)
    back = SOLVERS["heun"].step(equation, t_next, t, -w.dt, there, Increment(-w.dt, -w.dw))
    assert float((back - x).abs().max()) > 1e-5


def test_levy_areas_give_order_one_where_noise_does_not_commute():
    """Slope of the mean error over 4 to 32 steps, against 256: 1 for Milstein, 1/2 for midpoint.

    The error of the reference itself, 1/8 of the last, steepens the slope by 0.07 at most.
    """
    path, fine, levels = Brownian((500, 2), seed=4, dtype=F64), 256, (4, 8, 16, 32)
    x = torch.full((500, 2), 0.7, dtype=F64)
    best = over("milstein_area", Noncommuting(), x, path, fine, fine)
    slopes = {}
    for method in ("milstein_area", "midpoint"):
        errors = [
            float((over(method, Noncommuting(), x, path, n, fine) - best).abs().mean())
            for n in levels
        ]
        slopes[method] = math.log2(errors[0] / errors[-1]) / (len(levels) - 1)
    assert slopes["milstein_area"] == pytest.approx(1.0, abs=0.12)
    assert slopes["midpoint"] < 0.75


def test_wrong_sign_of_the_area_loses_the_order():
    """The convention J_jk = dW_j dW_k / 2 + area_jk is the noise module's, not its transpose."""

    class Turned(Brownian):
        def over(self, *a):
            w = super().over(*a)
            return w._replace(area=None if w.area is None else -w.area)

    x, fine = torch.full((500, 2), 0.7, dtype=F64), 128
    right, wrong = (kind((500, 2), seed=4, dtype=F64) for kind in (Brownian, Turned))
    best = over("milstein_area", Noncommuting(), x, right, fine, fine)
    errors = [
        float((over("milstein_area", Noncommuting(), x, p, 32, fine) - best).abs().mean())
        for p in (right, wrong)
    ]
    assert errors[1] > 3 * errors[0]


def test_areas_do_not_matter_where_noise_commutes():
    """Diagonal noise as a matrix: the step is x + f dt + g dW + g g' dW^2 / 2."""
    x, equation = X0.double(), Equation(Elementwise("general"))
    t, t_next = torch.zeros((), dtype=F64), torch.full((), 0.1, dtype=F64)
    w = Brownian((150, 2), dtype=F64).over(0, 0.1, ("dw", "h", "area"))
    found = SOLVERS["milstein_area"].step(equation, t, t_next, 0.1, x, w)
    g, slope = 0.5 * torch.cos(x), -0.5 * torch.sin(x)
    assert torch.allclose(
        found, x + 0.1 * torch.sin(x) + g * w.dw + 0.5 * g * slope * w.dw**2, atol=1e-15
    )


def test_one_ito_equation_in_its_stratonovich_form():
    """GBM, whose solution is known: strong order 1 through ``to_stratonovich``."""
    sde = sk.GBM(0.3, 0.8)
    path, x = Brownian((2000, 1), seed=2, dtype=F64), torch.ones(2000, 1, dtype=F64)
    exact = sde.exact(0.0, 1.0, x, path.over(0, 1.0, ("dw",), 128).dw)
    form = to_stratonovich(sde)
    for method in ("midpoint", "euler_heun", "reversible_heun"):
        ends = [over(method, form, x, path, n, 128) for n in (8, 128)]
        errors = [float((end - exact).abs().mean()) for end in ends]
        assert math.log2(errors[0] / errors[1]) / 4 == pytest.approx(1.0, abs=0.15)


def test_a_diffusion_without_derivative_is_refused():
    class Hidden(Noncommuting):
        def diffusion(self, t, x):
            return torch.diag_embed(torch.from_numpy(x.numpy().copy()))

    with pytest.raises(ValueError, match=r"'milstein_area' cannot take Hidden: .* no forward-mode"):
        sk.solve(Hidden(), X0, steps=2, method="milstein_area")
    assert "auto took 'heun'" in sk.solve(Hidden(), X0, steps=2, method="auto").stats.reason


def test_rk4_has_order_four():
    x = torch.tensor([[0.3, 1.2]], dtype=F64)
    ends = [
        sk.solve(Pendulum(), x, t1=2.0, steps=n, method="rk4", fuse=False).x
        for n in (16, 32, 64, 128, 2048)
    ]
    errors = [float((end - ends[-1]).abs().max()) for end in ends[:-1]]
    assert math.log2(errors[-2] / errors[-1]) == pytest.approx(4.0, abs=0.1)
    assert errors[-1] < 1e-8


def test_rk4_runs_backwards_and_between_grid_times():
    x = torch.tensor([[0.3, 1.2]], dtype=F64)
    there = sk.solve(Pendulum(), x, t1=2.0, steps=400, method="rk4", save_at=[0.7, 1.0051, 2.0])
    half = sk.solve(Pendulum(), x, t1=1.0051, steps=400, method="rk4")
    assert torch.allclose(there.x[1], half.x, atol=1e-9)
    back = sk.solve(Pendulum(), there.x[-1], t0=2.0, t1=0.0, steps=400, method="rk4")
    assert torch.allclose(back.x, x, atol=1e-8)


def test_auto_takes_rk4_for_odes_and_rk4_refuses_noise():
    assert sk.solve(Pendulum(), X0, method="auto").stats.method == "rk4"
    with pytest.raises(ValueError, match=r"'rk4' takes .* no noise; OU is ito with additive noise"):
        sk.solve(sk.OU(), X0, method="rk4")
