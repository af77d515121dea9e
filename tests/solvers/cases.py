"""The table that drives the tests of the solvers: every method with every equation that it takes.

A method without ``needs`` is measured on random fields for each noise type and interpretation that
it declares, on every equation with a closed solution, and on linear equations for their moments;
one that takes diagonal noise also on a field whose noise mixes components, if it takes that; one
with ``needs`` on the rows of ``special.SPECIAL`` that it takes. What a case measures is an
``Order``, and what the method declares stands beside it.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import pytest
import torch
from scipy.integrate import solve_ivp

from sdekit.convergence import (
    Gaussian,
    Grid,
    Order,
    Periodic,
    expectations,
    operator_error,
    strong_error,
)
from sdekit.convergence.estimate import order_of
from sdekit.convergence.path import record, run
from sdekit.convergence.study import ends_on, transition_of
from sdekit.solvers import SOLVERS, Equation, Solver
from tests.solvers.closed_forms import CLOSED
from tests.solvers.fields import Embedded, RandomField
from tests.solvers.reference import FineStep
from tests.solvers.special import SPECIAL, waves

F64 = torch.float64
NOISE = ("additive", "diagonal", "scalar", "general")
# Of one field terms of a higher order may hide the declared one at these steps, so the paths of a
# strong row are shared out over the first eight. Weak rows have one field: the second, for of the
# first, sosri's weak order for diagonal noise and one component shows at finer steps only (1.88).
SEEDS, WEAK_SEED = tuple(range(100, 900, 100)), (200,)
NOISE_SEED = 5
STEPS, SHORT, FEWER = (16, 32, 64, 128, 256), (8, 16, 32, 64, 128), (4, 8, 16, 32)
SHORTEST = 2.0**-12
"""Of the steps on random fields. Half the time does there, in steps of the same lengths, but for
diagonal and scalar noise, where few paths make much of the error and intervals would be wide."""
LEVELS = (4, 8, 16, 32, 64)
"""Numbers of steps where nothing is sampled, of what is costly; twice as many elsewhere."""
FIELD_PATHS, PATHS, BATCHES = 2048, 1024, 16
"""Of the former half do, too, but for diagonal and scalar noise."""
START = torch.tensor([[0.3, -0.8]], dtype=F64)
ROUNDING = 1e-8
"""What an exact method may be off: 6 nodes a normal, and steps of Kolmogorov's equation."""


class Case(NamedTuple):
    """A method, an equation, and the order that the method declares there.

    exactly: whether the order is no higher either; False for equations with structure, of which
    some methods make more.
    """

    kind: str
    solver: Solver
    problem: str
    noise_type: str
    interpretation: str
    equation: Any
    declared: float
    exactly: bool

    @property
    def id(self) -> str:
        words = (
            self.solver.name,
            self.problem.replace(" ", "_"),
            self.noise_type,
            self.interpretation,
        )
        return "-".join(words)


def together(cases):
    """As pytest's parameters, by noise: whoever runs a part of them makes few of the paths."""
    ordered = sorted(cases, key=lambda case: (case.noise_type, case.problem))
    return [pytest.param(case, id=case.id) for case in ordered]


def general_solvers():
    """(solver, noise type, interpretation), the latter once where both are one."""
    for solver in SOLVERS.values():
        for noise in () if solver.needs else solver.noise_types:
            for which in solver.interpretations[: 1 if noise == "additive" else 2]:
                yield solver, noise, which


def takes(solver, sde, x0):
    equation, start = Equation(sde), torch.zeros((), dtype=F64)
    return solver.takes(equation) and not solver.obstacle(equation, start, x0)


def field_for(solver, noise, which, mixed=False, **options):
    """A random field that the method takes, with a drift that mixes components if it takes that.

    mixed: with diagonal noise that does; None where the method does not take it.
    """
    made = (
        RandomField(noise, which, mixed=mixed, apart=apart, **options)
        for apart in ((False,) if mixed else (False, True))
    )
    x0 = torch.linspace(-1.0, 1.0, 8 * options.get("d", 2), dtype=F64).view(8, -1)
    return next((field for field in made if takes(solver, field, x0)), None)


