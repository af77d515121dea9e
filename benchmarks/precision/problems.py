r"""The equations on which error is held against work, and what their answers are held to.

All are solved in float64 from one state. ``drift`` and ``diffusion`` are those of the Ito form, or
of the Stratonovich form, f - g g' / 2, as ``interpretation`` says; every library reads them, but
for what ``equation`` gives to sdekit alone. ``compare`` gives for each kind of error one number a
path: "strong" is the mean distance from the solution on the same Brownian path, "weak" the size of
a mean difference of expectations.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from functools import cache
from typing import Any, ClassVar, final

import torch
from torch import Tensor

import sdekit as sk
from benchmarks.precision.control import without_path
from benchmarks.precision.path import Path

__all__ = ["GBM", "PROBLEMS", "Additive", "Arctangent", "DoubleWell", "Heston", "Problem"]

Targets = dict[str, tuple[float, ...]]


class Problem(ABC):
    """dx = drift dt + diffusion dW on [0, span].

    title: for people. formula: the equation in a line. targets: for each kind of error the values
    to which times are given. start: the state that all paths begin in. channels: columns of the
    Brownian path that sdekit draws; driven: those that the rivals' diffusion sees. paths: of a
    timed solve. batches: solves with seeds of their own whose errors are averaged. steps: numbers
    of steps that are tried.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    formula: ClassVar[str]
    targets: ClassVar[Targets] = {"strong": (1e-2, 1e-3, 1e-4)}
    start: ClassVar[tuple[float, ...]]
    noise_type: ClassVar[str]
    channels: ClassVar[int] = 1
    driven: ClassVar[slice] = slice(None)
    span: ClassVar[float] = 1.0
    paths: ClassVar[int] = 100_000
    batches: ClassVar[int] = 1
    steps: ClassVar[tuple[int, ...]] = tuple(2**k for k in range(2, 11))

    def __init__(self, interpretation: str = "ito") -> None:
        self.interpretation = interpretation

    @property
    def stratonovich(self) -> bool:
        """Which of the two forms this is."""
        return self.interpretation == "stratonovich"

    @abstractmethod
    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """f, (B, D)."""

    @abstractmethod
    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        """g, (B, D), or (B, D, M) of more than one Brownian motion, or of one that is not x's."""

    def equation(self) -> Any:
        """What sdekit solves."""
        return self

    def x0(self, paths: int) -> Tensor:
        """All paths at ``start``."""
        return torch.tensor(self.start, dtype=torch.float64).repeat(paths, 1)

    def path(self, steps: int, seed: int) -> Path:
        """The Brownian path of the solves whose errors are measured."""
        return Path(self.paths, self.channels, self.span, steps, seed)

    @abstractmethod
    def compare(self, x: Tensor, path: Path) -> dict[str, Tensor]:
        """For each kind of error one number a path, (B,), whose mean's size it is."""


class _Closed(Problem):
    """x(T) is a function of W(T)."""

    @abstractmethod
    def solution(self, t: float, w: Tensor) -> Tensor:
        """x(t) where W(t) = w."""

    def compare(self, x: Tensor, path: Path) -> dict[str, Tensor]:
        return {"strong": (x - self.solution(path.span, path.end())).norm(dim=1)}


@final
class GBM(_Closed):
    """x(t) = x0 exp((mu - sigma^2 / 2) t + sigma W(t))."""

    name, title = "GBM", "Geometric Brownian motion"
    formula = "dx = 1.5 x dt + 0.5 x dW"
    start, noise_type = (1.0,), "diagonal"
    mu, sigma = 1.5, 0.5

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        mu = self.mu - 0.5 * self.sigma**2 if self.stratonovich else self.mu
        return mu * x

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        return self.sigma * x

    def solution(self, t: float, w: Tensor) -> Tensor:
        return self.start[0] * torch.exp((self.mu - 0.5 * self.sigma**2) * t + self.sigma * w)


@final
class Additive(_Closed):
    """x(t) = (x0 + b (t + a W(t))) / sqrt(1 + t)."""

    name, title = "additive", "Additive noise"
    formula = "dx = (b / sqrt(1 + t) - x / (2 + 2 t)) dt + a b / sqrt(1 + t) dW, a = 0.5, b = 2"
    start, noise_type = (1.0,), "additive"
    targets: ClassVar[Targets] = {"strong": (1e-3, 1e-4, 1e-5)}
    a, b = 0.5, 2.0

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        return self.b / (1.0 + t) ** 0.5 - x / (2.0 + 2.0 * t)

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        return torch.ones_like(x) * (self.a * self.b / (1.0 + t) ** 0.5)

    def solution(self, t: float, w: Tensor) -> Tensor:
        return (self.start[0] + self.b * (t + self.a * w)) / math.sqrt(1.0 + t)


@final
class Arctangent(_Closed):
    """x(t) = atan(p W(t) + tan x0); the Stratonovich form has no drift."""

    name, title = "arctangent", "Nonlinear noise"
    formula = "dx = -p^2 sin x cos^3 x dt + p cos^2 x dW, p = 1"
    start, noise_type = (1.0,), "diagonal"
    p = 1.0

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        if self.stratonovich:
            return torch.zeros_like(x)
        return -(self.p**2) * x.sin() * x.cos() ** 3

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        return self.p * x.cos() ** 2

    def solution(self, t: float, w: Tensor) -> Tensor:
        return torch.atan(self.p * w + math.tan(self.start[0]))


