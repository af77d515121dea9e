"""What the Ito methods promise beyond the table of orders."""

from __future__ import annotations

import math
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from sdekit_kernels import normal

import sdekit as sk
from sdekit.noise.increment import Increment
from sdekit.solvers import SOLVERS, Equation
from sdekit.solvers.implicit_euler import NEWTON_STEPS
from sdekit.solvers.stability import largest_stable_step

METHODS = (
    "milstein",
    "milstein_free",
    "sra1",
    "sra3",
    "sriw1",
    "sosri",
    "dri1",
    "tamed_euler",
    "implicit_euler",
)
ZERO = torch.zeros((), dtype=torch.float64)


class Law:
    """dx = f dt + g dW."""

    def __init__(self, drift, diffusion, noise_type="diagonal", interpretation="ito"):
        self.drift, self.diffusion = drift, diffusion
        self.noise_type, self.interpretation = noise_type, interpretation


def one_step(method, sde, x, dt, normals):
    """The state after one step from time 0 with these standard normals, one tensor a draw."""
    solver = SOLVERS[method]
    w = Increment.of(solver.draws, normals[: len(solver.draws)], dt, dt**0.5)
    return solver.step(Equation(sde), ZERO, ZERO + dt, dt, x, w)


def normals(*shape, seed=0):
    return tuple(normal(shape, seed=seed, stream=s, dtype=torch.float64) for s in range(3))


# Tableaus


def square(rows):
    """A tableau's rows below the first stage as a matrix."""
    matrix = np.zeros((len(rows) + 1,) * 2)
    for i, row in enumerate(rows):
        matrix[i + 1, : len(row)] = row
    return matrix


@pytest.mark.parametrize("method", ["sra1", "sra3"])
def test_order_conditions_of_additive_noise(method):
    """Roessler 2010, theorem 6.2: strong order 3/2."""
    c0, a0, b0, alpha, c1, beta1, beta2 = SOLVERS[method].tableau
    b = np.array([[0.0] * len(c1), *b0]).sum(1)
    assert square(a0).sum(1) == pytest.approx(c0)
    sums = [sum(alpha), sum(beta1), np.dot(alpha, b), np.dot(beta1, c1)]
    assert sums == pytest.approx([1.0] * 4)
    assert [sum(beta2), np.dot(beta2, c1)] == pytest.approx([0.0, -1.0])
    assert [np.dot(alpha, c0), np.dot(alpha, b**2)] == pytest.approx([0.5, 1.5])


@pytest.mark.parametrize("method", ["sriw1", "sosri"])
def test_order_conditions_of_diagonal_noise(method):
    """Roessler 2010, theorem 5.2: strong order 3/2. SOSRI's table has sixteen digits."""
    c0, a0, b0, alpha, c1, a1, b1, beta = SOLVERS[method].tableau
    # Drift stages that a table leaves out are copies of the first.
    wide = len(c1)
    a = np.array([[0.0] * wide, *([*row, *[0.0] * (wide - len(row))] for row in a1)])
    b = square(b1)
    inner, outer = square(b0).sum(1), b.sum(1)
    assert square(a0).sum(1) == pytest.approx(c0, abs=1e-12)
    assert a.sum(1) == pytest.approx(c1, abs=1e-12)
    beta = np.array(beta)

    def holds(values, wanted):
        assert values == pytest.approx(np.array(wanted), abs=2e-12)

    holds([sum(alpha), np.dot(alpha, c0)], [1.0, 0.5])
    holds([np.dot(alpha, inner), np.dot(alpha, inner**2)], [1.0, 1.5])
    holds(beta.sum(1), [1, 0, 0, 0])
    holds(beta @ outer, [0, 1, 0, 0])
    holds(beta @ a.sum(1), [1, 0, -1, 0])
    holds(beta @ outer**2, [1, 0, -1, 2])
    holds(beta @ b @ outer, [0, 0, 0, 1])
    mixed = beta @ (a[:, : len(inner)] @ inner)
    holds(mixed[0] / 2 + mixed[2] / 3, 0.0)


# Weak order, by Gauss-Hermite quadrature of one step


