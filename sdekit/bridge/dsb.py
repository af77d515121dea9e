r"""Diffusion Schrödinger bridges by iterative proportional fitting.

    for n = 1, 2, ..:
        n odd:   paths of the forward chain from the source  ->  fit the backward drift
        n even:  paths of the backward chain from the target ->  fit the forward drift

beginning with the reference as the forward chain (De Bortoli, Thornton, Heng & Doucet 2021, arXiv
2106.01357, algorithm 1). An odd half-step gives X_T the target's law exactly, an even one X_0 the
source's; the two tend to one process, the Schrödinger bridge.
"""

from __future__ import annotations

from typing import Any, Final, final

from sdekit_kernels.checks import check_choice

from sdekit.bridge.driver import Driver
from sdekit.bridge.grid import Direction, opposite
from sdekit.bridge.points import Starts
from sdekit.bridge.problems import PathProblem, Problem, ScoreProblem
from sdekit.bridge.starts import STARTS, first_drift

FIRSTS: Final = ("score", "paths")


@final
class DSB(Driver):
    r"""The Schrödinger bridge from source to target by iterative proportional fitting.

    matching: "mean" fits what a step adds to the mean, \gamma v, as published; "drift" fits v. Both
    have the same minimum; "mean" weighs a step by \gamma^2.
    start: the first chain, see ``sdekit.bridge.starts``: "reference", as published, or "gaussian",
    the bridge between two Gaussians with the ends' means and covariances, which needs fewer
    half-steps, above all where the reference's noise is small beside the way.
    first: how the first half-step reverses it: "score", denoising score matching with the
    reference's closed marginals (the default for that start), or "paths", as all others do, which
    reverses its Euler chain itself.
    Other arguments: see ``Driver``.

    >>> bridge = DSB(source, target, reference=sk.Brownian(1.0), steps=20)
    >>> states = bridge.fit(progress=True)
    >>> x1 = bridge.sample(x0); x0 = bridge.sample(1000, direction="backward")

    Raises TypeError or ValueError for ends of different shape, a reference without noise, N < 1,
    steps that are not above zero, start="gaussian" in more than 1,024 components, and, when a
    half-step begins, a cache larger than memory.
    """

    pairs = True
    options = ("start", "first")

    def __init__(
        self,
        source: Any,
        target: Any,
        *,
        matching: str = "mean",
        start: str = "reference",
        first: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(source, target, matching=matching, **options)
        self.start = check_choice("start", start, STARTS)
        if first is None:
            first = "score" if start == "reference" else "paths"
        self.first = check_choice("first", first, FIRSTS)
        if self.first == "score" and self.start != "reference":
            raise ValueError(
                f'first="score" reverses the reference, not start={start!r}: write first="paths"'
            )
        # What a step is fitted to has the noise of one step, the same at all times.
        self.networks.noisy = False
        self.transport.forward = first_drift(
            self.start, self.transport.ends, self.reference, self.grid, self.seed
        )

    def direction(self, half_step: int) -> Direction:
        """Backward first."""
        return "backward" if half_step % 2 else "forward"

    def problem(self, half_step: int) -> Problem:
        """Reverse the chain of the other direction."""
        way = self.direction(half_step)
        if half_step == 1:
            # The first half-step may need no path: that they do not fit is said before it all.
            self.cache.size(self.grid.N + 1, self.transport.ends[0].like)
        if half_step == 1 and self.first == "score":
            points = Starts(self.transport.ends[0], self.seed, half_step, self.points)
            return ScoreProblem(points, self.grid, self.reference, antithetic=self.antithetic)
        motion = opposite(way)
        fixed = self.transport.drift(motion)
        return PathProblem(
            self.trajectories(half_step, motion, fixed, ends=False),
            self.grid,
            fixed,
            way,
            antithetic=self.antithetic,
        )
