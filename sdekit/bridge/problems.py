r"""What a half-step asks of its regression: a state and the drift that it should have there.

    L = E_j E |v(s_j, x) - target|^2        (times \gamma_j^2 where the mean of a step is fitted)

over the times s_j at which the drift will be asked (``TimeGrid.asked``), drifts along their motion.
A network sees random times, stratified over a batch; least squares see all paths at one time after
the other.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Final, NamedTuple, final

import torch
from sdekit_kernels.dispatch import compute_dtype
from torch import Tensor

from sdekit.bridge.antithetic import Pairing
from sdekit.bridge.cache import Trajectories
from sdekit.bridge.drifts import Drift
from sdekit.bridge.grid import Direction, TimeGrid, opposite
from sdekit.bridge.points import Points
from sdekit.bridge.supply import Supplied
from sdekit.sde import AffineSDE, expand


class Examples(NamedTuple):
    """Times (B,) or 0-d, states (B, D...) and what v should be there, (B, D...) or (B, 2, D...).

    seen: (B, 2, 1...), 1 where a target of two is meant and 0 where there is none; or None.
    """

    t: Tensor
    x: Tensor
    target: Tensor
    seen: Tensor | None = None


ALL: Final = slice(None)


class Problem(Supplied, ABC):
    """The regression of one half-step."""

    @abstractmethod
    def batch(self, step: int, size: int, rows: slice = ALL) -> Examples:
        """The examples of one step of a regression, a function of the step alone.

        rows: those whose targets are asked for; the others' may be anything finite.
        """

    @abstractmethod
    def at(self, j: int) -> Examples:
        """All examples of the j-th asked time, in order of motion; ``t`` may be 0-d."""


def time_numbers(count: int, size: int, step: int, device: torch.device) -> Tensor:
    """Numbers 0 .. count - 1 of times for a batch, each as often as the others, (size,) int64.

    The step turns them round; the rows of a batch are in random order already.
    """
    return (torch.arange(size, device=device) + step * size) % count


def as_times(times: Tensor, like: Tensor) -> Tensor:
    """Times in the type in which ``sk.solve`` gives them to a drift at states like ``like``."""
    return times.to(device=like.device, dtype=compute_dtype(like.dtype))


@final
class PathProblem(Problem):
    r"""Reverse a chain: iterative proportional fitting's half-step.

    With u' = u + \gamma v(s, u) + noise a step of the fixed chain, the other direction, asked at
    u' and its time s', should move by

        v'(s', u') = (u - u') / \gamma + v(s, u) - v(s, u'),

    the mean matching of De Bortoli et al. 2021 (arXiv 2106.01357, proposition 3 and eq. 12): of
    maps F(x) = x + \gamma v(s, x) the target u' + F(u) - F(u'). Drift matching has the same target,
    and weighs the steps alike instead of by \gamma^2.
    """

    def __init__(
        self,
        cache: Trajectories,
        grid: TimeGrid,
        fixed: Drift,
        direction: Direction,
        *,
        antithetic: bool = True,
    ) -> None:
        super().__init__(cache)
        self.cache, self.fixed, n = cache, fixed, grid.N
        motion = opposite(direction)
        # Step i of the fixed chain, in its order of motion, is step N - 1 - i of the fitted one.
        self._left = grid.asked(motion)
        self._arrived = grid.asked(direction).flip(0)
        self._lengths, self._n, self._pairing = grid.lengths(motion), n, Pairing(antithetic)

    @torch.no_grad()
    def batch(self, step: int, size: int, rows: slice = ALL) -> Examples:
        """Each path at one of its steps."""
        pairing = self._pairing
        draws = pairing.draws(size)
        i = time_numbers(self._n, draws, step, self._left.device)
        u, after = self.cache.batch(step, draws, torch.stack([i, i + 1])).unbind()
        i = i.to(u.device)
        own, wanted = pairing.of(rows, size)
        some = self._reverse(u[own], after[own], i[own])
        if len(i[own]) == draws:
            return Examples(*(v[:size] for v in some[:3]))
        # The fixed drift is a network: each process asks it about its own rows alone.
        x, target = (pairing.twice(after, size).clone() for _ in range(2))
        x[rows], target[rows] = some.x[wanted], some.target[wanted]
        return Examples(pairing.twice(as_times(self._arrived, u)[i], size), x, target)

    @torch.no_grad()
    def at(self, j: int) -> Examples:
        """The step of all paths that ends where the fitted direction's step j begins."""
        paths, i = self.cache.all(), self._n - 1 - j
        return self._reverse(paths[i], paths[i + 1], torch.tensor(i, device=paths.device))

    def _reverse(self, u: Tensor, after: Tensor, i: Tensor) -> Examples:
        left, arrived, length = (
            as_times(v, u)[i] for v in (self._left, self._arrived, self._lengths)
        )
        here = self.fixed(left, u)
        pairing, gamma = self._pairing, expand(length, u)
        # What the step would have come to, had its noise been the opposite.
        other = 2.0 * (u + gamma * here) - after
        x = pairing.mixed(after, other)
        there = self.fixed(pairing.twice(left) if left.ndim else left, x)
        moved = (pairing.twice(u) - x) / (pairing.twice(gamma) if left.ndim else gamma)
        arrived = pairing.twice(arrived) if left.ndim else arrived
        return Examples(arrived, x, moved + pairing.twice(here) - there)


@final
class ScoreProblem(Problem):
    r"""Reverse the reference itself, from its closed marginals: no path is simulated.

        v'(t, x_t) = -f(t, x_t) - g(t)^2 (x_t - mean) / std^2,   x_t ~ N(mean, std^2) given x_0,

    denoising score matching (Vincent 2011), whose minimum is -f + g^2 \nabla log p_t: the first
    half-step of De Bortoli et al. 2021, up to the O(\gamma) of Euler's steps.
    """

    def __init__(
        self, points: Points, grid: TimeGrid, reference: AffineSDE, *, antithetic: bool = True
    ) -> None:
        super().__init__(points)
        self.points, self.reference, self._pairing = points, reference, Pairing(antithetic)
        self._times, self._n = grid.asked("backward"), grid.N

    @torch.no_grad()
    def batch(self, step: int, size: int, rows: slice = ALL) -> Examples:
        """Fresh points, each at one of the grid's times."""
        draws = self._pairing.draws(size)
        (x0,) = self.points.batch(step, draws)
        return self._denoise(x0, time_numbers(self._n, draws, step, x0.device), step, size)

    @torch.no_grad()
    def at(self, j: int) -> Examples:
        """All points at the j-th time."""
        (x0,) = self.points.all()
        return self._denoise(x0, torch.tensor(j, device=x0.device), j)

    def _denoise(self, x0: Tensor, j: Tensor, step: int, size: int | None = None) -> Examples:
        t, z = as_times(self._times, x0)[j], self.points.normal(x0, step)
        pairing = self._pairing
        t = pairing.twice(t, size) if t.ndim else t
        x0, z = pairing.twice(x0, size), pairing.signs(z, size)
        law = self.reference.marginal(t, x0)
        x = law.mean + law.std * z
        pull = self.reference.diffusion(t, x).square() * z / law.std
        return Examples(t, x, -self.reference.drift(t, x) - pull)