def hermite(n):
    z, weights = np.polynomial.hermite_e.hermegauss(n)
    return z, weights / weights.sum()


def mean_after(method, sde, x0, dt, quantity, rules):
    """E quantity(x) after one step; rules: nodes and weights for each standard normal of the step.

    The normals of a draw have consecutive rules, one for each Brownian motion.
    """
    points = torch.tensor(list(product(*(z for z, _ in rules))), dtype=torch.float64)
    weights = torch.tensor(list(product(*(w for _, w in rules))), dtype=torch.float64).prod(1)
    draws = points.chunk(len(SOLVERS[method].draws), 1)
    x = torch.tensor([x0], dtype=torch.float64).expand(len(points), -1).contiguous()
    return (weights[:, None] * quantity(one_step(method, sde, x, dt, draws))).sum(0)


@pytest.mark.parametrize(
    ("method", "slope"), [("sriw1", 2.5), ("sosri", 2.5), ("dri1", 3.0), ("milstein_free", 2.0)]
)
def test_weak_order_where_the_noise_is_not_linear(method, slope):
    """x = sinh(y), dy = (1 + t) dW: the error of a step is dt^(order + 1) in the law of y.

    The strong methods have weak order 3/2 here, which noise that is linear in x does not show.
    """
    sde = Law(
        lambda t, x: 0.5 * (1 + t) ** 2 * x, lambda t, x: (1 + t) * torch.sqrt(1 + x.square())
    )
    start, errors = 0.7, []
    rules = [hermite(40), hermite(24)][: len(SOLVERS[method].draws)]
    for dt in (2.0**-11, 2.0**-12):
        after = mean_after(method, sde, [math.sinh(start)], dt, lambda x: x.asinh().square(), rules)
        errors.append(abs(float(after) - start**2 - ((1 + dt) ** 3 - 1) / 3))
    assert abs(math.log2(errors[0] / errors[1]) - slope) < 0.05


def test_dri1_has_weak_order_two_for_three_motions_that_do_not_commute():
    """dx = A x dt + sum_k B_k x dW_k: its second moments P follow dP / dt = A P + P A' + B P B'."""
    a, *b = normal((4, 2, 2), seed=3, dtype=torch.float64) * 0.5
    sde = Law(lambda t, x: x @ a.T, lambda t, x: torch.stack([x @ m.T for m in b], -1), "general")
    eye, x0 = torch.eye(2, dtype=torch.float64), torch.tensor([0.6, -0.4], dtype=torch.float64)
    generator = torch.kron(a, eye) + torch.kron(eye, a) + sum(torch.kron(m, m) for m in b)
    fair = (np.array([-1.0, 1.0]), np.array([0.5, 0.5]))
    errors = []
    for dt in (2.0**-5, 2.0**-6, 2.0**-7):
        after = mean_after(
            "dri1",
            sde,
            x0.tolist(),
            dt,
            lambda x: (x[:, :, None] * x[:, None, :]).flatten(1),
            [hermite(6)] * 3 + [fair] * 3,
        )
        exact = torch.linalg.matrix_exp(generator * dt) @ torch.outer(x0, x0).flatten()
        errors.append((after - exact).abs().max())
    slopes = [math.log2(c / d) for c, d in pairwise(errors)]
    assert slopes == pytest.approx([3.0, 3.0], abs=0.1)


# Milstein


@pytest.mark.parametrize("noise_type", ["diagonal", "scalar"])
def test_both_milstein_methods_are_one_where_noise_is_linear(noise_type):
    turn = torch.tensor([[0.3, -0.8], [0.5, 0.2]], dtype=torch.float64)
    scale = torch.tensor([0.3, 1.1], dtype=torch.float64)
    linear = (lambda t, x: scale * x) if noise_type == "diagonal" else (lambda t, x: x @ turn)
    sde = Law(lambda t, x: torch.sin(x.flip(1)), linear, noise_type)
    x = normal((500, 2), seed=1, stream=7, dtype=torch.float64)
    noise = normals(*((500, 2) if noise_type == "diagonal" else (500,)))
    with_slope, without = (one_step(m, sde, x, 0.3, noise) for m in ("milstein", "milstein_free"))
    torch.testing.assert_close(with_slope, without, rtol=1e-13, atol=1e-13)


