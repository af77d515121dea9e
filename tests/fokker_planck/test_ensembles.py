"""Fused paths of every method against the density that the Fokker-Planck equation gives them.

``ensembles.check`` says how they are compared. A new solver needs no line here: it runs on the
first of the ``LAWS`` that it takes of diagonal and of general noise, in each interpretation; on the
first of all that it takes where it takes neither.
"""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch

import sdekit as sk
from sdekit.fokker_planck import fokker_planck
from sdekit.solvers import SOLVERS, Equation
from tests.fokker_planck.ensembles import (
    Forced,
    Law,
    Mixing,
    Multiplicative,
    N,
    Pendulum,
    Scalar,
    Swirl,
    VanDerPol,
    check,
)
from tests.fokker_planck.laws import edges, vector

OU = sk.OU(1.3, 0.2, 0.7)

LAWS = {
    "forced double well": Law(
        Forced(),
        Forced(0.9),
        (0.1,),
        (0.1,),
        edges(-3.2, 3.2, 160),
        (0.3, 1.2),
        steps=1000,
    ),
    "double well": Law(
        sk.DoubleWell(1.0, 0.5),
        sk.DoubleWell(1.1, 0.5),
        (0.3,),
        (0.1,),
        edges(-2.5, 2.5, 160),
        (0.1, 1.5),
        steps=1500,
    ),
    "OU": Law(
        OU,
        sk.OU(1.3, 0.2, 0.67),
        (-1.0,),
        (0.1,),
        edges(-3.0, 2.6, 160),
        (0.25, 1.0),
        steps=800,
    ),
    "Ito": Law(
        Multiplicative("ito"),
        Multiplicative("stratonovich"),
        (0.2,),
        (0.1,),
        edges(-6.0, 8.0, 320),
        (0.3, 1.0),
        steps=600,
    ),
    "geometric Brownian motion": Law(
        sk.GBM(0.1, 0.4),
        sk.GBM(0.1, 0.42),
        (1.0,),
        (0.1,),
        edges(math.log(0.1), math.log(10.0), 160).exp(),
        (0.4, 1.0),
        steps=500,
    ),
    "CIR": Law(
        sk.CIR(1.5, 0.6, 0.8),
        sk.CIR(1.5, 0.6, 0.84),
        (0.9,),
        (0.1,),
        edges(0.0, 4.0, 160),
        (0.3, 1.0),
        steps=1000,
        walls=("reflecting", "far"),
    ),
    "Stratonovich": Law(
        Multiplicative("stratonovich"),
        Multiplicative("ito"),
        (0.2,),
        (0.1,),
        edges(-7.0, 10.0, 320),
        (0.3, 1.0),
        steps=300,
    ),
    "Van der Pol": Law(
        VanDerPol(0.5),
        VanDerPol(0.6),
        (1.0, 0.0),
        (0.3, 0.3),
        (edges(-4.8, 4.8, 80), edges(-5.5, 5.5, 90)),
        (0.5, 1.5),
        steps=1000,
        bins=20,
    ),
    "general noise": Law(
        Swirl(),
        Swirl(0.7),
        (0.8, 0.0),
        (0.3, 0.3),
        (edges(-2.8, 2.8, 90), edges(-2.8, 2.8, 90)),
        (0.5, 1.0),
        steps=500,
        bins=20,
    ),
    "general noise, Stratonovich": Law(
        Mixing(),
        Mixing(0.7),
        (0.8, 0.0),
        (0.3, 0.3),
        (edges(-2.8, 2.8, 90), edges(-2.8, 2.8, 90)),
        (1.0,),
        steps=300,
        bins=20,
    ),
    "scalar noise, Stratonovich": Law(
        Scalar(),
        Scalar(2.2),
        (0.6, -0.2),
        (0.4, 0.4),
        (edges(-3.7, 3.7, 120), edges(-3.8, 3.8, 120)),
        (0.5,),
        steps=200,
        bins=20,
    ),
    "Heston": Law(
        sk.Heston(0.03, 2.0, 0.09, 0.4, -0.7),
        sk.Heston(0.03, 2.0, 0.09, 0.4, -0.6),
        (0.0, 0.14),
        (0.1, 0.025),
        (edges(-3.0, 2.0, 90), edges(0.0, 0.7, 80)),
        (1.0,),
        steps=500,
        bins=20,
        walls=("far", ("reflecting", "far")),
    ),
    "no noise in the position": Law(
        Pendulum(),
        Pendulum(1.15),
        (0.5, 0.0),
        (0.3, 0.3),
        (edges(-5.0, 5.5, 100), edges(-4.5, 4.5, 100)),
        (0.5, 2.0),
        steps=1000,
        bins=20,
    ),
    "underdamped Langevin": Law(
        sk.UnderdampedLangevin(force=torch.sin, friction=0.8, temperature=0.4),
        sk.UnderdampedLangevin(force=torch.sin, friction=0.8, temperature=0.48),
        (0.5, 0.0),
        (0.3, 0.3),
        (edges(-5.0, 6.0, 100), edges(-4.0, 4.0, 90)),
        (0.5, 2.0),
        steps=1000,
        bins=20,
    ),
    "matrix OU": Law(
        sk.MatrixOU([[1.0, 0.3], [-0.2, 0.8]], 0.0, [[0.5, 0.1], [0.1, 0.4]]),
        sk.MatrixOU([[1.0, 0.3], [-0.2, 0.8]], 0.0, [[0.5, 0.0], [0.1, 0.4]]),
        (0.8, 0.0),
        (0.3, 0.3),
        (edges(-2.4, 2.8, 80), edges(-2.4, 2.8, 80)),
        (1.0,),
        steps=300,
        bins=20,
        fuse=None,  # the doublings of exact are as many as the step is long: no kernel does
    ),
    "probability flow": Law(
        sk.ProbabilityFlow(OU, sk.score.Gaussian([-0.8], [0.2], OU)),
        sk.OU(1.3, 0.2, 0.67),
        (-0.8,),
        (0.2,),
        edges(-3.0, 2.6, 160),
        (0.3, 1.0),
        steps=1000,
        density_of=OU,
    ),
}


