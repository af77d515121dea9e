"""The coefficients satisfy the order conditions that they stand for."""

from __future__ import annotations

import numpy as np
import pytest

from sdekit.ode.tableau import TABLEAUS


def arrays(name):
    tableau = TABLEAUS[name]
    a = np.zeros((tableau.stages, tableau.stages))
    for i, row in enumerate(tableau.a, start=1):
        a[i, : len(row)] = row
    return tableau, a, np.array([0.0, *tableau.c]), a[-1]


def conditions(b, a, c, order, theta=1.0):
    """What Butcher's conditions up to this order leave over, for the solution at theta."""
    one = np.ones_like(c)
    ac, acc = a @ c, a @ c**2
    left = [b @ one - theta]
    if order >= 2:
        left += [b @ c - theta**2 / 2]
    if order >= 3:
        left += [b @ c**2 - theta**3 / 3, b @ ac - theta**3 / 6]
    if order >= 4:
        left += [
            b @ c**3 - theta**4 / 4,
            b @ (c * ac) - theta**4 / 8,
            b @ acc - theta**4 / 12,
            b @ (a @ ac) - theta**4 / 24,
        ]
    if order >= 5:
        left += [
            b @ c**4 - 1 / 5,
            b @ (c**2 * ac) - 1 / 10,
            b @ (c * acc) - 1 / 15,
            b @ (c * (a @ ac)) - 1 / 30,
            b @ ac**2 - 1 / 20,
            b @ (a @ c**3) - 1 / 20,
            b @ (a @ (c * ac)) - 1 / 40,
            b @ (a @ acc) - 1 / 60,
            b @ (a @ (a @ ac)) - 1 / 120,
        ]
    return np.abs(left).max()


@pytest.mark.parametrize("name", TABLEAUS)
def test_order(name):
    tableau, a, c, b = arrays(name)
    assert np.abs(a.sum(1) - c).max() < 1e-13
    assert conditions(b, a, c, tableau.order) < 1e-13
    assert c[-1] == 1.0  # first same as last


@pytest.mark.parametrize("name", TABLEAUS)
def test_embedded_order(name):
    tableau, a, c, b = arrays(name)
    other = b - np.array(tableau.error)
    assert conditions(other, a, c, tableau.order - 1) < 1e-13
    assert conditions(other, a, c, tableau.order) > 1e-4  # or it would estimate nothing


@pytest.mark.parametrize("name", TABLEAUS)
def test_middle(name):
    tableau, a, c, _ = arrays(name)
    assert conditions(np.array(tableau.middle), a, c, min(tableau.order, 4), theta=0.5) < 1e-12


@pytest.mark.parametrize("name", TABLEAUS)
def test_stability_on_the_negative_axis(name):
    tableau, a, _, b = arrays(name)

    def growth(z):
        return 1.0 + z * b @ np.linalg.solve(np.eye(len(b)) - z * a, np.ones(len(b)))

    inside = np.linspace(-0.999 * tableau.stability, -1e-6, 2000)
    assert max(abs(growth(z)) for z in inside) <= 1.0
    assert abs(growth(-1.001 * tableau.stability)) > 1.0
