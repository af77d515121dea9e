"""How long a step may be: known regions of stability, and the warning of a solve."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch

import sdekit as sk
from sdekit.solvers import SOLVERS, Equation
from sdekit.solvers.linearized import look
from sdekit.solvers.stability import StabilityWarning, largest_stable_step, mean_square_factor

PLAIN = [pytest.param(s, id=s.name) for s in SOLVERS.values() if not s.needs]
"""Every method that takes dx = lambda x dt; a new one needs no line here."""


class Linear:
    """dx = -x dt + mu x dW of one component, in the method's own interpretation."""

    def __init__(self, solver, mu=0.0):
        self.mu, self.deterministic = mu, mu == 0.0
        self.interpretation = "ito" if "ito" in solver.interpretations else "stratonovich"
        fits = [n for n in ("scalar", "general") if n in solver.weak_order]
        self.noise_type = fits[0] if mu and fits else "additive"

    def drift(self, t, x):
        return -x

    def diffusion(self, t, x):
        return self.mu * (x[..., None] if self.noise_type == "general" else x)


def end_of(solver, dt, steps, x0, mu=0.0):
    """Where the method's own steps lead."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StabilityWarning)
        sol = sk.solve(
            Linear(solver, mu),
            x0.double(),
            t1=steps * dt,
            steps=steps,
            method=solver.name,
            fuse=False,
            seed=3,
        )
    return sol.x


def close(value, expected):
    """Up to the thousandth to which the step is sought."""
    return math.isclose(value, expected, rel_tol=2e-3)


@pytest.mark.parametrize("solver", PLAIN)
def test_steps_decay_below_the_longest_stable_one_and_grow_above(solver):
    """400 steps of a solve from x = 1, with 0.99 and 1.01 of the length that the table says."""
    longest, one = largest_stable_step(solver, -1.0), torch.ones(1, 1)
    if math.isnan(longest):  # a step that is not linear has no region
        once, twice = (float(end_of(solver, 3.0, 1, c * one)) for c in (1.0, 2.0))
        assert not math.isclose(twice, 2.0 * once, rel_tol=1e-9)
    elif math.isinf(longest):
        assert abs(float(end_of(solver, 1e3, 20, one))) < 1e-12
    elif longest == 0.0:
        assert not abs(float(end_of(solver, 0.2, 400, one))) < 1.0
    else:
        assert abs(float(end_of(solver, 0.99 * longest, 400, one))) < 1.0
        assert not abs(float(end_of(solver, 1.01 * longest, 400, one))) < 1.0


@pytest.mark.parametrize("solver", PLAIN)
def test_longest_step_is_a_root_of_the_stability_polynomial(solver):
    """One step multiplies x by R(z), z = -dt: for explicit methods a polynomial of no more degrees
    than drifts are taken, the exponential's up to the method's order. It is fitted to steps of
    other lengths, and its first |R| = 1 is the longest stable step.
    """
    dt = torch.linspace(0.1, 4.0, 40, dtype=torch.float64)
    made = torch.cat([end_of(solver, h, 1, torch.ones(1, 1))[0] for h in dt.tolist()])
    powers = torch.stack([(-dt) ** j for j in range(solver.drift_evaluations + 1)], 1)
    fitted = torch.linalg.lstsq(powers, made[:, None], driver="gelsd").solution[:, 0]
    longest = largest_stable_step(solver, -1.0)
    if solver.carries or (powers @ fitted - made).abs().max() > 1e-9:
        assert longest == 0.0 or not math.isfinite(longest)
        return
    taylor = [1.0 / math.factorial(j) for j in range(int(solver.ode_order) + 1)]
    assert fitted[: len(taylor)].tolist() == pytest.approx(taylor, abs=1e-8)
    signs = torch.tensor([(-1.0) ** j for j in range(len(fitted))])
    coefficients = (fitted * signs).flip(0).numpy()
    ends = []
    for value in (1.0, -1.0):
        shifted = coefficients.copy()
        shifted[-1] -= value
        roots = np.roots(shifted[np.abs(shifted).cumsum() > 1e-9])
        ends += [r.real for r in roots if abs(r.imag) < 1e-6 and r.real > 1e-3]
    assert close(longest, min(ends))


@pytest.mark.parametrize("rate", [-0.5, -40.0])
@pytest.mark.parametrize("solver", PLAIN)
def test_longest_step_scales_with_the_rate(solver, rate):
    one, other = largest_stable_step(solver, -1.0), largest_stable_step(solver, rate)
    assert close(other, one / -rate) or (math.isnan(one) and math.isnan(other))


@pytest.mark.parametrize("solver", PLAIN)
def test_mean_square_factor_is_that_of_a_step_of_many_paths(solver):
    """E x^2 after one step of 0.7 from x = 1 under dx = -x dt + 0.6 x dW, 2e5 paths: 4 errors."""
    dt, mu = 0.7, 0.6
    factor = mean_square_factor(solver, -dt, mu * dt**0.5)
    if math.isnan(factor) or not {"scalar", "general"} & set(solver.noise_types) or solver.carries:
        return
    square = end_of(solver, dt, 1, torch.ones(200_000, 1), mu).square()[:, 0]
    assert abs(float(square.mean()) - factor) < 4.0 * float(square.std()) / 200_000**0.5


@pytest.mark.parametrize(("rate", "mu"), [(-1.0, 0.0), (-1.0, 0.5), (-2.0, 1.5), (-3.0, 2.0)])
def test_euler_maruyama_under_linear_noise(rate, mu):
    """E R^2 = (1 + l dt)^2 + mu^2 dt < 1 where dt < (2 |l| - mu^2) / l^2 (Higham 2000)."""
    longest = largest_stable_step(SOLVERS["euler_maruyama"], rate, mu)
    assert close(longest, (2 * abs(rate) - mu**2) / rate**2)
    expected = (1 + rate * 0.3) ** 2 + mu**2 * 0.3
    factor = mean_square_factor(SOLVERS["euler_maruyama"], rate * 0.3, mu * 0.3**0.5)
    assert factor == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("rate", "mu"), [(-1.0, 0.5), (-2.0, 1.5)])
def test_milstein_under_linear_noise(rate, mu):
    """E R^2 has mu^4 dt^2 / 2 more: dt < (2 |l| - mu^2) / (l^2 + mu^4 / 2)."""
    longest = largest_stable_step(SOLVERS["milstein"], rate, mu)
    assert close(longest, (2 * abs(rate) - mu**2) / (rate**2 + mu**4 / 2))


def test_implicit_euler_is_stable_for_every_step():
    assert largest_stable_step(SOLVERS["implicit_euler"], -1.0) == math.inf
    # E R^2 = (1 + mu^2 dt) / (1 - l dt)^2.
    factor = mean_square_factor(SOLVERS["implicit_euler"], -3.0, 1.5)
    assert factor == pytest.approx((1 + 1.5**2) / 16.0, rel=1e-12)


def test_complex_rates():
    """|1 + l dt| < 1 where dt < 2 |Re l| / |l|^2."""
    rate = complex(-0.5, 2.0)
    longest = largest_stable_step(SOLVERS["euler_maruyama"], rate)
    assert close(longest, 1.0 / abs(rate) ** 2)


def test_equations_that_are_not_stable_have_no_stable_step():
    for rate, mu in ((0.5, 0.0), (-1.0, 1.5)):
        assert largest_stable_step(SOLVERS["euler_maruyama"], rate, mu) == 0.0


def test_the_warning_says_what_step_is_stable():
    sde, x0 = sk.OU(theta=8.0), torch.ones(3, 1)
    with pytest.warns(StabilityWarning, match=r"longest stable step there is 0\.2498") as caught:
        sk.solve(sde, x0, t1=3.0, steps=10, method="euler_maruyama")
    text = str(caught[0].message)
    assert "'euler_maruyama' with steps of 0.3 is unstable on OU (lambda = -8)" in text


@pytest.mark.parametrize("method", ["euler_maruyama", "milstein", "sra1", "heun", "implicit_euler"])
def test_no_warning_for_stable_steps(method):
    with warnings.catch_warnings():
        warnings.simplefilter("error", StabilityWarning)
        sk.solve(sk.OU(theta=8.0), torch.ones(3, 1), t1=2.0, steps=10, method=method)


def test_no_warning_where_the_equation_grows_itself():
    with warnings.catch_warnings():
        warnings.simplefilter("error", StabilityWarning)
        sk.solve(sk.GBM(mu=1.0, sigma=0.5), torch.ones(3, 1), t1=9.0, steps=3)


class Plain:
    """dx = f dt + 0.1 dW with nothing told but drift and diffusion."""

    noise_type = "additive"

    def __init__(self, drift):
        self.f = drift

    def drift(self, t, x):
        return self.f(x)

    def diffusion(self, t, x):
        return torch.full_like(x, 0.1) if x.ndim else 0.1


def lorenz(x):
    a, b, c = x.unbind(1)
    return torch.stack([10 * (b - a), a * (28 - c) - b, a * b - 8 / 3 * c], 1)


def spring(q):
    return -100.0 * q


STIFF, QV = Plain(lambda x: -100.0 * x), torch.full((3, 2, 2), 0.5)
FLOW = sk.ProbabilityFlow(sk.OU(100.0, 0.0, 10.0), lambda t, x: 0.0 * x)
UNSTABLE = {
    "a form of a linear equation": (sk.GBM(-50.0, 1.0).to_stratonovich(), 1, "heun", 0.3, 0.03882),
    "Heston": (sk.Heston(kappa=80.0), 2, "euler_maruyama", 0.1, 2 / 80),
    "a spring by baoab": (sk.UnderdampedLangevin(force=spring), QV, "baoab", 0.5, 0.2),
    "a spring by quicsort": (sk.UnderdampedLangevin(force=spring), QV, "quicsort", 0.5, None),
    "a potential": (sk.Langevin(lambda x: 50.0 * x**2), 3, "ula", 0.1, 2 / 100),
    "square roots": (sk.CIR(50.0), 1, "full_truncation", 0.1, 2 / 50),
    "a probability flow": (FLOW, 1, "rk4", 0.1, 2.7853 / 100),
    "a drift of its own": (STIFF, 2, "euler_maruyama", 0.1, 2 / 100),
    "stages": (STIFF, 2, "sra1", 0.1, 2 / 100),
    "twenty components": (Plain(lambda x: -100 * (x - x.mean(1, True))), 20, "heun", 0.1, 2 / 100),
    "a linear part that is told": (sk.OU(8.0), 1, "midpoint", 0.3, 2 / 8),
}


def state(x):
    return torch.full((3, x), 0.5) if isinstance(x, int) else x


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", UNSTABLE)
def test_unstable_steps_are_seen_on_any_equation(name, dtype):
    """By the linear part where it is told, else by drift and step linearized at x0."""
    sde, x0, method, dt, longest = UNSTABLE[name]
    with pytest.warns(StabilityWarning, match=f"'{method}' with steps of {dt}.* is unstable") as w:
        sk.solve(sde, state(x0).to(dtype), t1=5 * dt, steps=5, method=method, fuse=False)
    assert w[0].filename == __file__
    told = float(str(w[0].message).split(" is ")[-1])
    if longest is not None:
        assert told == pytest.approx(longest, rel=0.012)
    with warnings.catch_warnings():
        warnings.simplefilter("error", StabilityWarning)
        short = 0.97 * told
        sk.solve(sde, state(x0).to(dtype), t1=5 * short, steps=5, method=method, fuse=False)


QUIET = {
    "a cubic far out, which the first step brings home": (Plain(lambda x: -(x**3)), 10.0, 0.01),
    "chaos": (Plain(lorenz), torch.ones(3, 3), 0.01),
    "growth": (Plain(lambda x: 2.0 * x), 1.0, 0.5),
    "the top of a barrier": (sk.DoubleWell(4.0), 0.0, 0.02),
    "far from a double well": (sk.DoubleWell(), 3.0, 0.02),
    "slow and fast": (Plain(lambda x: x * torch.tensor([0.1, -15.0])), torch.ones(3, 2), 0.1),
    "noise in the drift": (Plain(lambda x: -x + torch.rand_like(x)), 1.0, 0.1),
    "a drift that counts on its batch": (
        Plain(lambda x: -100 * x[:3] * torch.ones(3, 1)), 1.0, 0.1),
    "half precision": (STIFF, torch.ones(3, 2).half(), 0.01),
}  # fmt: skip


@pytest.mark.filterwarnings("error::sdekit.StabilityWarning")
@pytest.mark.parametrize("name", QUIET)
def test_no_alarm_where_nothing_is_wrong_or_nothing_can_be_said(name):
    sde, x0, dt = QUIET[name]
    x0 = x0 if isinstance(x0, torch.Tensor) else torch.full((3, 1), x0)
    sk.solve(sde, x0, t1=30 * dt, steps=30, fuse=False)


@pytest.mark.filterwarnings("error::sdekit.StabilityWarning")
@pytest.mark.parametrize("method", ["implicit_euler", "tamed_euler"])
def test_methods_that_no_step_makes_unstable_are_not_warned_of(method):
    sk.solve(STIFF, torch.ones(3, 2), t1=50.0, steps=100, method=method, fuse=False)
    grows = Plain(lambda x: 0.4 * x)  # 1 / (1 - 0.2) is more than e^0.2
    sk.solve(grows, torch.ones(3, 2), t1=5.0, steps=10, method=method, fuse=False)


@pytest.mark.filterwarnings("error::sdekit.StabilityWarning")
def test_mala_refuses_what_is_unstable_itself():
    sde = sk.Langevin(lambda x: 50.0 * x**2)
    sk.solve(sde, torch.ones(3, 1), t1=1.0, steps=10, method="mala", fuse=False)


def test_samples_with_their_own_times_are_seen_by_the_longest_step():
    for sde in (sk.OU(theta=8.0), Plain(lambda x: -8.0 * x)):
        x0 = torch.ones(3, 1)
        with pytest.warns(StabilityWarning, match=r"with steps of 0\.3 is unstable"):
            sk.solve(sde, x0, t1=torch.tensor([1.0, 3.0, 2.0]), steps=10, fuse=False)
        with warnings.catch_warnings():
            warnings.simplefilter("error", StabilityWarning)
            sk.solve(sde, x0, t1=torch.tensor([1.0, 2.0, 2.0]), steps=10, fuse=False)


def test_the_form_of_an_equation_does_not_change_what_is_stable():
    """Milstein's step is one for both forms, and so is its longest stable step."""
    told = []
    for sde in (sk.GBM(-8.0, 1.5), sk.GBM(-8.0, 1.5).to_stratonovich()):
        with pytest.warns(StabilityWarning) as caught:
            sk.solve(sde, torch.ones(3, 1), t1=3.0, steps=10, method="milstein", fuse=False)
        told.append(str(caught[0].message).split(" is ")[-1])
    assert told[0] == told[1]
    # E x^2 of dx = l x dt + m x o dW goes as e^{2 (l + m^2) t}: unstable itself from m^2 = -l on.
    assert largest_stable_step(SOLVERS["heun"], -1.0, 1.1) == 0.0
    assert largest_stable_step(SOLVERS["heun"], -1.0, 0.9) > 0.0


