"""Absorbing walls: what is left on the grid, against first passage times and slowest modes."""

from __future__ import annotations

import math

import pytest
import torch

import sdekit as sk
from sdekit.fokker_planck import fokker_planck
from tests.fokker_planck.laws import edges, orders, vector


@pytest.mark.parametrize("sides", ["both", "one"])
def test_absorbing_walls(sides):
    """Brownian motion's slowest modes on (0, 1): e^{-pi^2 t / 2}, or a quarter of that rate."""
    errors = []
    for n in (20, 40, 80):
        e = edges(0.0, 1.0, n)
        rate = math.pi if sides == "both" else 0.5 * math.pi
        boundary = "absorbing" if sides == "both" else ("absorbing", "reflecting")
        d = fokker_planck(
            sk.Brownian(1.0),
            lambda x, rate=rate: torch.sin(rate * x[:, 0]),
            e,
            [0.1, 0.4],
            boundary=boundary,
        )
        assert torch.all(d.p > 0)
        want = torch.exp(-(rate**2) * d.t / 2)
        errors.append(float((d.mass - want).abs().max()))
    assert min(orders(errors)) > 1.9 and errors[-1] < 1e-4


def test_first_passage_of_drifted_brownian_motion():
    """x0 + ct + W is above 0 with Phi((x0 + ct) / sqrt t) - e^{-2 c x0} Phi((ct - x0) / sqrt t)."""
    c, x0 = -0.5, 1.0

    class Drifted:
        noise_type = "additive"

        def drift(self, t, x):
            return torch.full_like(x, c)

        def diffusion(self, t, x):
            return 1.0

    t = vector(0.5, 2.0)
    d = fokker_planck(Drifted(), vector(x0), edges(0.0, 9.0, 400), t, boundary=("absorbing", "far"))
    phi = torch.special.ndtr
    want = phi((x0 + c * t) / t.sqrt()) - math.exp(-2 * c * x0) * phi((c * t - x0) / t.sqrt())
    assert torch.all((d.mass - want).abs() < 5e-4)


def test_absorbing_square():
    """The slowest mode of (0, 1)^2 decays as e^{-pi^2 t}."""
    errors = []
    for n in (16, 32, 64):
        e = edges(0.0, 1.0, n)
        d = fokker_planck(
            sk.Brownian(1.0),
            lambda x: torch.sin(math.pi * x).prod(1),
            (e, e),
            [0.2],
            boundary="absorbing",
        )
        errors.append(abs(float(d.mass) - math.exp(-(math.pi**2) * 0.2)))
    assert min(orders(errors)) > 1.9
