"""Measured orders: the interval, the path that is joined, and what is refused."""

from __future__ import annotations

import math

import pytest
import torch

import sdekit as sk
from sdekit.convergence import (
    Gaussian,
    Grid,
    Periodic,
    expectations,
    operator_error,
    strong_error,
    weak_error,
)
from sdekit.convergence.estimate import order_of, student_quantile
from sdekit.convergence.rule import step_rule
from sdekit.solvers import Equation

F64 = torch.float64
X0 = torch.ones(1, 1, dtype=F64)
GBM = sk.GBM(0.3, 0.4)


def solution(w):
    return torch.exp(0.3 - 0.08 + 0.4 * w.dw)


@pytest.mark.parametrize(
    ("freedom", "expected"), [(1, 63.6567), (4, 4.6041), (15, 2.9467), (100, 2.6259)]
)
def test_student_quantiles(freedom, expected):
    assert student_quantile(0.99, freedom) == pytest.approx(expected, abs=1e-4)


def test_an_exact_power_has_its_order_and_no_width():
    errors = torch.tensor([[3.0 * (1 / n) ** 1.5] * 4 for n in (4, 8, 16)], dtype=F64)
    found = order_of("strong", "a method", 1.0, (4, 8, 16), errors**2, power=2.0)
    assert found.order == pytest.approx(1.5)
    assert found.half_width < 1e-6
    assert "strong order 1.500" in str(found)


def test_the_levels_see_the_path_that_solve_sees():
    """The error at 8 steps is that of solve with the noise of 8 x 4 steps joined."""
    steps, refine = (4, 8), 4
    found = strong_error(
        GBM, X0, steps=steps, paths=64, batches=4, seed=3, reference="milstein", refine=refine
    )
    x = X0.expand(64, 1)
    coarse = sk.solve(GBM, x, steps=8, seed=3, refine=refine, fuse=False).x
    fine = sk.solve(GBM, x, steps=32, seed=3, method="milstein", fuse=False).x
    assert found.error[1] == pytest.approx(float((coarse - fine).square().mean().sqrt()), rel=1e-9)


def test_sampled_weak_errors_have_their_standard_error():
    found = weak_error(GBM, X0, test=lambda x: x[:, 0], steps=(2, 4, 8), reference=solution)
    bias = [(1 + 0.3 / n) ** n - math.exp(0.3) for n in (2, 4, 8)]
    for error, expected, std_error in zip(found.error, bias, found.std_error, strict=True):
        assert abs(error - abs(expected)) < 4 * std_error


def test_kolmogorov_s_equation_has_the_moments_of_gbm():
    grid = Grid(Gaussian(4))
    x = grid.points
    found = expectations(Equation(GBM), grid, torch.cat([x, x**2], 1), 0.0, 1.0)
    exact = torch.cat([x * math.exp(0.3), x**2 * math.exp(0.6 + 0.16)], 1)
    torch.testing.assert_close(found, exact, rtol=1e-9, atol=1e-9)


def test_an_operator_without_an_error_has_none():
    """Brownian motion on the circle: one step or many, E cos x is e^{-t / 2} cos x."""
    grid = Grid(Periodic(9))
    found = operator_error(
        sk.Brownian(1.0), grid, test=lambda x: torch.cos(x[:, 0]), steps=(8, 16, 32), nodes=12
    )
    assert max(found.error) < 1e-9


def test_normals_seen_through_their_sign_or_a_threshold():
    points, weights = step_rule(lambda z: torch.where(z[:, :1] < 0, -1.0, 1.0), 1, 4)
    assert sorted(weights.tolist()) == pytest.approx([0.5, 0.5])
    three = step_rule(lambda z: (z[:, :1].abs() > 0.9674).double() * z[:, :1].sign(), 1, 4)[1]
    assert sorted(three.tolist()) == pytest.approx([1 / 6, 1 / 6, 2 / 3], abs=1e-4)
    assert len(step_rule(lambda z: z[:, :1] * 0.0, 1, 4)[1]) == 1
    assert len(step_rule(lambda z: z[:, :1], 1, 4)[1]) == 4
    assert points.shape == (2, 1)


def test_what_is_refused():
    with pytest.raises(ValueError, match="divide the largest"):
        strong_error(GBM, X0, steps=(8, 12))
    with pytest.raises(ValueError, match="batches must be"):
        strong_error(GBM, X0, paths=10, batches=3)
    with pytest.raises(ValueError, match="x0 must have shape"):
        strong_error(GBM, torch.ones(3, 1, dtype=F64), paths=64)
    with pytest.raises(ValueError, match="one number a sample"):
        weak_error(GBM, X0, test=lambda x: x, steps=(2, 4), paths=64, batches=4)
    with pytest.raises(ValueError, match="odd number"):
        Periodic(8)
    with pytest.raises(ValueError, match="heun"):
        strong_error(GBM, X0, "heun")
