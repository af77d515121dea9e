"""The space-time-time Levy area k: its law, and how it is joined."""

from __future__ import annotations

import math
from functools import reduce

import pytest
import torch

from sdekit.noise.brownian import Brownian
from sdekit.noise.increment import join

N, DT = 100_000, 0.7
DRAWS = ("dw", "h", "k")


@pytest.mark.parametrize("refine", [1, 3])
def test_law(refine):
    """dw, h and k are independent, of variance dt, dt / 12 and dt / 720; 4.5 standard errors."""
    step = Brownian((N,), seed=3, dtype=torch.float64).over(4, DT, DRAWS, refine)
    parts = torch.stack([step.dw, step.h, step.k])
    parts = parts / torch.tensor([[DT], [DT / 12], [DT / 720]], dtype=torch.float64).sqrt()
    found = parts @ parts.T / N
    errors = torch.ones(3, 3) + torch.eye(3) * (math.sqrt(2) - 1)
    assert bool(((found - torch.eye(3)).abs() < 4.5 / math.sqrt(N) * errors).all())


def test_joined_steps_give_the_integral_of_the_fine_path():
    """int s W ds and k by sums that are exact but for k of each of 640 steps, unevenly joined."""
    fine = 640
    one = Brownian((50,), seed=1, dtype=torch.float64)
    steps = [one.over(k, DT / fine, DRAWS) for k in range(fine)]
    whole = join(reduce(join, steps[:130]), reduce(join, steps[130:]))
    integral, left = torch.zeros(50, dtype=torch.float64), torch.zeros(50, dtype=torch.float64)
    for j, s in enumerate(steps):
        inner = s.dt**2 * (s.dw / 3 + s.h / 2 - s.k)  # int u W_u du over the step
        area = s.dt * (s.h + s.dw / 2)
        at = j * s.dt
        integral += left * (at * s.dt + s.dt**2 / 2) + at * area + inner
        left += s.dw
    found = DT**2 * (whole.dw / 3 + whole.h / 2 - whole.k)
    assert torch.allclose(found, integral, atol=1e-13)
    assert torch.allclose(whole.k, reduce(join, steps).k, atol=1e-13)


def test_k_of_a_part_is_refused():
    one = Brownian((7, 2), dtype=torch.float64)
    with pytest.raises(ValueError, match="save at the grid's own times"):
        next(one.parts(0, 1.0, [0.5], DRAWS))
