"""Every solver, noise type and interpretation: one kernel and step by step, on the same noise.

What differs is rounding: 1e-5 of the largest state in float32, 1e-12 in float64. The equations are
those of the table of orders, with fields of one wave, which compile in a third of the time; a new
solver needs no line here. Where a step computes in float64 whatever its state, as a matrix
exponential does, the one kernel is that of a float64 state; where it has many stages, Newton's
steps, a network in each would be more operations than a kernel takes.
"""

from __future__ import annotations

import pytest
import torch

import sdekit as sk
from tests.solvers.cases import (
    Ode,
    costly,
    field_for,
    general_solvers,
    ode_solvers,
    special,
    takes,
)
from tests.solvers.closed_forms import Sinh

STEPS = 24
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}


def rows():
    """(solver, equation, one state)."""
    for solver, noise, which in general_solvers():
        field = field_for(solver, noise, which, hidden=1)
        if costly(solver) and noise != "additive":
            field = Sinh(noise, which)
        name = f"{solver.name}-{noise}-{which}"
        yield pytest.param(solver.name, field, torch.tensor([[0.3, -0.8]]), id=name)
    for solver, row, noise in special():
        if not row.one_kernel:
            continue
        name = f"{solver.name}-{noise}-{row.name.replace(' ', '_')}"
        yield pytest.param(solver.name, row.sde, row.x0, id=name)
    for solver in ode_solvers():
        ode = next(o for o in (Ode(False), Ode(True)) if takes(solver, o, Ode.x0))
        yield pytest.param(solver.name, ode, Ode.x0[:1], id=f"{solver.name}-no_noise")


def largest_difference(method, sde, x0, dtype):
    """Relative to the largest state: components cross zero."""
    shift = torch.linspace(0.0, 0.5, 67, dtype=dtype).view(-1, *(1,) * (x0.ndim - 1))
    x = x0.to(dtype) + shift
    both = [
        sk.solve(sde, x, steps=STEPS, method=method, seed=4, backend="numba", fuse=fuse)
        for fuse in (True, False)
    ]
    assert [s.stats.path == "trajectory_kernel" for s in both] == [True, False]
    assert all(bool(s.x.isfinite().all()) for s in both)
    return float((both[0].x - both[1].x).abs().max() / both[1].x.abs().max())


def rows_in(dtype):
    """Each row in one type: a kernel takes seconds to compile. The last of each method in float64,
    the others, or the only one, in float32.
    """
    known = list(rows())
    by_method = {row.values[0]: row for row in known}
    if dtype == torch.float64:
        return list(by_method.values())
    single = {name for name in by_method if sum(row.values[0] == name for row in known) == 1}
    last = {row.id for name, row in by_method.items() if name not in single}
    return [row for row in known if row.id not in last]


@pytest.mark.parametrize(("method", "sde", "x0"), rows_in(torch.float32))
def test_one_kernel_equals_step_by_step(method, sde, x0) -> None:
    assert largest_difference(method, sde, x0, torch.float32) < TOLERANCE[torch.float32]


@pytest.mark.parametrize(("method", "sde", "x0"), rows_in(torch.float64))
def test_one_kernel_equals_step_by_step_in_float64(method, sde, x0) -> None:
    assert largest_difference(method, sde, x0, torch.float64) < TOLERANCE[torch.float64]