def test_milstein_methods_differ_by_a_step_to_the_three_halves():
    sde = Law(lambda t, x: -x, lambda t, x: torch.cos(x) + 1.5 + t)
    x, noise = normal((500, 2), seed=1, dtype=torch.float64), normals(500, 2, seed=2)
    apart = []
    for dt in (2.0**-10, 2.0**-11):
        pair = (one_step(m, sde, x, dt, noise) for m in ("milstein", "milstein_free"))
        apart.append(float((next(pair) - next(pair)).abs().mean()))
    assert abs(math.log2(apart[0] / apart[1]) - 1.5) < 0.02


@pytest.mark.parametrize("noise_type", ["diagonal", "scalar"])
def test_milstein_steps_both_forms_of_a_process_alike(noise_type):
    """The Ito form's drift has D_g g / 2 more, its step D_g g (dW^2 - dt) / 2."""
    if noise_type == "diagonal":
        sde = Law(torch.add, lambda t, x: torch.sin(x) + 2, noise_type, "stratonovich")
    else:
        sde = Law(torch.add, lambda t, x: torch.sin(x.flip(1)), noise_type, "stratonovich")
    x, noise = normal((500, 2), seed=1, dtype=torch.float64), normals(500, 2, seed=2)
    noise = noise if noise_type == "diagonal" else tuple(z[:, 0] for z in noise)
    pair = [one_step("milstein", form, x, 0.2, noise) for form in (sde, sk.to_ito(sde))]
    torch.testing.assert_close(*pair, rtol=1e-13, atol=1e-13)


class Square(torch.autograd.Function):
    """x^2, by a function that says nothing of its derivative in forward mode."""

    @staticmethod
    def forward(x):
        return x * x

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass


def test_milstein_needs_a_derivative_and_milstein_free_does_not():
    sde = Law(lambda t, x: -x, lambda t, x: 1.0 + 0.1 * Square.apply(x))
    plain = Law(lambda t, x: -x, lambda t, x: 1.0 + 0.1 * (x * x))
    x0 = torch.linspace(-1, 1, 20).view(10, 2)
    with pytest.raises(TypeError, match=r"Law.diffusion has no gradient"):
        sk.solve(sde, x0, steps=5, method="milstein", fuse=False)
    free = sk.solve(sde, x0, steps=5, method="milstein_free", fuse=False)
    wanted = sk.solve(plain, x0, steps=5, method="milstein_free", fuse=False)
    assert torch.equal(free.x, wanted.x)


# Superlinear and stiff drifts


def test_tamed_euler_stays_finite_where_euler_explodes():
    """dx = -x^3 dt + x dW, steps of 1/4: a path beyond sqrt(8) is thrown further each time."""
    sde = Law(lambda t, x: -(x**3), lambda t, x: x)
    x0 = torch.full((2000, 1), 3.0)
    times = {"t1": 20.0, "steps": 80, "seed": 1, "fuse": False}
    exploded = sk.solve(sde, x0, method="euler_maruyama", **times)
    tamed = sk.solve(sde, x0, method="tamed_euler", save_at=[0.25, 20.0], **times)
    assert int((exploded.stats.nonfinite_step >= 0).sum()) > 1000
    assert bool((tamed.stats.nonfinite_step < 0).all())
    assert float(tamed.x[-1].abs().max()) < 10
    # One sample's drift is tamed by its own norm, over all its components.
    f = torch.tensor([3.0, 4.0], dtype=torch.float64).expand(2, 2).clone()
    f[1] *= 1e6
    noise = (torch.zeros(2, 2, dtype=torch.float64),)
    moved = one_step(
        "tamed_euler", Law(lambda t, x: f, lambda t, x: 0 * x), torch.zeros_like(f), 0.5, noise
    )
    assert moved[0].tolist() == pytest.approx([1.5 / 3.5, 2.0 / 3.5])
    assert float(moved[1].norm()) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("stiffness", [0.1, 10.0, 50.0])
