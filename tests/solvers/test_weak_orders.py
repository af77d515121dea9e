"""Every solver has the weak order that it declares, without a sample.

The method's transition operator on a grid against Kolmogorov's backward equation, which knows no
solver (``sdekit.convergence.operator_error``): on random fields, of one component and of two, the
slope is the declared order within 0.15, both ways; on linear equations, whose moments are closed,
it is at least that. There is no interval, for nothing is sampled. The table is ``cases``; a new
solver needs no line here.
"""

from __future__ import annotations

import math

import pytest

from tests.solvers.cases import ROUNDING, Case, measure_weak, together, weak_cases

WITHIN = 0.15


@pytest.mark.parametrize("case", together(weak_cases()))
def test_weak_order(case: Case) -> None:
    measured = measure_weak(case)
    assert measured.half_width == 0.0
    if case.declared == math.inf:
        assert max(measured.error) < ROUNDING, measured
        return
    assert measured.order > case.declared - WITHIN, measured
    if case.exactly:
        assert measured.order < case.declared + WITHIN, measured
