"""Every solver has the strong order that it declares, and its order on equations without noise.

The table is ``cases``; a new solver needs no line here. Sixteen batches of paths give the 99 %
interval of the slope. On random fields, against a fine run on the same Brownian path, and on the
equations of methods that need more than drift and diffusion, the whole interval lies within 0.15 of
the declared order; on equations with a closed solution, which have structure, none of it is lower.
"""

from __future__ import annotations

import math

import pytest

from tests.solvers.cases import (
    Case,
    measure_ode,
    measure_strong,
    ode_solvers,
    strong_cases,
    together,
)

WITHIN = 0.15
EXACT = 1e-12
"""Errors that are rounding: then there is no slope."""


def check(case, measured):
    if max(measured.error) < EXACT:
        assert not case.exactly or case.declared == math.inf, measured
        return
    assert measured.order - measured.half_width > case.declared - WITHIN, measured
    if case.exactly:
        assert measured.order + measured.half_width < case.declared + WITHIN, measured


@pytest.mark.parametrize("case", together(strong_cases()))
def test_strong_order(case: Case) -> None:
    check(case, measure_strong(case))


@pytest.mark.parametrize("span", [(0.0, 1.0), (1.0, 0.0)], ids=["forward", "backward"])
@pytest.mark.parametrize("solver", ode_solvers(), ids=lambda s: s.name)
def test_order_without_noise(solver, span) -> None:
    measured = measure_ode(solver, *span)
    assert abs(measured.order - solver.ode_order) < WITHIN, measured
