"""Exponential moving average of a network's weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

import torch
from sdekit_kernels.checks import check_int_range, check_positive
from torch import Tensor, nn


@final
class EMA:
    r"""\bar w_k = d_k \bar w_{k-1} + (1 - d_k) w_k, with d_k = min(decay, k / (k + warmup)).

    k = 1, 2, ... counts the updates. With the warm-up the average forgets its start: after k
    updates it looks back over about a fraction 1 / warmup of them, until k reaches
    decay / (1 - decay) warmup; then over 1 / (1 - decay) updates. warmup = 0 switches it off.
    Buffers are not averaged.
    Raises TypeError or ValueError unless 0 <= decay < 1 and warmup is an integer >= 0.
    """

    def __init__(self, module: nn.Module, decay: float = 0.999, *, warmup: int = 10) -> None:
        self.decay = check_positive("decay", decay, allow_zero=True)
        if self.decay >= 1.0:
            raise ValueError(f"decay must be in [0, 1), got {decay!r}: 1 would never learn")
        self.warmup = check_int_range("warmup", warmup, 0, 1 << 31)
        self.updates = 0
        self._live = list(module.parameters())
        self.average: list[Tensor] = [p.detach().clone() for p in self._live]

    @torch.no_grad()
    def update(self) -> None:
        """Take the module's present weights into the average."""
        self.updates += 1
        decay = min(self.decay, self.updates / (self.updates + self.warmup))
        # One fused pass over all tensors: a Python loop would cost a tenth of a small step.
        torch._foreach_lerp_(self.average, [p.detach() for p in self._live], 1.0 - decay)

    @torch.no_grad()
    def copy_to_module(self) -> None:
        """Write the average into the module, for good."""
        for live, average in zip(self._live, self.average, strict=True):
            live.copy_(average)

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Within the block the module has the averaged weights; after it, its own again."""
        own = [p.detach().clone() for p in self._live]
        self.copy_to_module()
        try:
            yield
        finally:
            with torch.no_grad():
                for live, kept in zip(self._live, own, strict=True):
                    live.copy_(kept)
