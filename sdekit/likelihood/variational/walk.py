"""The network's calls: rows (sample, level, noise) in chunks of stated size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sdekit_kernels
import torch
from torch import Tensor

from sdekit.likelihood.variational.terms import Terms
from sdekit.noise import keys

__all__ = ["BLOCK", "Walk"]

BLOCK = 16
"""Rows of one sample whose noise is one event of the generator, so that 1000 levels of one image
are 63 calls of it, not 1000. A constant: what a sample's level draws must not depend on chunks."""


@dataclass(frozen=True, slots=True)
class Walk:
    """Evaluates ``terms`` for samples x0 (B, D...) at levels of each, ``chunk`` rows a call."""

    eps_model: Callable[[Tensor, Tensor], Any]
    x0: Tensor
    terms: Terms
    chunk: int
    seed: int
    first_sample: int

    def run(self, levels: Tensor, draw: int) -> tuple[Tensor, Tensor]:
        """L_{k-1} and |x_0 - x0_hat|^2 / D for levels (B, S) int64 on the host: (B, S) float64.

        draw: the number of this pass; its noise is BOUND's, steps draw * ceil(S / BLOCK) onward.
        """
        count, slots = levels.shape
        values = torch.empty(count, slots, dtype=torch.float64, device=self.x0.device)
        errors = torch.empty_like(values)
        blocks = -(-slots // BLOCK)
        group = min(max(self.chunk // BLOCK, 1), max(count, 1))
        merged = max(self.chunk // (group * BLOCK), 1)
        for low in range(0, count, group):
            rows = slice(low, min(low + group, count))
            for first in range(0, blocks, merged):
                last = min(first + merged, blocks)
                columns = slice(first * BLOCK, min(last * BLOCK, slots))
                z = self._noise(rows, range(draw * blocks + first, draw * blocks + last))
                value, error = self._piece(rows, levels[rows, columns], z)
                values[rows, columns], errors[rows, columns] = value, error
        return values, errors

    def _noise(self, rows: slice, steps: range) -> Tensor:
        """Noise of some blocks for some samples, (b, BLOCK * len(steps), D...)."""
        made = [
            sdekit_kernels.normal(
                (rows.stop - rows.start, BLOCK, *self.x0.shape[1:]),
                seed=self.seed,
                stream=keys.BOUND,
                step=step,
                first_sample=self.first_sample + rows.start,
                dtype=self.x0.dtype,
                device=self.x0.device,
            )
            for step in steps
        ]
        return made[0] if len(made) == 1 else torch.cat(made, 1)

    def _piece(self, rows: slice, levels: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Values and errors of levels (b, s), with their noise in the first s columns of z."""
        count, slots = levels.shape
        event = self.x0.shape[1:]
        x0 = self.x0[rows].unsqueeze(1).expand(count, slots, *event).reshape(-1, *event)
        z = z[:, :slots].reshape(-1, *event)
        sample = torch.arange(rows.start, rows.stop).repeat_interleave(slots)
        k = levels.reshape(-1)
        found = [
            self._call(sample[part], k[part], x0[part], z[part])
            for part in (slice(i, i + self.chunk) for i in range(0, len(k), self.chunk))
        ]
        value, error = (torch.cat(part).view(count, slots) for part in zip(*found, strict=True))
        return value, error

    def _call(self, sample: Tensor, k: Tensor, x0: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        table, axes = self.terms.table, [1] * (x0.ndim - 1)
        mean, std, t = (v[k - 1].to(x0) for v in (table.mean, table.std, table.time))
        x = mean.view(-1, *axes) * x0 + std.view(-1, *axes) * z
        return self.terms(sample, k, x0, z, self.eps_model(t, x))
