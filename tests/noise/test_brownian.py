"""Brownian increments and bridges from counters."""

from __future__ import annotations

import math

import torch
from sdekit_kernels import normal

from sdekit.noise import keys
from sdekit.noise.brownian import Brownian

N = 100_000


def test_an_increment_is_the_normal_of_its_step():
    path = Brownian((5, 3), seed=2, first_sample=9)
    z = normal((5, 3), seed=2, stream=keys.PATH, step=4, first_sample=9)
    assert torch.equal(path.increment(4, 0.25), 0.5 * z)
    assert torch.equal(path.increment(4, -0.25), 0.5 * z)


def test_bridge_has_the_conditional_law():
    """W(h) minus its mean given the ends: variance h (dt - h) / dt, independent of W(dt)."""
    path, dt = Brownian((N,), seed=3, dtype=torch.float64), 0.8
    end = path.increment(0, dt)
    points = list(path.inside(0, dt, [0.1, 0.3, 0.7]))
    for h, w in zip([0.1, 0.3, 0.7], points, strict=True):
        rest = w - h / dt * end
        variance = h * (dt - h) / dt
        assert abs(float(rest.var()) / variance - 1) < 5 * math.sqrt(2 / N)
        assert abs(float((rest * end).mean())) < 5 * math.sqrt(variance * dt / N)
    # Covariance of two points of a bridge: s (dt - t) / dt.
    first, last = points[0] - 0.125 * end, points[2] - 0.875 * end
    expected = 0.1 * (dt - 0.7) / dt
    error = math.sqrt((0.0875 * 0.0875 + expected**2) / N)
    assert abs(float((first * last).mean()) - expected) < 5 * error


def test_later_points_do_not_move_earlier_ones():
    path = Brownian((7,), seed=3)
    few, many = list(path.inside(2, 1.0, [0.2])), list(path.inside(2, 1.0, [0.2, 0.5]))
    assert torch.equal(few[0], many[0])


def test_streams_are_given_out_once():
    given = [v for k, v in vars(keys).items() if k.isupper()]
    assert len(set(given)) == len(given)
