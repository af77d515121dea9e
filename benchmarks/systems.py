"""The equations that whole trajectories are timed on, in plain torch, for every contender alike.

``drift``/``diffusion`` is what sdekit calls, ``f``/``g`` what torchsde calls; noise types and
shapes have the same names and meanings in both. Notation: state x of shape (B, D), M Brownian
motions a path, ``start`` the state that all paths begin in, ``span`` the time that ``steps`` steps
cover.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from benchmarks.checks import Reference, affine_reference


class System(ABC):
    """dx = drift dt + diffusion dW (Ito), autonomous; parameters in ``dtype`` on ``device``."""

    name: ClassVar[str]
    start: ClassVar[tuple[float, ...]]
    noise_type: ClassVar[str] = "diagonal"
    sde_type: ClassVar[str] = "ito"
    span: float = 1.0
    steps: int = 100

    def __init__(
        self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> None:
        self.like: dict[str, Any] = {"dtype": dtype, "device": device}

    @abstractmethod
    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """f(x), (B, D)."""

    @abstractmethod
    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        """G(x), (B, D) for diagonal noise and (B, D, M) for general noise."""

    def f(self, t: Tensor, x: Tensor) -> Tensor:
        """torchsde's name of the drift."""
        return self.drift(t, x)

    def g(self, t: Tensor, x: Tensor) -> Tensor:
        """torchsde's name of the diffusion."""
        return self.diffusion(t, x)

    def to(self, dtype: torch.dtype) -> System:
        """The same equation over the same grid in another type."""
        return self._on_same_grid(type(self)(dtype, self.like["device"]))

    def _on_same_grid(self, other: System) -> System:
        other.span, other.steps = self.span, self.steps  # a dry run takes fewer steps
        return other

    @property
    def dim(self) -> int:
        """D."""
        return len(self.start)

    @property
    def channels(self) -> int:
        """M."""
        return self.dim

    def x0(self, paths: int) -> Tensor:
        """All paths at ``start``."""
        return torch.tensor(self.start, **self.like).repeat(paths, 1)

    def exact(self) -> Reference | None:
        """Moments of Euler-Maruyama's own recursion after the last step, if known."""
        return None


@final
class OU(System):
    """dx = theta (mu - x) dt + sigma dW."""

    name = "OU"
    start = (2.0,)
    theta, mu, sigma = 1.3, -0.5, 0.8

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        return self.theta * (self.mu - x)

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        return torch.full_like(x, self.sigma)

    def exact(self) -> Reference:
        dt = self.span / self.steps
        shrink, noise = 1.0 - self.theta * dt, self.sigma**2 * dt
        return affine_reference(
            self.start, self.steps, shrink, shift=self.theta * self.mu * dt, variance=(0.0, noise)
        )


@final
class GBM(System):
    """dX = 1.5 X dt + 0.01 X dW in three components: the ensemble benchmark of DiffEqGPU.jl."""

    name = "GBM"
    start = (0.1, 0.1, 0.1)
    steps = 256
    mu, sigma = 1.5, 0.01

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        return self.mu * x

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        return self.sigma * x

    def exact(self) -> Reference:
        dt = self.span / self.steps
        return affine_reference(
            self.start, self.steps, 1.0 + self.mu * dt, variance=(self.sigma**2 * dt, 0.0)
        )


@final
class Lorenz(System):
    """Lorenz 1963 with additive noise; after one unit of time paths are on different lobes."""

    name = "stochastic Lorenz"
    start = (1.0, 1.0, 20.0)
    steps = 200
    sigma, rho, beta, noise = 10.0, 28.0, 8.0 / 3.0, 1.0

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        u, v, w = x.unbind(-1)
        return torch.stack(
            [self.sigma * (v - u), u * (self.rho - w) - v, u * v - self.beta * w], dim=-1
        )

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        return torch.full_like(x, self.noise)