def test_implicit_euler_solves_its_equation(stiffness):
    """x_next + k dt x_next^3 = x + dW + dt / 10, to rounding where that is at most 5 x_next."""
    sde = Law(lambda t, x: -stiffness * x**3 + 0.1 * t, lambda t, x: torch.full_like(x, 0.2))
    x = torch.linspace(-1, 1, 400, dtype=torch.float64).view(200, 2)
    noise, dt = normals(200, 2), 1.0
    made = one_step("implicit_euler", sde, x, dt, noise)
    known = x + 0.2 * dt**0.5 * noise[0] + 0.1 * dt * dt
    fits = known.abs() <= 5 * made.abs()
    residual = made + stiffness * dt * made**3 - known
    assert fits.sum() > 300
    assert float(residual[fits].abs().max()) < 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("power", [3, 5])
def test_implicit_euler_solves_its_equation_from_large_states(power, dtype):
    """x_next + dt x_next^p = x from x = 1 .. 10^6; eight Newton steps alone end at 40 for x = 10^3,
    where the root is 21.4."""
    sde = Law(lambda t, x: -(x**power), lambda t, x: torch.zeros_like(x))
    x = torch.tensor([[1.0], [10.0], [100.0], [1e3], [-1e4], [1e6]], dtype=dtype)
    sol = sk.solve(sde, x, t1=0.1, steps=1, method="implicit_euler", fuse=False)
    assert bool((sol.status == 0).all())
    residual = sol.x + 0.1 * sol.x**power - x
    # Rounding of y is p times that of dt y^p; both are summed.
    assert bool((residual.abs() <= (power + 3) * torch.finfo(dtype).eps * x.abs()).all())


def test_implicit_euler_says_where_it_did_not_solve_its_equation():
    """x = 100 and dx = -sinh(x) dt: Newton's steps are 1 each. The sample is NaN and says so."""
    sde = Law(lambda t, x: -torch.sinh(x), lambda t, x: torch.zeros_like(x))
    for fuse in (True, False):
        x0 = torch.tensor([[3.0], [100.0], [0.0]], dtype=torch.float64)
        sol = sk.solve(sde, x0, t1=0.1, steps=1, method="implicit_euler", fuse=fuse)
        assert sol.status.tolist() == [0, 1, 0]
        assert sol.x.isnan().flatten().tolist() == [False, True, False]
        assert sol.stats.nonfinite_step.tolist() == [-1, 0, -1]
        kept = sol.x[::2]
        torch.testing.assert_close(kept + 0.1 * torch.sinh(kept), x0[::2], rtol=1e-13, atol=0)


def test_implicit_euler_takes_rounding_for_rounding():
    """-k (x - 3) in float32, k dt = 10^5: the residual is rounding times k dt, not the state."""
    sde = Law(lambda t, x: -1e6 * (x - 3.0), lambda t, x: torch.ones_like(x))
    x0 = torch.linspace(-50.0, 50.0, 200).view(-1, 1)
    sol = sk.solve(sde, x0, t1=1.0, steps=10, method="implicit_euler", fuse=False)
    assert bool((sol.status == 0).all())
    assert float((sol.x - 3.0).abs().max()) < 1e-3


def test_implicit_euler_on_a_linear_drift_needs_one_newton_step_and_is_stable():
    """The Ornstein-Uhlenbeck step (x + dW) / (1 + theta dt), for any theta dt."""
    noise = normals(100, 1)
    x = torch.ones(100, 1, dtype=torch.float64)
    sde = Law(lambda t, x: -1e4 * x, lambda t, x: torch.ones_like(x))
    made = one_step("implicit_euler", sde, x, 2.0, noise)
    torch.testing.assert_close(made, (x + 2.0**0.5 * noise[0]) / (1 + 2e4), rtol=1e-13, atol=0)
    solver = SOLVERS["implicit_euler"]
    assert largest_stable_step(solver, -1.0) == math.inf
    assert largest_stable_step(solver, -1.0, 1.3) == math.inf
    assert (
        largest_stable_step(SOLVERS["sosri"], -1.0)
        > 9
        > 2
        > largest_stable_step(SOLVERS["sriw1"], -1.0)
    )
    assert solver.drift_evaluations == 2 * (1 + NEWTON_STEPS)


