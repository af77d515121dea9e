r"""The one function that a bridge's driver asks for trajectories.

    x_{next} = x + \gamma v(t, x) + g \sqrt{\gamma} z

over the grid in either direction, with the noise of ``sdekit.noise``: path p of a seed is the same
whichever paths are simulated with it. ``sk.solve`` does it: in one kernel from the first time to
the last where the drift can be traced, else step by step. A network goes step by step unless it is
asked otherwise (fuse=True), though one of few weights could be traced.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, final

import torch
from torch import Tensor

from sdekit.bridge.drifts import Drift, NetworkDrift
from sdekit.bridge.grid import Direction, TimeGrid
from sdekit.sde import SDE, AffineSDE, expand
from sdekit.solve import solve
from sdekit.solve.solution import NONFINITE

Noise = Literal["shared", "own"]
NOISES: Final = ("shared", "own")
"""Of a step between t_k and t_{k+1} the variance is \\gamma g(t)^2 with t = t_k in both directions
("shared", the chain of De Bortoli et al. 2021), or with t the time that the step begins at ("own",
Euler's method in either direction). For a constant g they are the same."""


@final
class Motion(SDE):
    """A drift along its own motion, and the reference's noise, as ``sk.solve`` takes an equation.

    Over falling times, where dt < 0, the drift has the sign that moves x by +gamma v.
    """

    noise_type = "additive"

    def __init__(
        self, grid: TimeGrid, reference: AffineSDE, drift: Drift, direction: Direction, noise: Noise
    ) -> None:
        self.grid, self.reference, self._along = grid, reference, drift
        self.time_direction = direction
        self._sign = 1.0 if direction == "forward" else -1.0
        rates = reference.diffusion_rate(grid.times)
        self._lower = (
            noise == "shared" and direction == "backward" and bool((rates != rates[:1]).any())
        )

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """v forward, -v backward, of x's shape."""
        v = self._along(t, x)
        return v if self._sign > 0 else -v

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        """g, broadcastable to x's shape."""
        if self._lower:
            times = self.grid.path("backward")[1:].to(t)
            t = times[self.grid.nearest("backward", t)]
        return self.reference.diffusion(t, x)


@torch.no_grad()
def trajectories(
    grid: TimeGrid,
    reference: AffineSDE,
    drift: Drift,
    starts: Tensor,
    direction: Direction,
    *,
    seed: int,
    first_sample: int = 0,
    noise: Noise = "shared",
    ends: bool = False,
    at: Sequence[float] | Tensor | None = None,
    backend: str = "auto",
    fuse: bool | None = None,
) -> Tensor:
    """The states (N + 1, B, D...) at the grid's times in order of motion, from starts (B, D...).

    drift: (t, x) -> x's shape, along the motion. first_sample: the number of the first path; path p
    has the Brownian motion of sample p of the seed. ends: keep the first and the last state alone,
    (2, B, D...). at: keep the states at these times, (K, B, D...), in order of motion; inside a
    step they are on the Brownian bridge between its ends. backend, fuse: as for ``sk.solve``, but
    that None is False for a network.
    Raises ArithmeticError, with time and path, for a path that leaves the finite numbers.
    """
    if fuse is None and isinstance(drift, NetworkDrift):
        # Tracing a network takes 0.03 to 0.1 s a call, more than the steps of the 1,000 paths of a
        # cache's piece; and from width 8 on the processor's matrix products are faster than the
        # same in the kernel: 10,000 paths of 20 steps in the plane take it 24, 42 and 80 ms on one
        # core at widths 4, 8 and 16, and 35, 45 and 38 ms step by step.
        fuse = False
    times = grid.path(direction)
    kept = times[[0, -1]] if ends else times
    solved = solve(
        Motion(grid, reference, drift, direction, noise),
        starts,
        times=times,
        seed=seed,
        first_sample=first_sample,
        save_at=kept if at is None else at,
        backend=backend,
        fuse=fuse,
    )
    lost = solved.status == NONFINITE
    if bool(lost.any()):
        path = int(lost.nonzero()[0])
        step = int(solved.stats.nonfinite_step[path])
        raise ArithmeticError(
            f"{int(lost.sum())} of {len(starts)} {direction} paths left the finite numbers, path "
            f"{first_sample + path} first, in the step from t = {float(times[step]):g}: the drift "
            "has diverged"
        )
    return solved.x


def chain_noise(
    grid: TimeGrid, reference: AffineSDE, direction: Direction, noise: Noise, like: Tensor
) -> Tensor:
    """g of each step in order of motion, (N, D...) or (N, 1...), for events like (B, D...)."""
    lower = noise == "shared" and direction == "backward"
    at = grid.path(direction)[1:] if lower else grid.asked(direction)
    g = expand(reference.diffusion_rate(at), like.new_empty((grid.N, *like.shape[1:])).double())
    return g.to(like.device)
