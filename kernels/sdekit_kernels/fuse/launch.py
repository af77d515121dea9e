"""What one launch of a trajectory kernel reads and writes."""

from __future__ import annotations

from typing import NamedTuple

import torch

from sdekit_kernels.fuse.program import Program
from sdekit_kernels.fuse.statistics import Statistics
from sdekit_kernels.philox.normal import Draw

__all__ = ["MAX_LAUNCH_STEPS", "Launch"]

MAX_LAUNCH_STEPS = 1 << 16
"""Steps of one launch: the table of a longer run is made in pieces."""


class Launch(NamedTuple):
    """N steps of n paths of S components.

    state: (S, n), read and overwritten with the last state. steps: (N, >= 1) and constants (>= 1,):
    the program's table. paths: (P, n), one row a path parameter. bad: (n,) int64, the number of the
    step after which a path was not finite for the first time, or -1; what is not -1 stays.
    slots: (N,) int32, the row of ``saved`` (rows, S, n) that gets the state after that step, or -1;
    None where nothing is saved. draw: whose noise, and the number of the first step and sample.
    more: the further streams of noise, from the same step and sample.
    antithetic: samples 2i and 2i + 1 share their noise, with opposite signs: sample j takes that of
    j // 2, negated for odd j. statistics: what is reduced at steps with a slot in place of saving
    (``saved`` is None then); slots name its results. All tensors are contiguous and on one device.
    """

    program: Program
    state: torch.Tensor
    steps: torch.Tensor
    constants: torch.Tensor
    paths: torch.Tensor
    bad: torch.Tensor
    slots: torch.Tensor | None
    saved: torch.Tensor | None
    draw: Draw
    antithetic: bool = False
    more: tuple[Draw, ...] = ()
    statistics: Statistics | None = None

    @property
    def keys(self) -> list[int]:
        """The two words of each stream's Philox key."""
        return [word for draw in (self.draw, *self.more) for word in draw.key]
