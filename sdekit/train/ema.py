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
    r"""\bar w_k = d_k \bar w_{k-1} + (1 - d_k) w_k, with d_k = min(decay, (1 + k) / (10 + k)).

    k = 1, 2, ... counts the updates, which is the warm-up of Song et al. 2021's code (arXiv
    2011.13456) and of TensorFlow's average, where it comes from: the average forgets its start,
    and after k updates looks back over about a ninth of them, until d_k reaches ``decay``; then
    over 1 / (1 - decay) updates. warmup: the 9 in 1 + k + 9; 0 switches it off. (Karras et al. 2022
    look back over a twentieth, by a half-life: warmup = 14 comes near.) Buffers are not averaged.
    Raises TypeError or ValueError unless 0 <= decay < 1 and warmup is an integer >= 0.
    """

    def __init__(self, module: nn.Module, decay: float = 0.999, *, warmup: int = 9) -> None:
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
        decay = min(self.decay, (1 + self.updates) / (1 + self.updates + self.warmup))
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
