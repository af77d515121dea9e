r"""Bridge matching and flow matching: a drift given both ends, averaged by a regression.

    L = E |v(t, X_t) - v(t, X_t | X_0, X_T)|^2,

with (X_0, X_T) from a coupling and X_t on the reference's bridge between them: the Markovian
projection of that mixture of bridges (Shi et al. 2023, arXiv 2303.16852, proposition 2). Without
noise, X_t = X_0 + (X_T - X_0) t / T and v = (X_T - X_0) / T: flow matching (Lipman et al. 2022,
arXiv 2210.02747; Liu et al. 2022).
"""

from __future__ import annotations

from typing import final

import sdekit_kernels
import torch
from torch import Tensor

from sdekit.bridge.antithetic import Pairing
from sdekit.bridge.counters import TIME, stream
from sdekit.bridge.grid import Direction, TimeGrid
from sdekit.bridge.interpolation import Interpolation
from sdekit.bridge.points import Points
from sdekit.bridge.problems import ALL, Examples, Problem, as_times, time_numbers
from sdekit.sde import AffineSDE, expand


class _Matching(Problem):
    """What both have: pairs of ends, and the times at which they are looked at."""

    def __init__(self, pairs: Points, times: Tensor, uniform: bool) -> None:
        super().__init__(pairs)
        self.pairs, self.times, self.uniform = pairs, times, uniform

    def random_times(self, step: int, like: Tensor) -> Tensor:
        """One time a row: the grid's in turn; uniform: stratified between first and last."""
        n = len(like)
        if not self.uniform:
            j = time_numbers(len(self.times), n, step, like.device)
            return as_times(self.times, like)[j]
        which = stream(self.pairs.half_step, TIME)
        z = sdekit_kernels.normal(
            (n,), seed=self.pairs.seed, stream=which, step=step, dtype=torch.float64
        )
        u = 0.5 * torch.erfc(-z / 2.0**0.5)
        way = (torch.arange(n, dtype=torch.float64) + u) / n
        low, high = float(self.times.min()), float(self.times.max())
        return as_times(low + (high - low) * way, like)


@final
class BridgeProblem(_Matching):
    """The drifts of the reference's bridges; two directions: both at once, for one network.

    uniform: times uniform over [first, last] of those that are asked, instead of these themselves;
    of both directions at once, over [0, T], where each has a target up to the last time at which it
    is asked.
    """

    def __init__(
        self,
        pairs: Points,
        grid: TimeGrid,
        reference: AffineSDE,
        directions: tuple[Direction, ...],
        *,
        uniform: bool = False,
        antithetic: bool = True,
    ) -> None:
        times = grid.asked(directions[0]) if len(directions) == 1 else grid.times
        super().__init__(pairs, times, uniform and grid.N > 1)
        self.reference, self.directions = reference, directions
        self._pairing = Pairing(antithetic)
        # v_f is asked up to t_{N-1}, v_b down to t_1: nearer to their ends both grow without bound.
        self._last = float(grid.asked("forward")[-1]), float(grid.asked("backward")[-1])

    @torch.no_grad()
    def batch(self, step: int, size: int, rows: slice = ALL) -> Examples:
        """Some pairs, each at one time."""
        x0, x1 = self.pairs.batch(step, self._pairing.draws(size))
        return self._examples(self.random_times(step, x0), x0, x1, step, size)

    @torch.no_grad()
    def at(self, j: int) -> Examples:
        """All pairs at the j-th time."""
        x0, x1 = self.pairs.all()
        return self._examples(as_times(self.times, x0)[j], x0, x1, j)

    def _examples(
        self, t: Tensor, x0: Tensor, x1: Tensor, step: int, size: int | None = None
    ) -> Examples:
        pairing, z = self._pairing, self.pairs.normal(x0, step)
        t = pairing.twice(t, size) if t.ndim else t
        x0, x1 = pairing.twice(x0, size), pairing.twice(x1, size)
        between = Interpolation(self.reference, t, x0, x1)
        x = between.point(pairing.signs(z, size))
        if len(self.directions) == 1:
            return Examples(t, x, between.drift(self.directions[0], x))
        last, first = (torch.tensor(s, dtype=torch.float64).to(t) for s in self._last)
        both = (t <= last, t >= first)
        seen = torch.stack([expand(known.to(x.dtype), x) for known in both], 1)
        drifts = torch.stack([between.drift(d, x) for d in ("forward", "backward")], 1)
        return Examples(t, x, torch.where(seen > 0, drifts, 0.0), seen)


@final
class FlowProblem(_Matching):
    """Straight lines between the ends, by their constant velocity."""

    def __init__(self, pairs: Points, grid: TimeGrid, *, uniform: bool = True) -> None:
        super().__init__(pairs, grid.times if uniform else grid.asked("forward"), uniform)
        self._T = grid.T

    @torch.no_grad()
    def batch(self, step: int, size: int, rows: slice = ALL) -> Examples:
        """Some pairs, each at one time."""
        x0, x1 = self.pairs.batch(step, size)
        return self._examples(self.random_times(step, x0), x0, x1)

    @torch.no_grad()
    def at(self, j: int) -> Examples:
        """All pairs at the j-th time."""
        x0, x1 = self.pairs.all()
        return self._examples(as_times(self.times, x0)[j], x0, x1)

    def _examples(self, t: Tensor, x0: Tensor, x1: Tensor) -> Examples:
        velocity = (x1 - x0) / self._T
        return Examples(t, x0 + expand(t, x0) * velocity, velocity)