def test_a_flow_backwards_in_time_is_looked_at_in_its_direction():
    """dx = 100 x dt from 1 to 0 pulls together; forwards it grows, and nothing is said."""
    flow = sk.ProbabilityFlow(sk.OU(-100.0, 0.0, 10.0), lambda t, x: 0.0 * x)
    with pytest.warns(StabilityWarning, match=r"is 0\.0198|is 0\.0199|is 0\.02"):
        sk.solve(flow, torch.ones(3, 1), t0=1.0, t1=0.0, steps=10, fuse=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error", StabilityWarning)
        sk.solve(flow, torch.ones(3, 1), t0=0.0, t1=1.0, steps=10, fuse=False)


def test_the_look_at_an_equation_is_cheap():
    """Where nothing is fast: one call of the drift, five for more than eight components."""
    calls = []

    def drift(x):
        calls.append(len(x))
        return -x

    solver, t = SOLVERS["euler_maruyama"], torch.zeros(())
    assert look(solver, Equation(Plain(drift)), t, torch.ones(1, 8), 0.01, 100) is None
    assert calls == [10]
    calls.clear()
    assert look(solver, Equation(Plain(drift)), t, torch.ones(1, 64), 0.01, 100) is None
    assert len(calls) <= 5
    calls.clear()
    assert look(solver, Equation(Plain(drift)), t, torch.ones(1, 65), 0.01, 100) is None
    assert not calls
