"""Starting points, or pairs of ends, by batches; and the normals that go with them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

import sdekit_kernels
import torch
from torch import Tensor

from sdekit.bridge.cache import Trajectories
from sdekit.bridge.counters import POINT, stream
from sdekit.bridge.ends import End
from sdekit.bridge.supply import Supplied


class Points(Supplied, ABC):
    """Tuples of states, drawn by the counters of (seed, half_step)."""

    def __init__(
        self, seed: int, half_step: int, count: int, supply: Trajectories | None = None
    ) -> None:
        super().__init__(supply)
        self.seed, self.half_step, self.count = seed, half_step, count

    @abstractmethod
    def batch(self, step: int, size: int) -> tuple[Tensor, ...]:
        """Those of one step of a regression, each (size, D...)."""

    def all(self) -> tuple[Tensor, ...]:
        """``count`` of them: what least squares see."""
        return self.batch(0, self.count)

    def normal(self, like: Tensor, step: int) -> Tensor:
        """Standard normals of x's shape for this step."""
        return sdekit_kernels.normal(
            tuple(like.shape),
            seed=self.seed,
            stream=stream(self.half_step, POINT),
            step=step,
            dtype=like.dtype,
            device=like.device,
        )


@final
class Starts(Points):
    """Points of one end."""

    def __init__(self, end: End, seed: int, half_step: int, count: int) -> None:
        super().__init__(seed, half_step, count)
        self.end = end

    def batch(self, step: int, size: int) -> tuple[Tensor, ...]:
        """Fresh points for each step."""
        return (self.end.draw(self.seed, self.half_step, step * size, size),)


@final
class Simulated(Points):
    """Both ends (x_0, x_T) of cached paths, which ran backward or forward."""

    def __init__(self, cache: Trajectories, seed: int, half_step: int, *, backward: bool) -> None:
        super().__init__(seed, half_step, cache.paths, cache)
        self.cache, self.backward = cache, backward

    def batch(self, step: int, size: int) -> tuple[Tensor, ...]:
        """The ends of some paths."""
        return self._ends(self.cache.batch(step, size))

    def all(self) -> tuple[Tensor, ...]:
        """The ends of all paths."""
        return self._ends(self.cache.all())

    def _ends(self, paths: Tensor) -> tuple[Tensor, Tensor]:
        first, last = torch.unbind(paths)
        return (last, first) if self.backward else (first, last)
