"""What an ODE solve found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sdekit_kernels.steps.runge_kutta import DONE, MAX_STEPS, NONFINITE, UNDERFLOW
from torch import Tensor

__all__ = ["MAX_STEPS", "NONFINITE", "OK", "STATUS", "UNDERFLOW", "OdeSolution", "Steps"]

OK: Final = DONE
STATUS: Final = {
    OK: "ok",
    NONFINITE: "left the finite numbers",
    UNDERFLOW: "its step size shrank to nothing",
    MAX_STEPS: "max_steps reached",
}
"""What a status says."""


@dataclass(frozen=True, slots=True)
class Steps:
    """The accepted steps of a solve, in the order of attempts.

    Each entry: rows (m,) int64 of the batch, t (m,) and dt (m,) float64 of the step they made.
    """

    entries: list[tuple[Tensor, Tensor, Tensor]]


@dataclass(frozen=True, slots=True)
class OdeSolution:
    """Per sample, B of them.

    y: (B, n) at t1; where status is not 0, the last state that was accepted. t: (B,) float64, the
    time of y. status: (B,) int8, see ``STATUS``. nfe: (B,) int64, evaluations of the field.
    accepted, rejected: (B,) int64, steps. stiff: (B,) bool, whether the sample went over to the
    stabilized method. saved: (S, B, n) at the times of save_at, NaN beyond t, or None. path: what
    ran, "step_kernel" or "trajectory_kernel" or "torch", and why in reason.
    """

    y: Tensor
    t: Tensor
    status: Tensor
    nfe: Tensor
    accepted: Tensor
    rejected: Tensor
    stiff: Tensor
    saved: Tensor | None
    path: str
    reason: str
    steps: Steps | None = None
