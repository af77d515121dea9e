"""Equations of the ensembles, and how an ensemble of fused paths is held to a density.

The total variation between the two, on groups of cells, is at most what chance gives so many paths:
the mean of that (de Moivre) plus four times 1 / (2 sqrt n), which chance exceeds with a probability
below e^{-8} = 3e-4 (McDiarmid). The cells' error (order two) and that of the steps are below 3e-3,
halves of that slack or less. Each ensemble must fail against a law that is wrong.
"""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import Any, NamedTuple

import torch

import sdekit as sk
from sdekit.fokker_planck import fokker_planck
from tests.fokker_planck.laws import gaussian, vector

N = 100_000


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


class Mixing(Swirl):
    """Swirl's noise in Stratonovich's sense: fields that do not commute."""

    interpretation = "stratonovich"


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


class Law(NamedTuple):
    """An equation, one that is wrong, and where the paths start and are looked at.

    They start normal, with independent components of ``std`` around ``mean``; ``times`` are those
    at which they are compared, on ``bins`` groups of the grid's cells a direction. steps: for a
    method of weak order 1. density_of: the equation of the density, where it is another one.
    fuse: whether each path must be one kernel; None where no kernel is asked for.
    """

    sde: Any
    wrong: Any
    mean: tuple[float, ...]
    std: tuple[float, ...]
    grid: Any
    times: tuple[float, ...]
    steps: int
    bins: int = 80
    walls: Any = "far"
    density_of: Any = None
    fuse: bool | None = True


@lru_cache(maxsize=1)
def densities(law):
    """Of the equation, and of the one that is wrong: the latter by a coarse scheme."""
    mean, std = vector(*law.mean), vector(*law.std)
    p0 = gaussian(mean, std.square().diag())
    given = law.sde if law.density_of is None else law.density_of
    right = fokker_planck(given, p0, law.grid, law.times, tolerance=1e-3, boundary=law.walls)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrong = fokker_planck(
            law.wrong,
            p0,
            law.grid,
            law.times,
            tolerance=1e-2,
            scheme="linear",
            boundary=law.walls,
        )
    return right, wrong


def check(law, method, steps):
    """The ensemble is that of the law's equation, within the bound, and not that of the other."""
    mean, std = (torch.tensor(v, dtype=torch.float32) for v in (law.mean, law.std))
    z = sk.Brownian().prior_sample((N, len(mean)), seed=77, dtype=torch.float32)
    sol = sk.solve(
        law.sde,
        mean + std * z,
        t1=law.times[-1],
        steps=steps,
        method=method,
        save_at=list(law.times),
        seed=8,
        fuse=law.fuse,
    )
    right, wrong = densities(law)
    found = right.total_variation(sol.x, law.bins)
    bound = right.total_variation_bound(N, bins=law.bins)
    assert torch.all(found < bound), (found, bound)
    assert float(wrong.total_variation(sol.x, law.bins)[-1]) > 1.5 * float(bound[-1])
