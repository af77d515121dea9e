"""What ``log_likelihood`` found."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from sdekit.likelihood.transform import DataTransform

__all__ = ["Likelihood", "Stats"]


@dataclass(frozen=True, slots=True)
class Stats:
    """What the solve did.

    path: "trajectory_kernel", "step_kernel", "torch" or "torchdiffeq"; reason: why. divergence:
    what was computed, "closed form", "exact", "hutchinson", "hutch++" or "xtrace". probes: (B,)
    int64, directions for each sample; 0 where there are none. accepted, rejected: (B,) int64 steps.
    stiff: (B,) bool, samples that went over to the stabilized method.
    """

    path: str
    reason: str
    divergence: str
    probes: Tensor
    accepted: Tensor
    rejected: Tensor
    stiff: Tensor


@dataclass(frozen=True, slots=True)
class Likelihood:
    """What ``log_likelihood`` found, one entry a sample.

    log_prob: (B,) nats. std_error: (B,) nats, the standard error that the probes say log_prob has;
    0 for the exact divergence, NaN for a single probe, which cannot tell. nfe: (B,) int64,
    evaluations of the score. status: (B,) int8: 0 ok; 1 left the finite numbers; 2 the step size
    shrank to nothing; 3 max_steps reached. Where status is not 0, log_prob and std_error are NaN.
    latent: (B, D...), where the flow has taken x at t_prior. dim: components of a sample.
    transform: the data transform, if one was given. stats: see ``Stats``. error: the budget, see
    ``ErrorBudget``.
    """

    log_prob: Tensor
    std_error: Tensor
    nfe: Tensor
    status: Tensor
    latent: Tensor
    dim: int
    transform: DataTransform | None
    stats: Stats
    error: Any = field(repr=False)

    @property
    def bits_per_dim(self) -> Tensor:
        """-(log_prob + D log|dx/dk|) / (D ln 2), (B,): bits per component of the integer data.

        Raises ValueError if no transform was given: a density alone has no bits.
        """
        if self.transform is None:
            raise ValueError(
                "bits per dimension need the map from integers to x: write "
                "log_likelihood(..., transform=DataTransform(levels, low, high))"
            )
        return -(self.log_prob / self.dim + self.transform.log_abs_det) / math.log(2.0)

    @property
    def bits_std_error(self) -> Tensor:
        """Standard error of ``bits_per_dim``, (B,)."""
        return self.std_error / (self.dim * math.log(2.0))
