"""Ensembles of fused paths against the density that the Fokker-Planck equation gives them.

The total variation between the two, on groups of cells, is at most what chance gives so many paths:
the mean of that (de Moivre) plus four times 1 / (2 sqrt n), which chance exceeds with a probability
below e^{-8} = 3e-4 (McDiarmid). The cells' error (order two) and that of the steps (order one) are
below 3e-3, halves of that slack or less. Each ensemble must fail against a law that is wrong.
"""

from __future__ import annotations

import math
import warnings

import pytest
import torch

import sdekit as sk
from sdekit.fokker_planck import fokker_planck
from tests.fokker_planck.laws import edges, gaussian, vector

N = 200_000


class VanDerPol:
    """Van der Pol's oscillator with additive noise in both components."""

    noise_type = "additive"

    def __init__(self, damping=1.0):
        self.damping = damping

    def drift(self, t, x):
        q, v = x[:, 0], x[:, 1]
        return torch.stack([v, self.damping * (1.0 - q * q) * v - q], 1)

    def diffusion(self, t, x):
        return 0.6


class Swirl:
    """A pitchfork that rotates, with general noise: two motions, mixed by the state."""

    noise_type = "general"

    def __init__(self, mix=1.0):
        self.mix = mix

    def drift(self, t, x):
        a, b = x[:, 0], x[:, 1]
        pull = 1.0 - a * a - b * b
        return torch.stack([a * pull - b, b * pull + a], 1)

    def diffusion(self, t, x):
        a, b = x[:, 0], x[:, 1]
        first = torch.stack([0.5 + 0.1 * torch.sin(b), 0.3 * self.mix * torch.cos(a)], 1)
        second = torch.stack([torch.zeros_like(a), 0.4 + 0.05 * a], 1)
        return torch.stack([first, second], 2)


class Multiplicative:
    """dx = (0.5 - x) dt + 0.6 sqrt(1 + x^2) o dW, in either sense."""

    def __init__(self, interpretation):
        self.interpretation = interpretation

    def drift(self, t, x):
        return 0.5 - x

    def diffusion(self, t, x):
        return 0.6 * torch.sqrt(1.0 + x * x)


class Scalar:
    """A pendulum pushed by one motion that drives both components; Stratonovich."""

    noise_type = "scalar"
    interpretation = "stratonovich"

    def __init__(self, turn=2.0):
        self.turn = turn

    def drift(self, t, x):
        a, b = x[:, 0], x[:, 1]
        return torch.stack([self.turn * b - 0.2 * a, -self.turn * torch.sin(a) - 0.2 * b], 1)

    def diffusion(self, t, x):
        a, b = x[:, 0], x[:, 1]
        return torch.stack([0.5 + 0.2 * torch.tanh(b), 0.5 - 0.2 * torch.tanh(a)], 1)


class Forced:
    """A double well tilted to and fro, with noise that swells: coefficients of time."""

    noise_type = "additive"

    def __init__(self, tilt=1.0):
        self.tilt = tilt

    def drift(self, t, x):
        return x - x**3 + self.tilt * torch.sin(4.0 * t)

    def diffusion(self, t, x):
        return 0.7 + 0.2 * torch.cos(3.0 * t)


class Pendulum:
    """Underdamped: noise in the velocity alone."""

    noise_type = "additive"

    def __init__(self, gravity=1.0):
        self.gravity = gravity

    def drift(self, t, x):
        q, v = x[:, 0], x[:, 1]
        return torch.stack([v, -self.gravity * torch.sin(q) - 0.5 * v], 1)

    def diffusion(self, t, x):
        return torch.tensor([0.0, 0.8], dtype=x.dtype)


def check(sde, wrong, mean, std, grid, times, *, steps, bins, method="euler_maruyama", walls="far"):
    """The ensemble is that of ``sde``, within the bound, and not that of ``wrong``.

    Both start normal, with independent components of ``std`` around ``mean``.
    """
    mean, std = vector(*mean), vector(*std)
    p0 = gaussian(mean, std.square().diag())
    z = sk.Brownian().prior_sample((N, len(mean)), seed=77, dtype=torch.float32)
    sol = sk.solve(
        sde,
        mean.float() + std.float() * z,
        t1=times[-1],
        steps=steps,
        method=method,
        save_at=times,
        seed=8,
        fuse=True,
    )
    density = fokker_planck(sde, p0, grid, times, tolerance=1e-3, boundary=walls)
    found, bound = density.total_variation(sol.x, bins), density.total_variation_bound(N, bins=bins)
    assert torch.all(found < bound), (found, bound)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a coarse scheme, for a law that is wrong
        other = fokker_planck(
            wrong, p0, grid, times, tolerance=1e-2, scheme="linear", boundary=walls
        )
    assert float(other.total_variation(sol.x, bins)[-1]) > 1.5 * float(bound[-1])