# What they say to equations that they are not made for, and which way they go


@pytest.mark.parametrize("method", ["milstein", "milstein_free", "sriw1", "sosri", "dri1"])
def test_diagonal_noise_that_mixes_components_is_refused(method):
    sde = Law(lambda t, x: -x, lambda t, x: x.flip(1))
    with pytest.raises(
        ValueError, match=rf"'{method}' cannot take Law.*write the noise as general"
    ):
        sk.solve(sde, torch.ones(3, 2), steps=2, method=method)
    assert sk.solve(sde, torch.ones(3, 1), steps=2, method=method, fuse=False).x.shape == (3, 1)


def test_implicit_euler_refuses_a_drift_that_mixes_components():
    sde = Law(lambda t, x: -x.flip(1), lambda t, x: x)
    with pytest.raises(ValueError, match="drift's component i must depend on t and x_i alone"):
        sk.solve(sde, torch.ones(3, 2), steps=2, method="implicit_euler")


def pair(a, b):
    return torch.stack([torch.cos(b) + 0.2 * a, 0.3 * a * b], 1)


MIXING = Law(
    lambda t, x: torch.sin(x.flip(1)) - 0.5 * x + t,
    lambda t, x: torch.stack([pair(x[:, 0], x[:, 1]), pair(x[:, 1], x[:, 0])], 1),
    "general",
)
OU = sk.OU(theta=1.3, mu=0.2, sigma=0.7)
GBM = sk.GBM(mu=0.1, sigma=0.4)


@pytest.mark.parametrize("method", METHODS)
def test_whole_trajectories_are_one_kernel(method):
    for sde, components in ((OU, 1), (GBM, 3), (MIXING, 2)):
        if SOLVERS[method].takes(Equation(sde)) and (method, sde) != ("implicit_euler", MIXING):
            path = sk.explain(sde, method, x0=torch.full((4, components), 0.5))
            assert path.name == "trajectory_kernel", path.reason


@pytest.mark.parametrize("method", METHODS)
def test_fused_equals_step_by_step(method):
    """The same noise: the paths differ by roundings, a few each step."""
    sde = OU if method in ("sra1", "sra3") else MIXING if method == "dri1" else GBM
    x0 = torch.linspace(0.2, 1.0, 200).view(-1, 2 if sde is MIXING else 1)
    fused, stepwise = (
        sk.solve(sde, x0, steps=20, method=method, seed=4, fuse=f) for f in (True, False)
    )
    assert fused.stats.path == "trajectory_kernel"
    torch.testing.assert_close(fused.x, stepwise.x, rtol=1e-5, atol=1e-5)


def test_each_sample_has_its_own_times():
    """dt, t and t_next with one entry a sample: as the sample alone."""
    sde = Law(lambda t, x: -(x**3), lambda t, x: torch.cos(x))
    ends, x0 = torch.linspace(0.5, 1.0, 4), torch.linspace(0.1, 1.0, 12).view(4, 3)
    for method in METHODS:
        sde.noise_type = "additive" if method.startswith("sra") else "diagonal"
        sde.diffusion = (
            (lambda t, x: 0.5) if method.startswith("sra") else (lambda t, x: torch.cos(x))
        )
        own = sk.solve(sde, x0, t1=ends, steps=6, method=method, fuse=False).x
        one = sk.solve(sde, x0, t1=float(ends[2]), steps=6, method=method, fuse=False).x
        torch.testing.assert_close(own[2], one[2], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("fuse", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_implicit_euler_decays_through_the_smallest_numbers_to_zero(dtype, fuse):
    class Decay:
        noise_type = "diagonal"

        def drift(self, t, x):
            return -x

        def diffusion(self, t, x):
            return torch.zeros_like(x)

    sol = sk.solve(
        Decay(),
        torch.ones(3, 1, dtype=dtype),
        t1=1.2e5,
        steps=120,
        method="implicit_euler",
        fuse=fuse,
    )
    assert (sol.x == 0.0).all() and (sol.status == 0).all()
