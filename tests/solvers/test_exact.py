"""Exact solutions: laws without chance, paths to rounding."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

import sdekit as sk
from sdekit.noise.brownian import Brownian
from sdekit.noise.increment import Increment
from sdekit.sde import CIR, MatrixOU
from sdekit.solvers import SOLVERS, Equation
from tests.solve.paths import both, close
from tests.solvers.laws import F64, covers

N = 200_000
X0 = torch.linspace(0.1, 1.2, 300).view(150, 2)
ROTATION = torch.tensor([[1.0, 0.8], [-0.6, 0.7]], dtype=F64)


@pytest.mark.parametrize(
    "sde",
    [
        sk.OU(1.3, 0.2, 0.7),
        sk.VP(),
        sk.GBM(0.3, 0.8),
    ],
    ids=lambda v: type(v).__name__,
)
def test_one_kernel_equals_step_by_step(sde):
    assert sk.explain(sde, "exact", x0=X0).name == "trajectory_kernel"
    fused, stepwise = both(sde, X0, t1=0.7, steps=40, method="exact")
    assert close(fused.x, stepwise.x)


@pytest.mark.parametrize("steps", [1, 3, 50])
def test_gbm_is_exact_on_its_path(steps):
    sde, x = sk.GBM(0.3, 0.8), X0.double()
    found = sk.solve(sde, x, steps=steps, refine=600 // steps, method="exact", seed=3).x
    dw = Brownian((150, 2), seed=3, dtype=F64).over(0, 1.0, ("dw",), 600).dw
    assert torch.allclose(found, sde.exact(0.0, 1.0, x, dw), rtol=1e-13, atol=0.0)


@pytest.mark.parametrize(
    "sde",
    [sk.OU(1.3, 0.2, 0.7), sk.Brownian(0.5), sk.VP(), sk.SubVP(), sk.VE()],
    ids=lambda sde: type(sde).__name__,
)
def test_affine_laws_are_exact_for_any_step(sde):
    """A step is mean + L dW: the law after some of them is the known one, without chance."""
    equation, solver = Equation(sde), SOLVERS["exact"]
    start = 0.3
    for times in ([0.0, 1.0], [0.0, 0.03, 0.4, 0.5, 1.0]):
        grid = torch.tensor(times, dtype=F64)
        mean, var = torch.full((1, 1), start, dtype=F64), torch.zeros(1, 1, dtype=F64)
        for t, t_next in pairwise(grid):
            dt = float(t_next - t)
            x = torch.cat([mean, mean + 1.0, mean])
            dw = torch.tensor([[0.0], [0.0], [math.sqrt(dt)]], dtype=F64)
            end = solver.step(equation, t, t_next, dt, x, Increment(dt, dw))
            kept, spread = end[1] - end[0], end[2] - end[0]
            mean, var = end[:1], kept**2 * var + spread**2
        law = sde.marginal(1.0, torch.full((1, 1), start, dtype=F64))
        assert float(mean) == pytest.approx(float(law.mean), rel=1e-12)
        assert float(var.sqrt()) == pytest.approx(float(law.std), rel=1e-12)


def test_stationary_law_of_ou_is_kept_over_long_steps():
    """Steps of 5 / theta: mean and variance within 4 standard errors of those at rest."""
    sde = sk.OU(2.0, 0.4, 0.7)
    x = sk.solve(sde, torch.zeros(N, 1), t1=50.0, steps=20, method="exact").x[:, 0].double()
    assert covers(x, 0.4)
    assert covers((x - 0.4) ** 2, sde.stationary_std**2)


@pytest.mark.parametrize(
    ("A", "sigma"),
    [
        (ROTATION, torch.tensor([0.7, 0.3], dtype=F64)),
        (ROTATION, torch.tensor([[0.7, 0.1, 0.4], [0.2, 0.4, 0.0]], dtype=F64)),
        (torch.tensor([[0.0, -1.0], [1.0, 0.5]], dtype=F64), torch.tensor([0.0, 0.7], dtype=F64)),
    ],
    ids=["additive", "general", "degenerate"],
)
def test_matrix_ou_has_its_covariance_and_follows_its_path(A, sigma):
    sde = MatrixOU(A, 0.2, sigma)
    m, dt = sigma.shape[-1], 0.8
    x = torch.tensor([[0.3, -0.4]], dtype=F64)
    law = sde.transition(0.0, dt, x)
    z = torch.cat([torch.zeros(1, m, dtype=F64), torch.eye(m, dtype=F64)])
    ends = sde.exact(0.0, dt, x.expand(m + 1, 2), z * math.sqrt(dt))
    factor = (ends[1:] - ends[0]).mT
    assert torch.allclose(ends[:1], law.mean, atol=1e-14)
    assert torch.allclose(factor @ factor.mT, law.cov[0], atol=1e-14)
    # Over a short step it is the path's own noise: the error of one step falls as dt^{3/2}.
    matrix = sigma if sigma.ndim == 2 else sigma.diag()
    errors = []
    for dt in (1e-2, 1e-3):
        ends = sde.exact(0.0, dt, x.expand(m + 1, 2), z * math.sqrt(dt))
        near = x - dt * (x - 0.2) @ A.mT
        errors.append(float((ends - near - math.sqrt(dt) * z @ matrix.mT).abs().max()))
    assert math.log10(errors[0] / errors[1]) > 1.4


def test_matrix_ou_solves_each_sample_over_its_own_time():
    sde = MatrixOU(ROTATION, 0.2, torch.tensor([0.7, 0.3], dtype=F64))
    x, t1 = X0.double()[:3], torch.tensor([0.5, 1.0, 2.0], dtype=F64)
    all_at_once = sk.solve(sde, x, t1=t1, steps=2, method="exact").x
    for i in range(3):
        one = sk.solve(sde, x[i : i + 1], t1=float(t1[i]), steps=2, method="exact", first_sample=i)
        assert torch.allclose(all_at_once[i], one.x[0], atol=1e-13)
    thin = MatrixOU(ROTATION, 0.2, torch.tensor([[0.7], [0.3]], dtype=F64))
    with pytest.raises(ValueError, match=r"a normal for each of 2 components.* columns of zeros"):
        sk.solve(thin, x, steps=1, method="exact")


def test_exact_takes_an_equation_of_ones_own():
    """One Brownian motion for all components, and a method ``exact``."""

    class Shared:
        noise_type, interpretation = "scalar", "stratonovich"

        def drift(self, t, x):
            return 0.2 * x

        def diffusion(self, t, x):
            return 0.5 * x

        def exact(self, s, t, x, dW):
            return x * torch.exp(0.2 * (t - s) + 0.5 * dW[:, None])

    one, many = (sk.solve(Shared(), X0.double(), steps=n, refine=60 // n, method="exact").x
                 for n in (1, 60))  # fmt: skip
    assert torch.allclose(one, many, rtol=1e-13)
    with pytest.raises(ValueError, match="'exact' needs an equation with exact, which CIR has not"):
        sk.solve(CIR(), X0, method="exact")
    with pytest.raises(ValueError, match="whole steps only"):
        sk.solve(sk.OU(), X0, steps=4, save_at=[0.1], method="exact")
