"""One Brownian path seen by steps of several lengths.

The path is drawn on the finest grid and joined exactly to every coarser one (``noise.increment``),
Levy areas included, so that errors at different step sizes, and against a finer run, are errors on
the same path.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from typing import NamedTuple

import torch
from sdekit_kernels.dispatch import compute_dtype
from torch import Tensor

from sdekit.noise.brownian import Brownian
from sdekit.noise.increment import STREAMS, Increment, join
from sdekit.solve.transition import Transition

__all__ = ["Path", "draws_of", "record", "run"]


class Path(NamedTuple):
    """The increments of a path over equal steps from t0 to t1, (B, channels...) each."""

    t0: float
    t1: float
    steps: tuple[Increment, ...]

    def coarser(self, n: int) -> Path:
        """The same path in n steps, which must divide the number that it has."""
        each = len(self.steps) // n
        if each * n != len(self.steps):
            raise ValueError(f"{len(self.steps)} steps cannot be joined to {n} equal ones")
        if each == 1:
            return self
        parts = [self.steps[k * each : (k + 1) * each] for k in range(n)]
        return self._replace(steps=tuple(reduce(join, part) for part in parts))


def draws_of(*needed: Iterable[str]) -> tuple[str, ...]:
    """All that these draw, in the order of the streams."""
    wanted = {draw for draws in needed for draw in draws}
    return tuple(draw for draw in STREAMS if draw in wanted)


def record(
    transition: Transition,
    x: Tensor,
    t0: float,
    t1: float,
    steps: int,
    refine: int,
    draws: Sequence[str],
    seed: int,
    follow: Transition | None = None,
) -> tuple[Path, Tensor]:
    """The path in ``steps`` steps, each joined from ``refine`` finer ones.

    It is the path that ``solve`` sees with steps = ``steps`` * ``refine`` and this seed. follow:
    what runs from x along the finer steps; the second result is where it ends, x if there is none.
    """
    sde = transition.sde
    dt = (t1 - t0) / (steps * refine)
    times = _times(x, t0, t1, steps * refine)
    channels = sde.channels(times[0], x)
    brownian = Brownian(channels, seed=seed, dtype=x.dtype, device=x.device)
    still = tuple(x.new_zeros(()) for _ in draws)
    states = (x,) if follow is None else follow.start(times[0], x)
    joined: list[Increment] = []
    for k in range(steps):
        fine: list[Increment] = []
        for j in range(k * refine, (k + 1) * refine):
            normals = still if sde.deterministic else brownian.normals(j, draws)
            fine.append(Increment.of(draws, normals, dt, abs(dt) ** 0.5))
            if follow is not None:
                states = follow(_clock(times, j, dt), fine[-1], states)
        joined.append(reduce(join, fine))
    return Path(t0, t1, tuple(joined)), states[0]


def run(transition: Transition, x: Tensor, path: Path) -> Tensor:
    """Where the method ends that goes from x along the steps of the path."""
    n = len(path.steps)
    times = _times(x, path.t0, path.t1, n)
    states = transition.start(times[0], x)
    for k, w in enumerate(path.steps):
        states = transition(_clock(times, k, (path.t1 - path.t0) / n), w, states)
    return states[0]


def _times(x: Tensor, t0: float, t1: float, n: int) -> Tensor:
    grid = [t0 + (t1 - t0) * (k / n) for k in range(n + 1)]
    return torch.tensor(grid, dtype=compute_dtype(x.dtype), device=x.device)


def _clock(times: Tensor, k: int, dt: float) -> dict[str, object]:
    return {"t": times[k], "t_next": times[k + 1], "dt": dt, "root_dt": abs(dt) ** 0.5}