@final
class Heston(System):
    """Log-price and variance with correlated noise, full truncation (Lord, Koekkoek & Dijk 2010).

    d log s = (mu - v+ / 2) dt + sqrt(v+) dW1, dv = kappa (theta - v+) dt + xi sqrt(v+) dZ,
    Z = rho W1 + sqrt(1 - rho^2) W2, v+ = max(v, 0).
    """

    name = "Heston"
    start = (math.log(100.0), 0.04)
    noise_type = "general"
    mu, kappa, theta, xi, rho = 0.05, 1.5, 0.04, 0.5, -0.7

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        v = x[:, 1].clamp(min=0.0)
        return torch.stack([self.mu - 0.5 * v, self.kappa * (self.theta - v)], dim=-1)

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        root = x[:, 1].clamp(min=0.0).sqrt()
        across, own = self.xi * self.rho, self.xi * math.sqrt(1.0 - self.rho**2)
        price = torch.stack([root, torch.zeros_like(root)], dim=-1)
        variance = torch.stack([across * root, own * root], dim=-1)
        return torch.stack([price, variance], dim=1)


@final
class GeneCircuit(System):
    """Two genes that repress each other: chemical Langevin equation (Gillespie 2000).

    x = (m1, p1, m2, p2), copies of messengers and proteins. Four reactions a gene: messengers are
    made, rate / (1 + (p_other / half)^2), and decay, decay m; proteins are made, translation m, and
    lost, loss p. Drift S a(x+), diffusion S sqrt(a(x+)): a propensities, S (4 x 8) by how much a
    reaction changes each species, x+ = max(x, 0).
    """

    name = "gene circuit"
    start = (10.0, 40.0, 10.0, 40.0)
    noise_type = "general"
    span = 5.0
    rate, half, decay, translation, loss = 20.0, 40.0, 1.0, 2.0, 0.5

    def __init__(
        self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__(dtype, device)
        gene = torch.tensor([[1.0, -1.0, 0.0, 0.0], [0.0, 0.0, 1.0, -1.0]], **self.like)
        self.stoichiometry = torch.block_diag(gene, gene)

    @property
    def channels(self) -> int:
        """One Brownian motion a reaction."""
        return 8

    def propensities(self, x: Tensor) -> Tensor:
        """a(x+), (B, 8)."""
        m1, p1, m2, p2 = x.clamp(min=0.0).unbind(-1)

        def gene(m: Tensor, p: Tensor, other: Tensor) -> list[Tensor]:
            made = self.rate / (1.0 + (other / self.half) ** 2)
            return [made, self.decay * m, self.translation * m, self.loss * p]

        return torch.stack(gene(m1, p1, p2) + gene(m2, p2, p1), dim=-1)

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        return self.propensities(x) @ self.stoichiometry.T

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        return self.stoichiometry * self.propensities(x).sqrt().unsqueeze(1)


@final
class Mixture(System):
    """Overdamped Langevin dx = grad log p dt + sqrt(2) dW of 16 equal Gaussians on a 4 x 4 grid."""

    name = "mixture Langevin"
    start = (0.5, -0.25)
    std = 0.5

    def __init__(
        self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__(dtype, device)
        places = torch.tensor([-3.0, -1.0, 1.0, 3.0], **self.like)
        self.means = torch.cartesian_prod(places, places)

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        away = self.means - x.unsqueeze(1)  # (B, 16, 2)
        weight = torch.softmax(away.square().sum(-1) / (-2.0 * self.std**2), dim=-1)
        return (weight.unsqueeze(-1) * away).sum(1) / self.std**2

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        return torch.full_like(x, math.sqrt(2.0))


@final
class Ring(System):
    """``dim`` double wells on a ring, each pulled by its neighbours: cost against components."""

    name = "ring"
    start = (0.5,)
    stiffness, noise = 0.4, 0.6

    def __init__(
        self,
        dim: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(dtype, device)
        self.size = dim

    def to(self, dtype: torch.dtype) -> System:
        """The same ring in another type."""
        return self._on_same_grid(Ring(self.size, dtype, self.like["device"]))

    @property
    def dim(self) -> int:
        """D, as many as asked for."""
        return self.size

    def x0(self, paths: int) -> Tensor:
        """All components of all paths at ``start``."""
        return torch.full((paths, self.size), self.start[0], **self.like)

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        pull = torch.roll(x, 1, dims=1) + torch.roll(x, -1, dims=1) - 2.0 * x
        return x - x**3 + self.stiffness * pull

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        return torch.full_like(x, self.noise)


SYSTEMS: tuple[type[System], ...] = (OU, GBM, Lorenz, Heston, GeneCircuit, Mixture)