@final
class DoubleWell(Problem):
    """Underdamped Langevin dynamics, x = (q, v), U = (q^2 - 1)^2, temperature and mass 1.

    The reference is the same Brownian path in ``finest`` steps of QUICSORT, of order 3, whose own
    error is 1/64 of what it has at the largest of ``steps``. "weak" is the error of E[U(q) + v^2 /
    2], the mean of differences over the same paths: its standard error falls with the strong error.
    """

    name, title = "double well", "Underdamped Langevin, double well"
    formula = "dq = v dt, dv = (4 q - 4 q^3 - v) dt + sqrt(2) dW"
    targets: ClassVar[Targets] = {"strong": (1e-1, 1e-2, 1e-3), "weak": (1e-1, 1e-2, 1e-3)}
    start, noise_type = (1.0, 0.0), "additive"
    channels, driven = 2, slice(1, 2)
    span = 4.0
    steps = tuple(2**k for k in range(3, 8))
    friction = 1.0
    checked, finest = 1 << 14, 1 << 9

    @staticmethod
    def force(q: Tensor) -> Tensor:
        """-U'(q)."""
        return 4.0 * q - 4.0 * q * q * q

    @staticmethod
    def potential(q: Tensor) -> Tensor:
        """U(q)."""
        return (q * q - 1.0).square()

    def equation(self) -> sk.UnderdampedLangevin:
        return sk.UnderdampedLangevin(self.potential, force=self.force, friction=self.friction)

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        q, v = x.unbind(1)
        return torch.stack([v, self.force(q) - self.friction * v], 1)

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        column = torch.tensor([[0.0], [math.sqrt(2.0 * self.friction)]], dtype=x.dtype)
        return column.expand(x.shape[0], 2, 1)

    def path(self, steps: int, seed: int) -> Path:
        refine = self.finest // steps
        return Path(self.checked, self.channels, self.span, steps, seed, refine)

    def compare(self, x: Tensor, path: Path) -> dict[str, Tensor]:
        exact = _double_well(path.paths, path.seed)
        return {"strong": (x - exact).norm(dim=1), "weak": self.energy(x) - self.energy(exact)}

    def energy(self, x: Tensor) -> Tensor:
        """U(q) + v^2 / 2, (B,)."""
        q, v = x.unbind(1)
        return self.potential(q) + 0.5 * v * v


@cache
def _double_well(paths: int, seed: int) -> Tensor:
    problem = DoubleWell()
    return sk.solve(
        problem.equation(),
        problem.x0(paths),
        t1=problem.span,
        steps=problem.finest,
        method="quicsort",
        seed=seed,
    ).x


@final
class Heston(Problem):
    """A European call on (log price, variance), by error of the law: its price is known.

    Parameters of Broadie & Kaya 2006, whose table gives the price 6.8061. The rivals' coefficients
    have v+ = max(v, 0), so that Euler's method is full truncation; sdekit solves ``sk.Heston``.
    """

    name, title = "Heston", "Heston, price of a call"
    formula = (
        "d log s = (0.0319 - v / 2) dt + sqrt(v) (-0.7 dW1 + 0.71 dW2), "
        "dv = 6.21 (0.019 - v) dt + 0.61 sqrt(v) dW1, s = strike = 100, v = 0.010201, T = 1"
    )
    targets: ClassVar[Targets] = {"weak": (3e-1, 1e-1, 3e-2)}
    start, noise_type = (math.log(100.0), 0.010201), "general"
    channels = 2
    batches = 8
    steps = tuple(2**k for k in range(1, 8))
    strike = 100.0
    rate, kappa, theta, xi, rho = 0.0319, 6.21, 0.019, 0.61, -0.7

    def equation(self) -> sk.Heston:
        return sk.Heston(self.rate, self.kappa, self.theta, self.xi, self.rho)

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        v = x[:, 1].clamp(min=0.0)
        price, variance = self.rate - 0.5 * v, self.kappa * (self.theta - v)
        if self.stratonovich:
            price, variance = price - 0.25 * self.rho * self.xi, variance - 0.25 * self.xi**2
        return torch.stack([price, variance], 1)

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        root = x[:, 1].clamp(min=0.0).sqrt()
        price = torch.stack([self.rho * root, math.sqrt(1.0 - self.rho**2) * root], 1)
        variance = torch.stack([self.xi * root, torch.zeros_like(root)], 1)
        return torch.stack([price, variance], 1)

    def price(self) -> float:
        """The call's exact price, from the characteristic function."""
        return float(self.equation().call_price(self.strike, self.span, self.x0(1)))

    def payoff(self, log_price: Tensor) -> Tensor:
        """What the call pays, discounted, (B,)."""
        discount = math.exp(-self.rate * self.span)
        return discount * (log_price.exp() - self.strike).clamp(min=0.0)

    def compare(self, x: Tensor, path: Path) -> dict[str, Tensor]:
        paid = without_path(self.payoff(x[:, 0]), self._controls(path.end()))
        return {"weak": paid - self.price()}

    def _controls(self, w: Tensor) -> list[Tensor]:
        """Functions of W(T) alone with mean zero: a call under Black and Scholes, and powers."""
        a, b = w.unbind(1)
        v = self.theta + (self.start[1] - self.theta) * -math.expm1(-self.kappa * self.span) / (
            self.kappa * self.span
        )
        own = self.rho * a + math.sqrt(1.0 - self.rho**2) * b
        s = self.start[0] + (self.rate - 0.5 * v) * self.span + math.sqrt(v) * own
        constant = sk.Heston(self.rate, 1.0, v, 0.0, 0.0)
        start = torch.tensor([[self.start[0], v]], dtype=torch.float64)
        black_scholes = float(constant.call_price(self.strike, self.span, start))
        call = self.payoff(s) - black_scholes
        return [call, a, b, a * a - self.span, b * b - self.span, a * b]


PROBLEMS: tuple[type[Problem], ...] = (GBM, Additive, Arctangent, DoubleWell, Heston)
