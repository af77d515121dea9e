"""What a solve gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from torch import Tensor

__all__ = ["FINISHED", "NONFINITE", "STOPPED", "Path", "Solution", "SolveStats"]

FINISHED = 0
"""Status of a sample that stayed finite to the end."""
NONFINITE = 1
"""Status of a sample that left the finite numbers."""
STOPPED = 2
"""Status of a sample that met the stop condition, and stayed where it did."""


class Path(NamedTuple):
    """Which way a solve goes.

    name: "trajectory_kernel" (each path from the first time to the last in one launch),
    "step_kernel" (the drift in torch, the update and its noise in one kernel) or "torch" (every
    operation in torch, the noise from a kernel). backend: whose kernels. source: of the trajectory
    kernel, where it was asked for.
    """

    name: str
    backend: str
    reason: str
    source: str = ""

    def __str__(self) -> str:
        text = f"{self.name} ({self.reason})"
        return f"{text}\n\n{self.source}" if self.source else text


@dataclass(frozen=True, slots=True)
class SolveStats:
    """What a solve did.

    path, backend, reason: see ``Path``. steps: of the grid. drift_evaluations: for each sample.
    nonfinite_step: (B,) int64, the first step after which a sample was not finite, -1 if never.
    """

    method: str
    path: str
    backend: str
    reason: str
    steps: int
    drift_evaluations: int
    nonfinite_step: Tensor


@dataclass(frozen=True, slots=True)
class Solution:
    """What a solve gives.

    x: (B, D...) at the last time, or (len(t), B, D...) at the saved times ``t`` (float64, 1-d).
    status: (B,) int8, FINISHED, NONFINITE or STOPPED. functionals: the value of each functional at
    the end, by the name it was given under. stop_time: (B,), when the stop condition was met,
    infinite where it was not; None without one. carried: what the method carries besides x, at the
    end, by the names in the solver's ``carries``.
    """

    x: Tensor
    t: Tensor
    status: Tensor
    stats: SolveStats
    functionals: Mapping[str, Tensor] = field(default_factory=lambda: MappingProxyType({}))
    stop_time: Tensor | None = None
    carried: Mapping[str, Tensor] = field(default_factory=lambda: MappingProxyType({}))
