r"""A method as a Markov chain: the matrix by which one step acts on functions on a grid.

(P u)(x) = E[u(step(x, \xi))] with the few normals \xi of one step integrated by ``rule``. A uniform
draw u is a decision, taken below some level of it that depends on x and the normals: the level is
found by bisection, and both outcomes count with their probability.
"""

from __future__ import annotations

import math
from typing import Any, final

import torch
from torch import Tensor

from sdekit.convergence.grid import Grid
from sdekit.convergence.rule import step_rule
from sdekit.noise.increment import Increment, draw_shape
from sdekit.solve.transition import Transition

__all__ = ["Chain"]

_CHUNK = 1 << 18
"""States that a step is taken from at once, at the most."""

_ALMOST = 8.0
"""A normal beyond which there are 1e-15 of them: u = 0 and u = 1, up to rounding."""


@final
class Chain:
    """n equal steps of a method from t0 to t1, acting on functions given at the grid's points.

    Where the method carries something that matters beside x, ``whole`` is the grid of both.
    nodes: of the rule for a normal. steady: whether all steps are alike.
    """

    def __init__(
        self,
        transition: Transition,
        grid: Grid,
        t0: float,
        t1: float,
        n: int,
        nodes: int,
        steady: bool,
    ) -> None:
        self.transition, self.grid, self.steady = transition, grid, steady
        self.t0, self.dt, self.n = t0, (t1 - t0) / n, n
        self.draws = tuple(d for d in transition.solver.draws if d != "u")
        channels = transition.sde.channels(self._clock(0)["t"], grid.points)[1:]
        self.shapes = [draw_shape(draw, channels) for draw in self.draws]
        self.dimensions = sum(math.prod(shape) for shape in self.shapes)
        self.whole = grid if self._memoryless() else Grid(*grid.axes * 2)
        x = self.whole.points.flatten(1)
        few = x[:: max(1, len(x) // 5)]

        def seen(normals: Tensor) -> Tensor:
            pairs = few.repeat(len(normals), 1), normals.repeat_interleave(len(few), 0)
            return self._step(0, *pairs).reshape(len(normals), -1)

        self.normals, self.weights = step_rule(seen, self.dimensions, nodes)

    def apply(self, end: Tensor) -> Tensor:
        """E[function(X_n) | X_0 = x] at the grid's points, for functions (N, F) of X_n."""
        u, matrix = end, None
        if self.whole is not self.grid:
            u = end[:, None].expand(-1, len(self.grid), -1).flatten(0, 1)
        for k in reversed(range(self.n)):
            matrix = self.matrix(k) if matrix is None or not self.steady else matrix
            u = matrix @ u
        if self.whole is self.grid:
            return u
        first = self.transition.start(self._clock(0)["t"], self.grid.points)
        at = torch.cat([s.flatten(1) for s in first], 1)
        return _means(self.whole, at[:, None], torch.ones(len(at), 1, dtype=torch.float64)) @ u

    def matrix(self, k: int) -> Tensor:
        """Step k, from values at all points to values at all points: (N, N)."""
        x, count = self.whole.points.flatten(1), len(self.weights)
        rows = []
        for part in x.split(max(1, _CHUNK // count)):
            start = part.repeat_interleave(count, 0)
            normals = self.normals.repeat(len(part), 1)
            weights = self.weights.expand(len(part), -1)
            made = self._step(k, start, normals).reshape(len(part), count, -1)
            if "u" in self.transition.solver.draws:
                other = self._step(k, start, normals, _ALMOST).reshape(made.shape)
                share = self._share(k, start, normals).reshape(len(part), count)
                made = torch.cat([made, other], 1)
                weights = torch.cat([weights * share, weights * (1.0 - share)], 1)
            rows.append(_means(self.whole, made, weights))
        return torch.cat(rows)

    def _share(self, k: int, x: Tensor, normals: Tensor) -> Tensor:
        """The u below which a step decides as it does for u = 0: (P,)."""
        low = torch.full((len(x), 1), -_ALMOST, dtype=torch.float64)
        first, high = self._step(k, x, normals), -low
        for _ in range(60):
            middle = 0.5 * (low + high)
            same = (self._step(k, x, normals, middle) == first).all(1, keepdim=True)
            low, high = torch.where(same, middle, low), torch.where(same, high, middle)
        return 0.5 * torch.special.erfc(-high[:, 0] * 0.5**0.5)

    def _step(
        self, k: int, x: Tensor, normals: Tensor, chance: float | Tensor = -_ALMOST
    ) -> Tensor:
        """From states (P, D), or (P, 2 D) with what is carried, to the like.

        chance: the normal behind u.
        """
        clock, parts = self._clock(k), x.split(len(self.grid.axes), 1)
        states = tuple(part.reshape(-1, *self.grid.event) for part in parts)
        states = self.transition.start(clock["t"], *states) if len(states) == 1 else states
        made = self._from(clock, states, normals, chance)
        return torch.cat([s.flatten(1) for s in made[: len(parts)]], 1)

    def _from(
        self,
        clock: dict[str, Any],
        states: tuple[Tensor, ...],
        normals: Tensor,
        chance: float | Tensor = -_ALMOST,
    ) -> tuple[Tensor, ...]:
        """One step with the normals (P, dimensions) of all draws side by side."""
        parts = normals.split([math.prod(shape) for shape in self.shapes], 1)
        shaped = [p.reshape(-1, *shape) for p, shape in zip(parts, self.shapes, strict=True)]
        draws, root = self.draws, abs(self.dt) ** 0.5
        if "u" in self.transition.solver.draws:
            draws = (*draws, "u")
            shaped.append(torch.as_tensor(chance).expand(len(normals), 1)[:, 0].to(normals))
        w = Increment.of(draws, shaped, self.dt, root)
        return self.transition({**clock, "root_dt": root}, w, states)

    def _clock(self, k: int) -> dict[str, Any]:
        t = torch.tensor([self.t0 + k * self.dt, self.t0 + (k + 1) * self.dt], dtype=torch.float64)
        return {"t": t[0], "t_next": t[1], "dt": self.dt}

    def _memoryless(self) -> bool:
        """Whether what is carried is a function of x, or nothing to x: found by looking."""
        clock, x = self._clock(0), self.grid.points
        states = self.transition.start(clock["t"], x)
        if len(states) == 1:
            return True
        normals = torch.linspace(0.37, -0.71, self.dimensions, dtype=torch.float64)
        normals = normals.repeat(len(x), 1)
        made = self._from(clock, states, normals)
        anew = self.transition.start(clock["t_next"], made[0])
        known = [torch.allclose(a, b, rtol=1e-12) for a, b in zip(made, anew, strict=True)]
        other = [s if same else s + 0.125 for s, same in zip(states, known, strict=True)]
        return torch.equal(made[0], self._from(clock, tuple(other), normals)[0])


def _means(grid: Grid, x: Tensor, weights: Tensor) -> Tensor:
    """Of states x (P, Q, D) with weights (P, Q): from values at the points to means, (P, N)."""
    first, *more = grid.bases(x)
    product = weights[..., None] * first
    for basis in more[:-1]:
        product = (product[..., None] * basis[..., None, :]).flatten(2)
    coefficients = (product.mT @ more[-1]).flatten(1) if more else product.sum(1)
    return grid.at_nodes(coefficients)
