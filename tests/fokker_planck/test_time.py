"""Errors of time: none where coefficients do not change with it, of order two where they do."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

import sdekit as sk
from sdekit.fokker_planck import fokker_planck
from tests.fokker_planck.laws import DOUBLE, distance, edges, masses_of, orders, vector

OU = sk.OU(1.3, 0.2, 0.7)


def ou_start(x):
    return torch.exp(-((x[:, 0] + 1.0) ** 2) / 0.08)


class Driven:
    """dx = -1.3 (x - sin 3t) dt + (0.5 + 0.2 cos 2t) dW."""

    noise_type = "additive"

    def drift(self, t, x):
        return -1.3 * (x - torch.sin(3.0 * t))

    def diffusion(self, t, x):
        return 0.5 + 0.2 * torch.cos(2.0 * t)

    @staticmethod
    def law(t, mean, variance):
        """By 4000 steps of Runge and Kutta's method for the moments."""
        n = 4000

        def rate(s, y):
            drive = torch.stack([1.3 * torch.sin(3.0 * s), (0.5 + 0.2 * torch.cos(2.0 * s)) ** 2])
            return drive - vector(1.3, 2.6) * y

        y, h = vector(mean, variance), t / n
        for i in range(n):
            s = torch.tensor(i * h, dtype=DOUBLE)
            k1 = rate(s, y)
            k2 = rate(s + h / 2, y + h / 2 * k1)
            k3 = rate(s + h / 2, y + h / 2 * k2)
            k4 = rate(s + h, y + h * k3)
            y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        return y.tolist()


def driven_start(x):
    return torch.exp(-((x[:, 0] - 0.5) ** 2) / 0.1)


@pytest.fixture(scope="module")
def driven_masses():
    """After a time of 2, by steps of 1 / 150: their error is (15 / 2)^2 times below the next."""
    e, options = edges(-2.5, 2.5, 100), dict(max_step=2.0 / 300, tolerance=math.inf)
    return fokker_planck(Driven(), driven_start, e, [2.0], **options).cell_mass()[0]


def test_order_two_in_time_where_coefficients_change(driven_masses):
    e = edges(-2.5, 2.5, 100)

    def solved(steps):
        return fokker_planck(
            Driven(), driven_start, e, [2.0], max_step=2.0 / steps, tolerance=math.inf
        )

    coarse = [solved(n) for n in (10, 20, 40)]
    assert [d.steps for d in coarse] == [10, 20, 40]
    found = orders([distance(d, driven_masses) for d in coarse])
    assert min(found) > 1.9, found


@pytest.mark.parametrize("tolerance", [1e-2, 1e-4])
def test_error_of_time_is_below_the_tolerance(tolerance, driven_masses):
    e = edges(-2.5, 2.5, 100)
    d = fokker_planck(Driven(), driven_start, e, [0.7, 2.0], tolerance=tolerance)
    assert distance(d, driven_masses) < tolerance + 1e-5
    assert d.steps < 20 * (1e-2 / tolerance) ** 0.5


def test_driven_moments():
    """Order two of mean and variance."""
    want = Driven.law(2.0, 0.5, 0.05)
    errors = []
    for n in (50, 100, 200):
        d = fokker_planck(Driven(), driven_start, edges(-3.0, 3.0, n), [2.0], tolerance=1e-3)
        errors.append(abs(float(d.mean()) - want[0]) + abs(float(d.var()) - want[1]))
    assert orders(errors)[-1] > 1.8 and errors[-1] < 3e-3, errors


def test_a_period_that_fits_the_interval_is_seen():
    """cos(2 pi t) is 1 at 0, 1, ..., 4: at every eighth of the interval that a step may halve."""

    class Periodic:
        noise_type = "additive"

        def drift(self, t, x):
            return torch.cos(2 * math.pi * t) - 0.0 * x

        def diffusion(self, t, x):
            return 0.4

    d = fokker_planck(Periodic(), vector(0.0), edges(-5.0, 5.0, 60), [4.0], tolerance=1e-3)
    assert abs(float(d.mean())) < 1e-2 and d.steps > 20


def test_jump_of_a_coefficient_in_time():
    """dx = 1_{t > 1/3} dt + dW / 2: the mean moves by 2/3, by steps that end at the jump."""

    class Switched:
        noise_type = "additive"

        def drift(self, t, x):
            return (t > 1.0 / 3.0).to(x) * torch.ones_like(x)

        def diffusion(self, t, x):
            return 0.5

    d = fokker_planck(Switched(), vector(0.0), edges(-4.0, 4.0, 100), [1.0])
    assert abs(float(d.mean()) - 2.0 / 3.0) < 1e-3 and d.steps < 80


def test_times_compose():
    """One interval or many: the same density, without an error of time."""
    e = edges(-3.0, 3.0, 90)
    one = fokker_planck(OU, ou_start, e, [2.0])
    many = fokker_planck(OU, ou_start, e, [0.1 * k for k in range(21)])
    assert distance(one, many.cell_mass()[-1]) < 1e-12
    assert one.steps == 1 and many.steps == 20
    assert distance(many, masses_of(ou_start, e), 0) < 1e-15
    for t, nxt in itertools.pairwise(range(21)):
        assert float(many.var()[nxt]) > float(many.var()[t])