# -- strong orders -------------------------------------------------------------------------------


@lru_cache
def strong_cases():
    """All of them, made once a process."""
    return tuple(_strong_cases())


def _strong_cases():
    for solver, noise, which in general_solvers():
        declared = solver.strong_order.get(noise, 0.0)
        if not declared:
            continue
        field = field_for(solver, noise, which, seeds=SEEDS)
        yield Case("strong", solver, "random field", noise, which, field, declared, True)
        mixed = noise == "diagonal" and field_for(solver, noise, which, True, seeds=SEEDS)
        if mixed:
            least = solver.orders_on(Equation(mixed), True)[0]
            yield Case("strong", solver, "mixed field", noise, which, mixed, least, True)
        for form in CLOSED:
            equation = form(noise, which)
            if noise in form.noise_types and takes(solver, equation, form.x0):
                yield Case("strong", solver, equation.name, noise, which, equation, declared, False)
    for solver, row, noise in special():
        if row.reference is not None and solver.strong_order[noise]:
            declared = solver.strong_order[noise]
            which = Equation(row.sde).interpretation
            yield Case("strong", solver, row.name, noise, which, row, declared, True)


def special():
    for solver in SOLVERS.values():
        for row in SPECIAL if solver.needs else ():
            if takes(solver, row.sde, row.x0):
                yield solver, row, Equation(row.sde).noise_type


def measure_strong(case: Case) -> Order:
    if isinstance(case.equation, RandomField):
        field = case.equation
        paths, steps, x, end = field_path(case.noise_type, field.apart, field.mixed)
    elif case.equation in SPECIAL:
        row = case.equation
        return strong_error(
            row.sde,
            row.x0,
            case.solver,
            steps=row.steps,
            paths=row.paths,
            batches=BATCHES,
            seed=NOISE_SEED,
            reference=row.reference,
            refine=row.refine,
        )
    else:
        paths, steps, x, end = closed_path(type(case.equation), case.noise_type)
    steps = FEWER if costly(case.solver) else steps
    with torch.no_grad():
        transition = transition_of(Equation(case.equation), case.solver, 0.0, x)
        ends = [run(transition, x, paths[n]) for n in steps]
        squares = [(y - end).square().sum(1) for y in ends]
    by_batch = torch.stack(squares).unflatten(1, (BATCHES, -1)).mean(2)
    return order_of("strong", case.solver.name, paths[steps[0]].t1, steps, by_batch, 2.0)


def costly(solver):
    """Newton's method takes sixteen evaluations a step: then fewer steps are taken."""
    return solver.drift_evaluations > 8


def joined(path, steps):
    """The path in each of these numbers of steps, and the few: its methods share the joining."""
    return {n: path.coarser(n) for n in {*steps, *FEWER}}


def draws_for(noise):
    """All that any method draws of such noise."""
    wanted = {d for s in SOLVERS.values() for d in s.draws if not s.needs} | {"h"}
    return tuple(
        d for d in ("dw", "h", "area", "z") if d in wanted and (d != "area" or noise == "general")
    )


