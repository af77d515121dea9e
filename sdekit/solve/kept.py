"""What becomes of the states that a trajectory kernel passes at the saved times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from sdekit_kernels.fuse.statistics import Statistics
from torch import Tensor

__all__ = ["Kept", "Saved", "Target"]

Target = tuple[Tensor | None, Tensor | None, Statistics | None]
"""``slots``, ``saved`` and ``statistics`` of a launch."""


class Kept(Protocol):
    """The saved times are rows 0, 1, ...; a kernel sees those on the grid, but not the first."""

    def put_first(self, x: Tensor) -> None:
        """The states x (B, D...) at the first time, row 0."""

    def put(self, row: int, x: Tensor) -> None:
        """The states x (B, D...) at a time between the grid's."""

    def of_launch(self, rows: Sequence[int], last: bool) -> Target:
        """What a launch shall do after each step: the row that the state is for, or -1.

        last: whether the launch's last step is that of the solve.
        """


class Saved:
    """States (rows, S, n) in the kernel's layout, of all S components that the kernel carries."""

    def __init__(self, rows: int, flat: Tensor) -> None:
        self.states = flat.new_empty((rows, *flat.shape))

    def put_first(self, x: Tensor) -> None:
        """Keep x in row 0."""
        self.put(0, x)

    def put(self, row: int, x: Tensor) -> None:
        """Keep x, of which the states are the first components."""
        self.states[row, : x[0].numel()] = x.reshape(x.shape[0], -1).t()

    def of_launch(self, rows: Sequence[int], last: bool) -> Target:
        """The kernel fills the rows itself."""
        if all(row < 0 for row in rows):
            return None, None, None
        slots = torch.tensor(rows, dtype=torch.int32, device=self.states.device)
        return slots, self.states, None

    def x(self, like: Tensor) -> Tensor:
        """The states at the saved times, (rows, B, D...), of samples like these."""
        x = self.states[:, : like[0].numel()].transpose(1, 2)
        return x.reshape(len(x), *like.shape)
