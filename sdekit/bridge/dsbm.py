r"""Diffusion Schrödinger bridge matching: iterative Markovian fitting.

    for n = 1, 2, ..:
        pairs (X_0, X_T) of the present coupling, the reference's bridges between them
        -> fit the drift of one direction, by turns (the Markovian projection of that mixture)
        -> simulate it from its end's data: the ends of its paths are the next coupling

(Shi, De Bortoli, Campbell & Doucet 2023, arXiv 2303.16852, algorithm 1; Peluchetti 2023). Every
projection keeps both marginals, as far as it is fitted; the iterates tend to the Schrödinger
bridge. From the reference's own coupling they are those of iterative proportional fitting.
"""

from __future__ import annotations

import copy
from typing import Any, Final, final

from sdekit_kernels.checks import check_choice

from sdekit.bridge.both_problem import BothProblem
from sdekit.bridge.couplings import COUPLINGS, Coupled
from sdekit.bridge.driver import Driver
from sdekit.bridge.grid import Direction, check_direction, opposite
from sdekit.bridge.matching_problems import BridgeProblem
from sdekit.bridge.points import Points, Simulated
from sdekit.bridge.problems import Problem
from sdekit.bridge.regression import LeastSquares

SWEEPS: Final = ("turns", "both")


@final
class DSBM(Driver):
    """The Schrödinger bridge from source to target by iterative Markovian fitting.

    start: the first coupling, see ``sdekit.bridge.couplings``: "independent", "reference" (the
    iterates are then those of IPF), "ot" or "entropic" (optimal plans of minibatches).
    begin: the direction that is fitted first; "backward", as published.
    times: at which the drifts are fitted: "grid", those at which the sampler asks, or "uniform",
    between the first and the last of them, for a flow that is solved by adaptive steps.
    nets: two networks, of which a half-step fits one, or one for both drifts, (t, x) -> (B, 2,
    D...), of which each half-step fits both.
    sweep: what a half-step after the first is for one network. "turns": both drifts are fitted to
    the coupling of one direction's paths, so that the drift of that direction learns to arrive
    where it arrived. "both": each drift is fitted to the coupling of the other one's paths, which
    has data where it arrives; half a batch each, two caches.
    Other arguments: see ``Driver``. Raises as ``DSB`` does.
    """

    takes_one_net = True
    noise = "own"
    options = ("start", "begin", "uniform", "sweep")

    def __init__(
        self,
        source: Any,
        target: Any,
        *,
        start: str = "independent",
        begin: str = "backward",
        times: str = "grid",
        sweep: str = "turns",
        **options: Any,
    ) -> None:
        super().__init__(source, target, **options)
        self.sweep = check_choice("sweep", sweep, SWEEPS)
        if sweep == "both" and not self.one_net:
            raise ValueError('sweep="both" is for one network of both drifts: give it as nets=')
        self.start = check_choice("start", start, COUPLINGS)
        self.begin = check_direction(begin)
        self.uniform = check_choice("times", times, ("grid", "uniform")) == "uniform"
        if self.uniform and isinstance(self.regression, LeastSquares):
            raise ValueError('LeastSquares() fits each time of the grid: write times="grid"')

    def direction(self, half_step: int) -> Direction:
        """By turns."""
        return self.begin if half_step % 2 else opposite(self.begin)

    def coupling(self, half_step: int) -> Points:
        """The pairs of ends whose bridges a half-step mixes."""
        if half_step == 1:
            ends = self.transport.ends
            # No path is simulated yet: that later ones do not fit is said before it all.
            self.cache.size(2 * self._caches, ends[0].like)
            return Coupled(self.start, ends, self.reference, self.seed, 1, self.points)
        return self._simulated(half_step, opposite(self.direction(half_step)))

    @property
    def _caches(self) -> int:
        """How many of them a half-step has, which share the memory."""
        return 2 if self.sweep == "both" else 1

    def _simulated(self, half_step: int, motion: Direction) -> Points:
        """The ends of paths that move so."""
        fixed = self.transport.drift(motion)
        if self.one_net:
            # The network is about to change; the coupling is that of the last half-step.
            fixed = copy.deepcopy(fixed)
        cache = self.trajectories(half_step, motion, fixed, ends=True, caches=self._caches)
        return Simulated(cache, self.seed, half_step, backward=motion == "backward")

    def problem(self, half_step: int) -> Problem:
        """The projection of the mixture of the reference's bridges."""
        way = self.direction(half_step)
        both: tuple[Direction, ...] = ("forward", "backward")
        if self.sweep == "both" and half_step > 1:
            forward, backward = (self._projection(half_step, d) for d in both)
            return BothProblem(forward, backward)
        return BridgeProblem(
            self.coupling(half_step),
            self.grid,
            self.reference,
            both if self.one_net else (way,),
            uniform=self.uniform,
            antithetic=self.antithetic,
        )

    def _projection(self, half_step: int, way: Direction) -> BridgeProblem:
        """Of the paths that move the other way."""
        pairs = self._simulated(half_step, opposite(way))
        return BridgeProblem(
            pairs,
            self.grid,
            self.reference,
            (way,),
            uniform=self.uniform,
            antithetic=self.antithetic,
        )
