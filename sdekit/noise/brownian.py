"""Brownian increments and bridges, computed from counters, never stored.

``Brownian`` fixes (seed, first sample, shape). The increment over the k-th step of a grid is
sqrt|dt| z with z the normal of (seed, PATH, sample, k, component): it does not depend on the batch,
on chunks, or on what else is asked of the path. Times inside a step are filled in from left to
right by the Brownian bridge (Levy 1948) under streams of their own, so that asking for them does
not change the path at the grid's times.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from sdekit_kernels import normal
from torch import Tensor

from sdekit.noise import keys

__all__ = ["Brownian"]


class Brownian:
    """The Brownian motion of a batch.

    shape: (B, *channels) of one increment. seed, first_sample: whose noise. antithetic: samples
    2i and 2i + 1 are a pair whose noise differs in sign; it is that of sample i of this seed.
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        seed: int = 0,
        first_sample: int = 0,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        backend: str = "auto",
        antithetic: bool = False,
    ) -> None:
        self.shape = tuple(shape)
        self.seed, self.first_sample = seed, first_sample
        self.dtype, self.device, self.backend = dtype, device, backend
        self.antithetic = antithetic

    def normal(self, step: int, stream: int = keys.PATH) -> Tensor:
        """The standard normals of one step, of ``shape``."""
        if not self.antithetic:
            return self._normal(self.shape, self.first_sample, step, stream)
        rows, first = self.shape[0], self.first_sample // 2
        pairs = (self.first_sample + rows + 1) // 2 - first
        z = self._normal((pairs, *self.shape[1:]), first, step, stream)
        both = torch.stack([z, -z], 1).flatten(0, 1)
        return both[self.first_sample % 2 :][:rows]

    def _normal(self, shape: Sequence[int], first_sample: int, step: int, stream: int) -> Tensor:
        return normal(
            shape,
            seed=self.seed,
            stream=stream,
            step=step,
            first_sample=first_sample,
            dtype=self.dtype,
            device=self.device,
            backend=self.backend,
        )

    def increment(self, step: int, dt: float) -> Tensor:
        """W(t_next) - W(t) over the step-th step of length dt: law N(0, |dt|)."""
        return self.normal(step) * abs(dt) ** 0.5

    def inside(self, step: int, dt: float, elapsed: Sequence[float]) -> Iterator[Tensor]:
        """W(t + h) - W(t) for each h of ``elapsed``, given the increment over the whole step.

        ``elapsed`` holds increasing |h| in (0, |dt|). Given W at 0, at the last point u before h,
        and at |dt|,

            W(h) | W(u), W(dt)  ~  N( W(u) + (h - u) / (dt - u) (W(dt) - W(u)),
                                      (h - u) (dt - h) / (dt - u) ).

        The j-th point uses stream BRIDGE + j at this step: a point's value depends on the points
        before it in the same step, never on those after it or in other steps.
        """
        end, total = self.increment(step, dt), abs(dt)
        at, u = torch.zeros_like(end), 0.0
        for j, h in enumerate(elapsed):
            share = (h - u) / (total - u)
            spread = max((h - u) * (total - h) / (total - u), 0.0) ** 0.5
            at = at + share * (end - at) + spread * self.normal(step, keys.BRIDGE + j)
            u = h
            yield at
