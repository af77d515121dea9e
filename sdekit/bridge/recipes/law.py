"""The Gaussian at an end of a bridge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import sdekit_kernels
import torch
from sdekit_kernels.checks import check_int_range
from torch import Tensor

from sdekit.noise import keys
from sdekit.sde.parameters import log_normal_density


@final
@dataclass(frozen=True, slots=True)
class StandardNormal:
    """N(0, 1) in each component of events D..."""

    event_shape: tuple[int, ...]

    def sample(self, n: int, *, seed: int = 0, first_sample: int = 0) -> Tensor:
        """Samples first_sample, .. of this seed, (n, D...) float32: stream DATA."""
        count = check_int_range("n", n, 0, 1 << 40)
        return sdekit_kernels.normal(
            (count, *self.event_shape), seed=seed, stream=keys.DATA, first_sample=first_sample
        )

    def log_prob(self, x: Tensor) -> Tensor:
        """log-density in nats of x (B, D...), (B,)."""
        return log_normal_density(x.flatten(1), torch.ones((), dtype=x.dtype)).sum(1)
