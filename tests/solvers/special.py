"""Equations for methods that need more of one than drift and diffusion.

Each row of ``SPECIAL`` is tried with every such method, and measured with those that take it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sdekit import (
    CIR,
    GBM,
    OU,
    Heston,
    Langevin,
    MatrixOU,
    UnderdampedLangevin,
    to_stratonovich,
)
from sdekit.convergence import Gaussian, Grid, Periodic

F64 = torch.float64


class Special(NamedTuple):
    """An equation, where its paths start, and how its errors are measured.

    reference: a function of the path's whole ``Increment``, or the name of a method that is run on
    a grid ``refine`` times finer; None where no paths are compared. paths, steps: of that. grid,
    test: for expectations; None where there are none. one_kernel: whether a whole trajectory can
    be one.
    """

    name: str
    sde: Any
    x0: Tensor
    reference: str | Callable[[Any], Tensor] | None
    refine: int = 1
    grid: Grid | None = None
    test: Callable[[Tensor], Tensor] | None = None
    paths: int = 2048
    steps: tuple[int, ...] = (4, 8, 16, 32, 64)
    nodes: int = 6
    weak_steps: tuple[int, ...] = (4, 8, 16, 32, 64)
    weak_t1: float = 1.0
    one_kernel: bool = True


class ScalarGBM:
    """GBM of one Brownian motion for all components, with its solution."""

    noise_type = "scalar"
    mu, sigma = 0.3, 0.5

    def drift(self, t, x):
        return self.mu * x

    def diffusion(self, t, x):
        return self.sigma * x

    def exact(self, s, t, x, dw):
        rate = (self.mu - 0.5 * self.sigma**2) * (t - s)
        return x * torch.exp(rate + self.sigma * dw)[:, None]


class StratonovichForm:
    """An equation's other form, with its solution."""

    interpretation = "stratonovich"

    def __init__(self, sde):
        form = to_stratonovich(sde)
        self.noise_type, self.exact = sde.noise_type, sde.exact
        self.drift, self.diffusion = form.drift, form.diffusion


class ScalarCIR:
    """CIR of one Brownian motion for all components."""

    noise_type, nonnegative = "scalar", ...

    def __init__(self, sde):
        self.drift, self.diffusion = sde.drift, sde.diffusion


def force(q):
    return torch.sin(q) - 0.6 * torch.cos(2.0 * q)


def potential(q):
    return torch.cos(q) + 0.3 * torch.sin(2.0 * q)


def waves(x):
    x = x.flatten(1)
    return torch.cat([x.sin(), x.cos()], 1)


def powers(x):
    return torch.cat([x, x**2], 1)


def phase_space(x):
    q, v = x[:, 0], x[:, 1]
    return torch.cat([q.sin(), q.cos(), v, v * q.sin(), v**2], 1)


def variance_waves(x):
    return torch.cat([torch.sin(2.0 * x), torch.cos(2.0 * x)], 1)


def price_waves(x):
    y, v = x.unbind(1)
    return torch.stack([y.sin(), y.cos(), v * y.sin(), v], 1)


def geometric(w):
    dw = w.dw[:, None] if w.dw.ndim == 1 else w.dw
    return torch.exp((0.3 - 0.125) + 0.5 * dw)


def row(*values):
    return torch.tensor([values], dtype=F64)


LANGEVIN = Langevin(potential, force=force, temperature=0.7)
UNDERDAMPED = UnderdampedLangevin(potential, force=force, friction=1.3, temperature=0.7)
MATRIX = torch.tensor([[1.0, -0.8], [0.5, 0.6]], dtype=F64)
NOISE = torch.tensor([[0.6, 0.2], [-0.3, 0.5]], dtype=F64)
# 2 kappa theta / xi^2 is 5.6 and 33: paths do not come near zero, nor do the rule's nodes in the
# second, where the grid wants to see smooth functions. The first is loud enough for order 1/2.
LOUD, QUIET = CIR(kappa=1.0, theta=1.0, xi=0.6), CIR(kappa=1.5, theta=1.0, xi=0.3)
STOCHASTIC_VOLATILITY = Heston(rate=0.1, kappa=1.5, theta=0.4, xi=0.2, rho=-0.6)
SQUARE_ROOTS = (16, 32, 64, 128, 256)  # coarser steps see order 0.65 of Euler's methods
ONE, TWO = Grid(Gaussian(4)), Grid(Gaussian(4), Gaussian(4))

SPECIAL = (
    Special("OU", OU(1.2, 0.3, 0.7), row(1.0), "sra1", 8, ONE, powers),
    Special("GBM", GBM(0.3, 0.5), row(1.0), geometric, 1, ONE, powers),
    Special("scalar GBM", ScalarGBM(), row(1.0), geometric, 1, ONE, powers),
    *(
        Special(f"{name}, Stratonovich", StratonovichForm(sde), row(1.0), geometric, 1, ONE, powers)
        for name, sde in (("GBM", GBM(0.3, 0.5)), ("scalar GBM", ScalarGBM()))
    ),
    # Its matrix exponential takes as many doublings as the step is long: no kernel does.
    Special(
        "matrix OU",
        MatrixOU(MATRIX, 0.2, NOISE),
        row(1.0, -1.0),
        "euler_maruyama",
        64,
        TWO,
        powers,
        one_kernel=False,
    ),
    Special(
        "matrix OU, Stratonovich",
        StratonovichForm(MatrixOU(MATRIX, 0.2, NOISE)),
        row(1.0, -1.0),
        "heun",
        16,
        TWO,
        powers,
        one_kernel=False,
    ),
    # Rejections are rare, and most of the error: many paths.
    Special("Langevin", LANGEVIN, row(0.4), "sra1", 4, Grid(Periodic(41)), waves, 1 << 15),
    Special(
        "underdamped Langevin",
        UNDERDAMPED,
        row(0.4, 0.5)[..., None],
        "quicsort",
        4,
        # Over longer times, or with more nodes, rounding in far velocities shows: 1e-7.
        Grid(Periodic(25), Gaussian(18, std=0.7**0.5), event=(2, 1)),
        phase_space,
        weak_steps=(2, 4, 8, 16, 32),
        weak_t1=0.5,
    ),
    Special("CIR", LOUD, row(1.1), "milstein", 16, paths=1024, steps=SQUARE_ROOTS),
    Special(
        "scalar CIR",
        ScalarCIR(LOUD),
        row(1.1, 0.8),
        "milstein",
        4,
        paths=1024,
        steps=SQUARE_ROOTS,
    ),
    Special(
        "quiet scalar CIR",
        ScalarCIR(QUIET),
        row(1.1, 0.8),
        None,
        1,
        Grid(Gaussian(10, 1.0, 0.1), Gaussian(10, 1.0, 0.1)),
        variance_waves,
    ),
    Special("quiet CIR", QUIET, row(1.1), None, 1, Grid(Gaussian(10, 1.0, 0.1)), variance_waves),
    Special(
        "Heston",
        STOCHASTIC_VOLATILITY,
        row(0.0, 0.45),
        "euler_maruyama",
        64,
        Grid(Periodic(13), Gaussian(8, 0.4, 0.05)),
        price_waves,
    ),
)
