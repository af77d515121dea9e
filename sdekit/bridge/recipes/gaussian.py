r"""Between two Gaussians of the plane, with affine drifts: every half-step beside its closed form.

A fitted drift is affine, so that the joint law of both ends of its chain is a Gaussian, known
without sampling. Its divergence from the Schrödinger bridge's joint law,

    KL(fitted | bridge),   in nats,

stands beside that of the exact iterate with the same N steps, which no regression can better on
the mean, and that of the iterate in continuous time, which tends to zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, final

import sdekit_kernels
import torch
from sdekit_kernels.checks import check_int_range
from torch import Tensor

from sdekit.bridge.closed_form import (
    AffineMap,
    Joint,
    gaussian_bridge,
    imf_iterates,
    ipf_iterates,
)
from sdekit.bridge.closed_form.chain import run_chain
from sdekit.bridge.closed_form.inputs import Gaussian, two_laws
from sdekit.bridge.divergences import gaussian_kl
from sdekit.bridge.drifts import AffineDrift
from sdekit.bridge.driver import Driver
from sdekit.bridge.recipes.base import Device, Recipe
from sdekit.bridge.regression import LeastSquares
from sdekit.bridge.trajectories import chain_noise
from sdekit.data.plane import HELD_OUT
from sdekit.noise import keys

Matrix = tuple[tuple[float, float], tuple[float, float]]


@final
@dataclass(frozen=True, slots=True)
class GaussianLaw:
    """A Gaussian from which a driver can draw, (n, 2) in float64: stream DATA."""

    mean: tuple[float, float]
    cov: Matrix

    def sample(self, n: int, *, seed: int = 0, first_sample: int = 0) -> Tensor:
        """Samples first_sample, .. of this seed."""
        z = sdekit_kernels.normal(
            (check_int_range("n", n, 0, 1 << 40), 2),
            seed=seed,
            stream=keys.DATA,
            first_sample=first_sample,
            dtype=torch.float64,
        )
        root = torch.linalg.cholesky(torch.tensor(self.cov, dtype=torch.float64))
        return torch.tensor(self.mean, dtype=torch.float64) + z @ root.mT


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Gaussians(Recipe):
    """N(mean0, cov0) to N(mean1, cov1) by least squares over ``paths`` paths; cov0, cov1 do not
    commute.
    """

    name: ClassVar[str] = "gaussian"
    titles: ClassVar[tuple[str, str]] = ("source", "target")

    mean0: tuple[float, float] = (-1.0, 0.0)
    cov0: Matrix = ((1.0, 0.6), (0.6, 0.8))
    mean1: tuple[float, float] = (1.0, 0.5)
    cov1: Matrix = ((0.5, -0.2), (-0.2, 1.2))

    def ends(self, device: Device = "cpu") -> tuple[Any, Any]:
        """Both laws; they are on the CPU whatever the device."""
        return GaussianLaw(self.mean0, self.cov0), GaussianLaw(self.mean1, self.cov1)

    def held_out(self, n: int, device: Device = "cpu") -> tuple[Tensor, Tensor]:
        """Draws whose numbers no path has."""
        x0, x1 = (law.sample(n, seed=self.seed, first_sample=HELD_OUT) for law in self.ends())
        return x0, x1

    def regression(self, device: Device = "cpu") -> LeastSquares:
        """In closed form."""
        return LeastSquares()

    def shortened(self, steps: int) -> Recipe:
        """Least squares have no steps: raises ValueError."""
        raise ValueError(
            "the gaussian recipe fits by least squares, which has no steps: leave --steps away, "
            "and write --half-steps"
        )

    def options(self) -> dict[str, Any]:
        """In float64; DSB reverses its own Euler chain, as the exact iterates do."""
        own: dict[str, Any] = {"dtype": torch.float64}
        return own | ({"first": "paths"} if self.algorithm == "dsb" else {})

    @property
    def laws(self) -> tuple[Any, Any, Any, Any]:
        """What the closed forms take."""
        return self.mean0, self.cov0, self.mean1, self.cov1

    def bridge(self) -> Joint:
        """The joint law of both ends of the Schrödinger bridge."""
        return gaussian_bridge(*self.laws, self.sigma).joint

    def fitted_kl(self, driver: Driver) -> float:
        """KL of the half-bridge that was fitted last from the bridge, in nats."""
        return _kl(joint_of(driver, *two_laws(*self.laws)), self.bridge())

    def exact_kl(self, driver: Driver, half_steps: int) -> tuple[list[float], list[float]]:
        """The same of the exact iterates 1, 2, ..: with the driver's steps, in continuous time."""
        found = []
        for steps in (driver.grid.times, None):
            if self.algorithm == "dsb":
                joints = ipf_iterates(*self.laws, self.sigma, half_steps=half_steps, steps=steps)
            else:
                joints = imf_iterates(*self.laws, self.sigma, iterations=half_steps, steps=steps)
            found.append([_kl(joint, self.bridge()) for joint in joints[1:]])
        return found[0], found[1]


def joint_of(driver: Driver, source: Gaussian, target: Gaussian) -> Joint:
    """The joint law of both ends of the chain whose affine drift was fitted last, exactly."""
    way, grid = driver.direction(driver.half_step), driver.grid
    drift = driver.transport.drift(way)
    assert isinstance(drift, AffineDrift)
    start = source if way == "forward" else target
    h, one = grid.lengths(way), torch.eye(len(start.mean), dtype=torch.float64)
    maps = [
        AffineMap(one + dt * A, dt * c)
        for dt, A, c in zip(h, drift.matrices, drift.shifts, strict=True)
    ]
    g = chain_noise(grid, driver.reference, way, driver.noise, start.mean.unsqueeze(0))
    noise = (g.square() * h.unsqueeze(1)).expand(grid.N, len(start.mean))
    found = run_chain(start, maps, noise).ends
    return found if way == "forward" else found.reversed()


def _kl(joint: Joint, bridge: Joint) -> float:
    return gaussian_kl(joint.mean, joint.cov, bridge.mean, bridge.cov)


GAUSSIAN = {
    "dsb": Gaussians(algorithm="dsb", half_steps=12, paths=20_000),
    "dsbm": Gaussians(half_steps=12, paths=20_000),
}