@lru_cache
@torch.no_grad()
def field_path(noise, apart, mixed):
    """The path in each number of steps, those numbers, where the process starts, where it ends."""
    field = RandomField(noise, "stratonovich", apart=apart, mixed=mixed, seeds=SEEDS)
    field = Embedded(field) if mixed else field
    long = noise in ("diagonal", "scalar") and not mixed
    x = START.expand(FIELD_PATHS if long else FIELD_PATHS // 2, -1).contiguous()
    fine = transition_of(Equation(field), FineStep(field), 0.0, x)
    steps = FEWER if apart else STEPS if long else SHORT
    span = 2.0**-4 if apart else max(steps) * SHORTEST
    # The fine run's order is one for general noise and 1.5 elsewhere, as is that of some methods:
    # those of diagonal noise come near its errors.
    finer = 4 if apart or field.noise_type == "diagonal" else 2
    draws = draws_for(field.noise_type)
    path, end = record(fine, x, 0.0, span, max(steps), finer, draws, NOISE_SEED, fine)
    return joined(path, steps), steps, x, end


@lru_cache
@torch.no_grad()
def closed_path(form, noise):
    equation = form(noise, "stratonovich")
    x = form.x0.expand(PATHS, -1).contiguous()
    transition = transition_of(Equation(equation), SOLVERS["heun"], 0.0, x)
    path = record(transition, x, 0.0, 1.0, max(STEPS), 1, draws_for(noise), NOISE_SEED)[0]
    return joined(path, STEPS), STEPS, x, equation.solution(path.coarser(1).steps[0])


# -- weak orders ---------------------------------------------------------------------------------


@lru_cache
def weak_cases():
    """All of them, made once a process."""
    return tuple(_weak_cases())


def _weak_cases():
    for solver, noise, which in general_solvers():
        declared = solver.weak_order[noise]
        for components in (1, 2):
            # What a method carries takes an axis for itself; scalar noise of one component is
            # diagonal noise.
            if components == (2 if solver.carries else 1 if noise == "scalar" else 0):
                continue
            field = weak_field(solver, noise, which, components)
            name = "two components" if components == 2 else "random field"
            yield Case("weak", solver, name, noise, which, field, declared, True)
        mixed = noise == "diagonal" and weak_field(solver, noise, which, 2, mixed=True)
        if mixed and not solver.carries:
            least = solver.orders_on(Equation(mixed), True)[1]
            yield Case("weak", solver, "mixed field", noise, which, mixed, least, True)
        linear = Linear(noise, which)
        if is_linear(solver, linear):
            yield Case("weak", solver, "linear", noise, which, linear, declared, False)
    for solver, row, noise in special():
        if row.grid is not None:
            declared = solver.weak_order[noise]
            which = Equation(row.sde).interpretation
            yield Case("weak", solver, row.name, noise, which, row, declared, True)


def weak_field(solver, noise, which, components, mixed=False):
    """Of one component it changes with time; of two it is steady: all steps are one matrix."""
    # Areas of three Brownian motions take nine normals.
    few = components == 2 or "area" in solver.draws or solver.carries or costly(solver)
    options = dict(d=components, m=2 if few else 3, seeds=WEAK_SEED)
    return field_for(solver, noise, which, mixed, steady=components == 2, **options)


class Linear:
    """dx = a x dt + sum_j b_j x dW_j or, additive, a x dt + b dW; x and x^2 have closed means."""

    a, b = -0.7, (0.5, -0.4)

    def __init__(self, noise_type, interpretation):
        self.noise_type, self.interpretation = noise_type, interpretation

    def drift(self, t, x):
        return self.a * x

    def diffusion(self, t, x):
        if self.noise_type == "additive":
            return torch.full_like(x[:1], self.b[0])
        g = [b * x for b in self.b]
        return torch.stack(g, -1) if self.noise_type == "general" else g[0]

    def moments(self, x):
        """Of x_1 and x_1^2 from x_0 = x (N, 1): (N, 2)."""
        a, square = self.a, sum(b * b for b in self.b[: 2 if self.noise_type == "general" else 1])
        if self.noise_type == "additive":
            mean = x * math.exp(a)
            return torch.cat([mean, mean**2 + square * math.expm1(2 * a) / (2 * a)], 1)
        a = a + 0.5 * square if self.interpretation == "stratonovich" else a
        return torch.cat([x * math.exp(a), x**2 * math.exp(2 * a + square)], 1)


def is_linear(solver, sde):
    """Whether the method's steps keep polynomials of degree two: twice x, twice the step."""
    if sde.noise_type == "additive" or solver.carries:
        return sde.noise_type == "additive" and solver.name != "tamed_euler"
    x = torch.ones(3, 1, dtype=F64)
    transition = transition_of(Equation(sde), solver, 0.0, x)
    path = record(transition, x, 0.0, 0.5, 1, 1, solver.draws, 0)[0]
    ends = [ends_on(path, transition, c * x, (1,))[0] for c in (1.0, 2.0)]
    return torch.allclose(2.0 * ends[0], ends[1], rtol=1e-12)


def measure_weak(case: Case) -> Order:
    if case.problem == "linear":
        grid = Grid(Gaussian(4))
        exact = case.equation.moments(grid.points)
        return operator_error(
            case.equation,
            grid,
            case.solver,
            test=lambda x: torch.cat([x, x**2], 1),
            steps=LEVELS,
            steady=True,
            reference=exact,
        )
    if case.equation in SPECIAL:
        row = case.equation
        return operator_error(
            row.sde,
            row.grid,
            case.solver,
            test=row.test,
            t1=row.weak_t1,
            steps=row.weak_steps,
            nodes=row.nodes,
            steady=True,
        )
    field = case.equation
    few = field.noise_type == "general" or case.solver.carries or costly(case.solver)
    return operator_error(
        field,
        field_grid(field.d),
        case.solver,
        test=waves,
        steps=LEVELS if few else tuple(2 * n for n in LEVELS),
        steady=field.steady,
        reference=field_expectations(
            field.noise_type, field.d, field.m, field.steady, field.apart, field.mixed
        ),
    )


@lru_cache
def field_grid(d):
    return Grid(*(Periodic(33 if d == 1 else 27) for _ in range(d)))


@lru_cache
def field_expectations(noise, d, m, steady, apart, mixed):
    """The Ito form's drift is written out: Kolmogorov's equation differentiates nothing."""
    options = dict(d=d, m=m, steady=steady, apart=apart, mixed=mixed, seeds=WEAK_SEED)
    field, grid = RandomField(noise, "ito", **options), field_grid(d)
    return expectations(Equation(field), grid, waves(grid.points), 0.0, 1.0)


# -- orders on equations without noise -----------------------------------------------------------


class Ode:
    """dx = f dt with the drift of a random field, and its solution to 1e-13."""

    deterministic, noise_type = True, "additive"
    x0 = torch.linspace(-2.0, 2.0, 16, dtype=F64).reshape(8, 2)

    def __init__(self, apart):
        self.f = RandomField("additive", apart=apart).stratonovich_drift

    def drift(self, t, x):
        return 4.0 * self.f(3.0 * t, x)

    def diffusion(self, t, x):
        return torch.zeros_like(x)

    def solution(self, t0, t1):
        def slope(t, x):
            now, state = torch.tensor(t, dtype=F64), torch.from_numpy(x).reshape(self.x0.shape)
            return self.drift(now, state).flatten().numpy()

        start = self.x0.flatten().numpy()
        solved = solve_ivp(slope, (t0, t1), start, method="DOP853", rtol=1e-13, atol=1e-13)
        return torch.from_numpy(solved.y[:, -1]).reshape(self.x0.shape)


def ode_solvers():
    return [s for s in SOLVERS.values() if s.ode_order and not s.needs]


def measure_ode(solver: Solver, t0: float = 0.0, t1: float = 1.0) -> Order:
    sde = next(ode for ode in (Ode(False), Ode(True)) if takes(solver, ode, Ode.x0))
    exact = sde.solution(t0, t1)
    return strong_error(
        sde,
        sde.x0,
        solver,
        t0=t0,
        t1=t1,
        steps=LEVELS if costly(solver) else tuple(2 * n for n in LEVELS),
        paths=len(sde.x0),
        reference=lambda w: exact,
    )
