"""Brownian increments and bridges, computed from counters, never stored.

``Brownian`` fixes (seed, first sample, shape). The increment over the k-th step of a grid is
sqrt|dt| z with z the normal of (seed, PATH, sample, k, component): it does not depend on the batch,
on chunks, or on what else is asked of the path. Times inside a step are filled in from left to
right by the Brownian bridge (Levy 1948) under streams of their own, so that asking for them does
not change the path at the grid's times.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import reduce

import torch
from sdekit_kernels import normal
from sdekit_kernels.checks import check_choice
from torch import Tensor

from sdekit.noise import keys
from sdekit.noise.increment import STREAMS, Increment, draw_shape, join, split

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

    def normal(
        self, step: int, stream: int = keys.PATH, shape: Sequence[int] | None = None
    ) -> Tensor:
        """The standard normals of one step, of ``shape``, or of another for one sample."""
        one = self.shape[1:] if shape is None else shape
        if not self.antithetic:
            return self._normal((self.shape[0], *one), self.first_sample, step, stream)
        rows, first = self.shape[0], self.first_sample // 2
        pairs = (self.first_sample + rows + 1) // 2 - first
        z = self._normal((pairs, *one), first, step, stream)
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

    def normals(self, step: int, draws: Sequence[str]) -> tuple[Tensor, ...]:
        """The standard normals of one step, one tensor for each of the draws.

        Raises ValueError for a draw that there is not, or areas where the shape is not (B, M).
        """
        for draw in draws:
            check_choice("draw", draw, tuple(STREAMS))
        channels = self.shape[1:]
        return tuple(self.normal(step, STREAMS[d], draw_shape(d, channels)) for d in draws)

    def over(self, step: int, dt: float, draws: Sequence[str], refine: int = 1) -> Increment:
        """The increment over the step-th step of length dt, joined from ``refine`` equal ones.

        These are the steps step * refine, ... of a grid that is so much finer.
        """
        fine, root = dt / refine, abs(dt / refine) ** 0.5
        first = step * refine
        parts = (
            Increment.of(draws, self.normals(k, draws), fine, root)
            for k in range(first, first + refine)
        )
        return reduce(join, parts)

    def increment(self, step: int, dt: float) -> Tensor:
        """W(t_next) - W(t) over the step-th step of length dt: law N(0, |dt|)."""
        return self.normal(step) * abs(dt) ** 0.5

    def parts(
        self, step: int, dt: float, elapsed: Sequence[float], draws: Sequence[str]
    ) -> Iterator[Increment]:
        """The increments over the first h of a step, for each h of ``elapsed`` as in ``inside``.

        Where h is drawn too, (dw, h) over [0, h] has its joint law given both over the whole step:
        (W, int W ds) is a Gaussian Markov process. z and u are the step's own.

        Raises ValueError if the area between Brownian motions, or k, is wanted.
        """
        if "area" in draws or "k" in draws:
            raise ValueError(
                "the Levy area of a part of a step is not known: save at the grid's own times, or "
                "give a grid that has the saved times, times=..."
            )
        whole = self.over(step, dt, draws)
        if whole.h is None:
            for h, dw in zip(elapsed, self.inside(step, dt, elapsed), strict=True):
                yield whole._replace(dt=math.copysign(h, dt), dw=dw)
            return
        done, rest, before = None, whole._replace(dt=abs(dt)), 0.0
        for j, h in enumerate(elapsed):
            z = self.normal(step, keys.BRIDGE + j), self.normal(step, keys.BRIDGE_AREA + j)
            part, rest = split(rest, h - before, z)
            done, before = part if done is None else join(done, part), h
            yield done._replace(dt=math.copysign(h, dt))

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
