"""Every solver has the strong order that it declares, on problems with closed forms.

One table of problems, one regression: the mean absolute error at T against the closed solution on
the same Brownian path (or a grid 16 times as fine), over six step sizes; the slope's confidence
interval comes from 20 batches of paths. A new solver needs no line here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from sdekit_kernels import normal

from sdekit.solvers import SOLVERS, Equation

PATHS, BATCHES, LEVELS = 4000, 20, range(3, 9)
T_99 = 2.861  # Student's t, 19 degrees of freedom, two-sided 99 %


class Problem:
    """dx = f dt + g(x) dW from 1 on [0, 1], with its solution as a function of the path."""

    def drift(self, t, x):
        return self.rate * x

    def diffusion(self, t, x):
        return self.volatility * x

    rate, volatility = 0.3, 0.8


@dataclass
class Diagonal(Problem):
    """Geometric Brownian motion: x = exp((a - b^2 / 2) t + b W), or exp(a t + b W)."""

    interpretation: str
    noise_type: str = "diagonal"

    def solution(self, w):
        correction = 0.5 * self.volatility**2 if self.interpretation == "ito" else 0.0
        w = w[:, None] if self.noise_type == "scalar" else w
        return torch.exp(self.rate - correction + self.volatility * w).expand(-1, 2)


@dataclass
class Additive(Problem):
    """dx = sin(2 x) - x dt + (1 + t) / 2 dW: no closed form, so the path is its own reference."""

    interpretation: str
    noise_type: str = "additive"

    def drift(self, t, x):
        return torch.sin(2 * x) - x

    def diffusion(self, t, x):
        return 0.5 * (1 + t)

    solution = None


@dataclass
class General(Diagonal):
    """The diagonal problem written with a matrix (its noise commutes)."""

    noise_type: str = "general"

    def diffusion(self, t, x):
        return torch.diag_embed(self.volatility * x)


def problems(solver):
    for interpretation in solver.interpretations:
        yield Additive(interpretation)
        yield Diagonal(interpretation)
        yield Diagonal(interpretation, "scalar")
        yield General(interpretation)


CASES = [
    pytest.param(s, p, id=f"{s.name}-{p.noise_type}-{p.interpretation}")
    for s in SOLVERS.values()
    for p in problems(s)
    if p.noise_type in s.noise_types
]


def integrate(solver, problem, dw, n):
    """The solver's last states from 1 over n equal steps of the path with fine increments dw."""
    equation, coarse = Equation(problem), dw.unflatten(0, (n, -1)).sum(1)
    times = torch.linspace(0, 1, n + 1, dtype=torch.float64)
    x = torch.ones(dw.shape[1], 2, dtype=torch.float64)
    for k in range(n):
        x = solver.step(equation, times[k], times[k + 1], 1.0 / n, x, coarse[k])
    return x


@pytest.mark.parametrize(("solver", "problem"), CASES)
def test_strong_order(solver, problem):
    paths = PATHS if problem.solution else PATHS // 4
    shape = (paths,) if problem.noise_type == "scalar" else (paths, 2)
    finest = 2 ** max(LEVELS) if problem.solution else 2 ** (max(LEVELS) + 4)
    dw = torch.stack(
        [normal(shape, seed=5, step=k, dtype=torch.float64) for k in range(finest)]
    ) / math.sqrt(finest)
    exact = (
        problem.solution(dw.sum(0)) if problem.solution else integrate(solver, problem, dw, finest)
    )
    errors = [
        (integrate(solver, problem, dw, 2**level) - exact).abs().view(BATCHES, -1).mean(1)
        for level in LEVELS
    ]
    # Slope of log2 error against log2 dt, one a batch.
    y = torch.stack(errors).log2()
    h = torch.tensor([-float(level) for level in LEVELS], dtype=torch.float64)
    h = h - h.mean()
    slopes = (h[:, None] * y).sum(0) / h.square().sum()
    slope, half = float(slopes.mean()), T_99 * float(slopes.std()) / math.sqrt(BATCHES)
    declared = solver.strong_order[problem.noise_type]
    if problem.noise_type == "general" and solver.strong_order["diagonal"] > declared:
        declared = solver.strong_order["diagonal"]  # this matrix noise commutes
    assert abs(slope - declared) < 0.15 + half, f"slope {slope:.3f} +- {half:.3f}"
    assert half < 0.1


def test_heun_has_order_two_for_ode():
    class Decay(Problem):
        deterministic = True

        def drift(self, t, x):
            return -x * t

        def diffusion(self, t, x):
            return torch.zeros(())

    errors = []
    for n in (64, 128, 256, 512, 1024):
        x = torch.ones(1, 1, dtype=torch.float64)
        times = torch.linspace(0, 1, n + 1, dtype=torch.float64)
        for k in range(n):
            x = SOLVERS["heun"].step(
                Equation(Decay()), times[k], times[k + 1], 1 / n, x, torch.zeros(())
            )
        errors.append(abs(float(x) - math.exp(-0.5)))
    assert abs(math.log2(errors[0] / errors[-1]) / 4 - 2) < 0.05
