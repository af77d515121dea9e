"""Space-time Levy areas and Levy areas: their laws, and how the steps of a path are joined."""

from __future__ import annotations

import math
from functools import reduce

import pytest
import torch

from sdekit.convergence import strong_error
from sdekit.noise.brownian import Brownian
from sdekit.noise.increment import STREAMS, Increment, draw_shape, join, split
from sdekit.solvers import SOLVERS, Solver

N = 100_000
DRAWS = ("dw", "h", "area")


def path(shape=(N, 2), seed=3, **options):
    return Brownian(shape, seed=seed, dtype=torch.float64, **options)


def covers(sample, expected, errors=4.5):
    """The sample's mean is the expected one within so many standard errors."""
    return abs(float(sample.mean()) - expected) < errors * float(sample.std()) / math.sqrt(N)


def test_law_of_one_step():
    dt = 0.7
    dw, h, area = path().over(4, dt, DRAWS)[1:4]
    a = area[:, 0, 1]
    assert torch.equal(area, -area.mT)
    for i in range(2):
        assert covers(dw[:, i] ** 2, dt)
        assert covers(h[:, i] ** 2, dt / 12)
        assert covers(h[:, i] * dw[:, i], 0.0)
        assert covers(a * dw[:, i], 0.0)
        assert covers(a * h[:, i], 0.0)
    assert covers(a, 0.0)
    assert covers(a**2, dt**2 / 4)
    # Levy 1951: given dw the area has variance dt^2 / 12 + dt |dw|^2 / 12; and E |dw|^4 = 8 dt^2.
    assert covers(a**2 * (dw**2).sum(1), dt**3 * (2 / 12 + 8 / 12))


@pytest.mark.parametrize("refine", [2, 5])
def test_joined_steps_are_the_integrals_of_the_fine_path(refine):
    """h and the area of many joined steps against Riemann sums over the fine path."""
    fine = 64 * refine
    one = Brownian((50, 3), seed=1, dtype=torch.float64)
    dt = 0.9
    steps = [one.over(k, dt / fine, DRAWS) for k in range(fine)]
    whole = reduce(join, steps)
    w = torch.cat([torch.zeros(1, 50, 3), torch.stack([s.dw for s in steps]).cumsum(0)])
    left = w[:-1]
    dws = torch.stack([s.dw for s in steps])
    hs = torch.stack([s.h for s in steps])
    integral = ((left + dws / 2 + hs) * (dt / fine)).sum(0)
    assert torch.allclose(whole.h, integral / dt - whole.dw / 2, atol=1e-12)
    cross = 0.5 * torch.einsum("kbi,kbj->bij", left, dws)
    area = cross - cross.mT + torch.stack([s.area for s in steps]).sum(0)
    assert torch.allclose(whole.area, area, atol=1e-12)


def test_joining_is_associative():
    a, b, c = (path((9, 3)).over(k, 0.1 * (k + 1), DRAWS) for k in range(3))
    for x, y in zip(join(join(a, b), c)[:4], join(a, join(b, c))[:4], strict=True):
        assert torch.allclose(torch.as_tensor(x), torch.as_tensor(y), atol=1e-13)


def test_refined_steps_are_those_of_the_fine_grid():
    one = path((9, 3))
    coarse = one.over(2, 0.5, DRAWS, refine=4)
    fine = reduce(join, [one.over(k, 0.125, DRAWS) for k in range(8, 12)])
    assert torch.equal(coarse.dw, fine.dw)
    assert torch.equal(coarse.area, fine.area)


def test_joined_steps_have_the_law_of_one():
    """Two steps joined: variances of h and of the area as over one step of the length."""
    dt = 0.7
    whole = path().over(0, dt, DRAWS, refine=3)
    assert covers(whole.h[:, 0] ** 2, dt / 12)
    assert covers(whole.h[:, 0] * whole.dw[:, 0], 0.0)
    assert covers(whole.area[:, 0, 1] ** 2, dt**2 / 4)