# Equation, one that is wrong, start, grid, times, and how the paths are simulated.
ONE = {
    "OU": (
        sk.OU(1.3, 0.2, 0.7),
        sk.OU(1.3, 0.2, 0.67),
        [-1.0],
        [0.1],
        edges(-3.0, 2.6, 160),
        [0.25, 1.0],
        dict(steps=800, bins=80),
    ),
    "double well": (
        sk.DoubleWell(1.0, 0.5),
        sk.DoubleWell(1.05, 0.5),
        [0.3],
        [0.1],
        edges(-2.5, 2.5, 160),
        [0.1, 1.5],
        dict(steps=1500, bins=80),
    ),
    "geometric Brownian motion": (
        sk.GBM(0.1, 0.4),
        sk.GBM(0.1, 0.42),
        [1.0],
        [0.1],
        edges(math.log(0.1), math.log(10.0), 160).exp(),
        [0.4, 1.0],
        dict(steps=500, bins=80),
    ),
    "Ito": (
        Multiplicative("ito"),
        Multiplicative("stratonovich"),
        [0.2],
        [0.1],
        edges(-6.0, 8.0, 320),
        [0.3, 1.0],
        dict(steps=600, bins=80),
    ),
    "Stratonovich": (
        Multiplicative("stratonovich"),
        Multiplicative("ito"),
        [0.2],
        [0.1],
        edges(-7.0, 10.0, 320),
        [0.3, 1.0],
        dict(steps=300, bins=80, method="heun"),
    ),
    "CIR": (
        sk.CIR(1.5, 0.6, 0.8),
        sk.CIR(1.5, 0.6, 0.84),
        [0.9],
        [0.1],
        edges(0.0, 4.0, 160),
        [0.3, 1.0],
        dict(steps=1000, bins=80, walls=("reflecting", "far")),
    ),
    "forced double well": (
        Forced(),
        Forced(0.9),
        [0.1],
        [0.1],
        edges(-3.2, 3.2, 160),
        [0.3, 1.2],
        dict(steps=1000, bins=80),
    ),
}


@pytest.mark.parametrize("name", ONE)
def test_one_dimension(name):
    *arguments, options = ONE[name]
    check(*arguments, **options)


TWO = {
    "Van der Pol": (
        VanDerPol(0.5),
        VanDerPol(0.6),
        [1.0, 0.0],
        [0.3, 0.3],
        (edges(-4.8, 4.8, 80), edges(-5.5, 5.5, 90)),
        [0.5, 1.5],
        dict(steps=1000, bins=20),
    ),
    "general noise": (
        Swirl(),
        Swirl(0.7),
        [0.8, 0.0],
        [0.3, 0.3],
        (edges(-2.8, 2.8, 90), edges(-2.8, 2.8, 90)),
        [0.5, 1.0],
        dict(steps=500, bins=20),
    ),
    "Heston": (
        sk.Heston(0.03, 2.0, 0.09, 0.4, -0.7),
        sk.Heston(0.03, 2.0, 0.09, 0.4, -0.6),
        [0.0, 0.14],
        [0.1, 0.025],
        (edges(-3.0, 2.0, 90), edges(0.0, 0.7, 80)),
        [1.0],
        dict(steps=500, bins=20, walls=("far", ("reflecting", "far"))),
    ),
    "scalar noise, Stratonovich": (
        Scalar(),
        Scalar(2.2),
        [0.6, -0.2],
        [0.4, 0.4],
        (edges(-3.7, 3.7, 120), edges(-3.8, 3.8, 120)),
        [0.5],
        dict(steps=200, bins=20, method="heun"),
    ),
    "no noise in the position": (
        Pendulum(),
        Pendulum(1.15),
        [0.5, 0.0],
        [0.3, 0.3],
        (edges(-5.0, 5.5, 100), edges(-4.5, 4.5, 100)),
        [0.5, 2.0],
        dict(steps=1000, bins=20),
    ),
}


@pytest.mark.parametrize("name", TWO)
@pytest.mark.filterwarnings("ignore:the noise is nearly along one line")
def test_two_dimensions(name):
    *arguments, options = TWO[name]
    check(*arguments, **options)


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
