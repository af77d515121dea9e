"""A law of the plane: how to draw from it, its exact mean and covariance, its density if known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, final

import sdekit_kernels
import torch
from sdekit_kernels.checks import check_int_range
from torch import Tensor

from sdekit.data.dataset import Dataset
from sdekit.noise import keys

__all__ = ["HELD_OUT", "Plane"]

HELD_OUT: Final = 1 << 40
"""Held-out samples of a law are those from this number on; training samples start at 0."""


@final
@dataclass(frozen=True, slots=True)
class Plane:
    """A law on R^2.

    draw: normals (n, normals), float64, to points (n, 2). mean, cov: exact, (2,) and (2, 2) in
    float64. log_density: x (..., 2) to nats (...), where a closed form is known.
    """

    name: str
    normals: int
    draw: Callable[[Tensor], Tensor]
    mean: Tensor
    cov: Tensor
    log_density: Callable[[Tensor], Tensor] | None = None

    def sample(
        self, n: int, *, seed: int = 0, first_sample: int = 0, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """Samples first_sample .. first_sample + n - 1 of this seed, (n, 2): stream DATA.

        Each is a function of the seed and its own number. The normals are float32, the same bits
        everywhere; what follows is float64 and rounded once to ``dtype``, so that in float32 a last
        bit of the machine's sine can change about one number in 2^29.
        """
        z = sdekit_kernels.normal(
            (check_int_range("n", n, 0, 1 << 40), self.normals),
            seed=seed,
            stream=keys.DATA,
            first_sample=first_sample,
        )
        return self.draw(z.double()).to(dtype)

    def __call__(self, n: int = 10_000, *, test: int = 2_000, seed: int = 0) -> Dataset:
        """n samples to train on and ``test`` held-out ones, whose numbers no n reaches."""
        held = self.sample(test, seed=seed, first_sample=HELD_OUT)
        return Dataset(self.name, self.sample(n, seed=seed), held)