def takes(solver, law):
    equation, x = Equation(law.sde), torch.tensor([law.mean, law.mean]) + 0.1
    return solver.takes(equation) and not solver.obstacle(equation, torch.zeros(()), x)


def kind(law):
    """Noise and interpretation."""
    equation = Equation(law.sde)
    return ("none" if equation.deterministic else equation.noise_type), equation.interpretation


def laws_of(solver):
    """The names of the laws that a method runs on."""
    fits = [name for name, law in LAWS.items() if takes(solver, law)]
    rich = [name for name in fits if kind(LAWS[name])[0] in ("diagonal", "general")]
    first = {}
    for name in rich or fits[:1]:
        first.setdefault(kind(LAWS[name]), name)
    return set(first.values())


def rows():
    """(law, method) in the order of the laws; each law has the first method that takes it."""
    own = {solver: laws_of(solver) for solver in SOLVERS.values()}
    for name, law in LAWS.items():
        fits = [solver for solver in SOLVERS.values() if takes(solver, law)]
        yield from ((name, s.name) for s in fits if s is fits[0] or name in own[s])


def steps_for(law, solver):
    """4 N^{1/p} of them for weak order p, where the law says N for order 1; its times on the grid.

    The exact law's are those between the times that are compared.
    """
    equation = Equation(law.sde)
    order = solver.weak_order.get(equation.noise_type, solver.ode_order)
    order = solver.ode_order if equation.deterministic else order
    shares = (Fraction(t / law.times[-1]).limit_denominator(100) for t in law.times)
    each = math.lcm(*(share.denominator for share in shares))
    wanted = law.steps if order == 1 else 4 * law.steps ** (1 / order)
    return each if math.isinf(order) else each * math.ceil(wanted / each)


@pytest.mark.parametrize(("name", "method"), list(rows()))
@pytest.mark.filterwarnings("ignore:the noise is nearly along one line")
def test_ensemble(name, method):
    check(LAWS[name], method, steps_for(LAWS[name], SOLVERS[method]))


def test_every_method_has_an_ensemble():
    assert {method for _, method in rows()} == set(SOLVERS)


def test_paths_that_are_stopped_are_the_mass_that_is_absorbed():
    """Fine steps: discrete monitoring lets a path cross unseen, which shifts a wall by
    0.58 sigma sqrt(dt) (Broadie, Glasserman & Kou 1997); the density's walls are shifted by it.
    """
    sde, steps, low, high = sk.OU(1.3, 0.2, 0.7), 1000, -0.4, 0.9
    shift = 0.5826 * 0.7 * math.sqrt(1.0 / steps)
    e = edges(low - shift, high + shift, 120)
    d = fokker_planck(sde, vector(0.1), e, [1.0], boundary="absorbing")
    sol = sk.solve(
        sde,
        torch.full((N, 1), 0.1),
        steps=steps,
        seed=3,
        stop=lambda t, x: (x[:, 0] <= low) | (x[:, 0] >= high),
    )
    alive = sol.status == 0
    error = math.sqrt(float(d.mass) * (1 - float(d.mass)) / N)
    assert abs(float(alive.float().mean()) - float(d.mass)) < 4 * error + 1e-3
    x = torch.where(alive[:, None], sol.x, math.nan)
    assert float(d.total_variation(x, 40)) < float(d.total_variation_bound(N, bins=40))