def test_parts_of_a_step_have_their_joint_law():
    """Covariances of (dw, h) over parts of a step and over the whole of it."""
    one, dt, at = path((N,)), 0.8, [0.1, 0.3, 0.75]
    whole = one.over(0, dt, ("dw", "h"))
    area = dt * (whole.h + whole.dw / 2)  # int W ds
    for u, part in zip(at, one.parts(0, dt, at, ("dw", "h")), strict=True):
        integral = u * (part.h + part.dw / 2)
        assert part.dt == pytest.approx(u)
        assert covers(part.dw**2, u)
        assert covers(part.h**2, u / 12)
        assert covers(part.dw * part.h, 0.0)
        assert covers(part.dw * whole.dw, u)
        # E W_u int_0^dt W = u dt - u^2 / 2;  E int_0^u W int_0^dt W = u^2 dt / 2 - u^3 / 6.
        assert covers(part.dw * area, u * dt - u**2 / 2)
        assert covers(integral * area, u**2 * dt / 2 - u**3 / 6)
        assert covers(integral * whole.dw, u**2 / 2)


def test_parts_do_not_know_those_after_them():
    one = path((7,))
    few = list(one.parts(2, 1.0, [0.2], ("dw", "h")))
    many = list(one.parts(2, 1.0, [0.2, 0.5], ("dw", "h")))
    assert torch.equal(few[0].dw, many[0].dw)
    assert torch.equal(few[0].h, many[0].h)
    assert not torch.equal(few[0].h, many[1].h)


def test_levy_area_of_a_part_is_refused():
    with pytest.raises(ValueError, match="save at the grid's own times"):
        next(path((7, 2)).parts(0, 1.0, [0.5], DRAWS))


def test_other_draws():
    one = path()
    step = one.over(0, 0.5, ("dw", "z", "u"))
    assert isinstance(step, Increment)
    assert step.u.shape == (N,)
    assert covers(step.u, 0.5)
    assert covers((step.u - 0.5) ** 2, 1 / 12)
    assert bool(((step.u > 0) & (step.u < 1)).all())
    assert covers(step.z[:, 0] * step.dw[:, 0], 0.0)
    assert step.h is None
    assert step.area is None


NAMES = {"space_time": "h", "space_time_time": "k", "free": "z", "chance": "u", "levy": "area"}


@pytest.mark.parametrize("name", NAMES)
def test_noise_that_was_not_drawn_is_asked_for_by_name(name):
    draw = NAMES[name]
    bare = path((3, 2)).over(0, 0.1, ("dw",))
    with pytest.raises(ValueError, match=f"has no '{draw}', only 'dw': let the solver have"):
        getattr(bare, name)
    whole = path((3, 2)).over(0, 0.1, tuple(STREAMS))
    assert getattr(whole, name) is getattr(whole, draw)


def test_areas_go_with_what_they_are_made_of():
    with pytest.raises(ValueError, match=r"'h' where they have 'area'.*'dw', 'h', 'area'"):
        path((3, 2)).over(0, 0.1, ("dw", "area"))
    with pytest.raises(ValueError, match=r"between the M Brownian motions.*has the shape \('B',\)"):
        path((3,)).over(0, 0.1, DRAWS)
    with pytest.raises(ValueError, match=r"has the shape \('B', 2, 3\): give the equation general"):
        draw_shape("area", (2, 3))
    with pytest.raises(ValueError, match=r"unknown draw 'levi'"):
        path((3, 2)).over(0, 0.1, ("dw", "levi"))
    with pytest.raises(ValueError, match=r"draws must have 'dw'.*write \('dw', 'h'\)"):
        Increment.of(("h",), (torch.zeros(3),), 0.1, 0.3)


def test_steps_without_areas_are_not_split():
    bare = path((3, 2)).over(0, 0.1, ("dw",))
    with pytest.raises(ValueError, match="has no 'h', only 'dw'"):
        split(bare, 0.05, (bare.dw, bare.dw))
    beside = [path((3, 2)).over(k, 0.1, ("dw", "k")) for k in range(2)]
    with pytest.raises(ValueError, match="has no 'h', only 'dw', 'k'"):
        join(*beside)


def test_a_solver_that_asks_for_more_than_it_draws_is_told():
    class Careless(Solver):
        name, interpretations, draws = "careless", ("stratonovich",), ("dw",)
        strong_order = weak_order = SOLVERS["milstein_area"].weak_order
        drift_evaluations = diffusion_evaluations = 1

        def step(self, sde, t, t_next, dt, x, w, *carried):
            return x + w.levy.sum((1, 2))[:, None]

    class Pair:
        noise_type, interpretation = "general", "stratonovich"

        def drift(self, t, x):
            return -x

        def diffusion(self, t, x):
            return torch.stack([x, x.flip(1)], -1)

    with pytest.raises(ValueError, match=r"has no 'area', only 'dw': .* 'area' and 'h'"):
        strong_error(Pair(), torch.ones(1, 2), Careless(), steps=(2, 4), paths=4, batches=2)
