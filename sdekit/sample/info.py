"""What a sampler reports besides its samples."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from sdekit_kernels.dispatch import Choice
from torch import Tensor

FINISHED, NON_FINITE = 0, 1


@dataclass(frozen=True, slots=True)
class SampleInfo:
    """The course of a sampling run; tensors live on the samples' device.

    status: (B,) int8, 0 finished, 1 non-finite. nonfinite_step: (B,) int64, the first step of the
    loop (0..N - 1) after which the sample was not finite, -1 where it always was. nfe: evaluations
    of the score, each on the whole batch. backend, reason: which kernels ran, and why.
    path: (K, B, D...) states along the way, or None; the first is the start, the last what is
    returned. path_t: (K,) float64 on the host, their times (noise levels for annealed Langevin).
    """

    status: Tensor
    nonfinite_step: Tensor
    nfe: int
    backend: str
    reason: str
    path: Tensor | None = None
    path_t: Tensor | None = None


class Recorder:
    """Watches a loop of n steps without reading a value back from the device.

    ``path_points`` states are kept, evenly spaced in steps; a sample's first non-finite step is
    found by one more pass over the state, which is why nothing is watched unless asked for.
    """

    def __init__(self, x: Tensor, t: float, n: int, path_points: int) -> None:
        self.first_bad = torch.full(x.shape[:1], -1, dtype=torch.int64, device=x.device)
        marks = torch.linspace(0, n, path_points, dtype=torch.float64).round()
        self.marks = {int(k) for k in marks} if path_points else set()
        self.states, self.times = ([x], [t]) if path_points else ([], [])

    def after(self, i: int, t: float, x: Tensor) -> None:
        """Take note of the state after step i, in the coordinates that the user sees."""
        bad = ~torch.isfinite(x).flatten(1).all(1)
        self.first_bad.masked_fill_(bad & (self.first_bad < 0), i)
        if i + 1 in self.marks:
            self.states.append(x)
            self.times.append(t)

    def whole(self, bad: Tensor, kept: list[Tensor], times: list[float]) -> None:
        """Take note of a run that was one kernel: ``kept`` are the states after the marks."""
        self.first_bad = bad
        if self.states:
            self.states += kept
            self.times += [times[k] for k in sorted(self.marks) if k > 0]

    def info(self, nfe: int, choice: Choice, how: str = "") -> SampleInfo:
        """The report; how: which way the run went."""
        path = torch.stack(self.states) if self.states else None
        return SampleInfo(
            status=(self.first_bad >= 0).to(torch.int8),
            nonfinite_step=self.first_bad,
            nfe=nfe,
            backend=choice.backend,
            reason=f"{choice.reason}; {how}" if how else choice.reason,
            path=path,
            path_t=None if path is None else torch.tensor(self.times, dtype=torch.float64),
        )
