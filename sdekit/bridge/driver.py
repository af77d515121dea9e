"""What every fit of a bridge has: two ends, a grid, drifts, half-steps one after the other."""

from __future__ import annotations

import copy
import math
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import torch
from sdekit_kernels.checks import check_choice, check_int_range
from torch import Tensor, nn

from sdekit.bridge import counters
from sdekit.bridge.cache import Cache, Trajectories
from sdekit.bridge.check_steps import warn_of_loud_steps
from sdekit.bridge.closed_form.reference import make_reference
from sdekit.bridge.drifts import MATCHINGS, Drift, NetworkDrift
from sdekit.bridge.ends import two_ends
from sdekit.bridge.grid import Direction, time_grid
from sdekit.bridge.identity import describe_cache, describe_end, describe_grid
from sdekit.bridge.keeper import FORMAT, Keeper
from sdekit.bridge.monitor import measure, warn_if_worse
from sdekit.bridge.nets import MakeNet, Networks
from sdekit.bridge.problems import Problem
from sdekit.bridge.progress import shown
from sdekit.bridge.regression import REGRESSIONS, Adam, LeastSquares, OnStep, Regression
from sdekit.bridge.spec import reference_to_plain
from sdekit.bridge.state import BridgeState, Measures
from sdekit.bridge.trajectories import Noise
from sdekit.bridge.transport import Transport
from sdekit.likelihood import Flow, Likelihood
from sdekit.sde import AffineSDE, Brownian
from sdekit.train.folder import Folder
from sdekit.train.parallel import ALONE, data_parallel

STEPS: Final = 20

Callback = Callable[[BridgeState], Any]


class Driver(ABC):
    r"""The base of ``DSB``, ``DSBM`` and their relatives: see there.

    Args of all of them:
        source, target: data (N, D...), floating point, or laws with sample(n, seed=...,
            first_sample=...) -> (n, D...). At time 0, and at the reference's T.
        reference: an ``AffineSDE`` with noise in every component; Brownian motion on [0, 1] by
            default.
        steps: N of the grid, 20 by default. gammas, ratio: the lengths of its steps, see
            ``time_grid``.
        regression: ``Adam(...)`` for networks, ``LeastSquares()`` for affine drifts.
        nets: (forward, backward) networks (t, x) -> x's shape, or one network for both, (t, x) ->
            (B, 2, D...), where the algorithm takes one; they are trained where they are. make_net:
            makes the network of a direction. Neither: ``DriftMLP``. The same network goes on in the
            next half-step of its direction; fresh=True makes a new one each time.
        antithetic: whether each example of a regression comes with one of the opposite noise, see
            ``sdekit.bridge.antithetic``; None: for ``DSB`` alone, whose gradients have a noise of
            order 1 / \sqrt{\gamma} without. Half as many paths or pairs of ends make a batch.
        cache: ``Cache(...)``, how trajectories are kept.
        half_steps: how many ``fit`` and ``iterate`` do, below 2^13.
        measure: how many paths measure the bridge after each half-step; 0 for none.
        seed: of everything that is random: see ``sdekit.bridge.counters``.
        dtype: of the draws, where both ends are laws.
        backend, fuse: of simulations, as for ``sk.solve``.
    """

    takes_one_net = False
    noise: Noise = "shared"
    noisy = True
    """Whether paths have noise."""
    pairs = False
    """Whether examples come by antithetic pairs unless it is said."""
    options: tuple[str, ...] = ()
    """The attributes that an algorithm has beside those of all."""

    def __init__(
        self,
        source: Any,
        target: Any,
        *,
        reference: AffineSDE | None = None,
        steps: int | None = None,
        gammas: str | Tensor = "constant",
        ratio: float = 10.0,
        regression: Regression | None = None,
        nets: Sequence[nn.Module] | nn.Module | None = None,
        make_net: MakeNet | None = None,
        fresh: bool = False,
        matching: str = "drift",
        antithetic: bool | None = None,
        cache: Cache | None = None,
        half_steps: int = 20,
        measure: int = 1_000,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        backend: str = "auto",
        fuse: bool | None = None,
    ) -> None:
        ends = two_ends(source, target, (counters.SOURCE_ORDER, counters.TARGET_ORDER), dtype)
        event = tuple(ends[0].like.shape[1:])
        self.reference = Brownian(1.0) if reference is None else reference
        made = make_reference(None, self.reference, math.prod(event))
        if steps is None and isinstance(gammas, str):
            steps = STEPS
        self.grid = time_grid(steps, made.T, gammas=gammas, ratio=ratio)
        self.regression = Adam() if regression is None else regression
        if not isinstance(self.regression, REGRESSIONS):
            raise TypeError(f"regression must be Adam(...) or LeastSquares(), got {regression!r}")
        if isinstance(regression, LeastSquares) and (nets is not None or make_net is not None):
            raise TypeError("LeastSquares() fits no network: leave nets away, or write Adam()")
        self.matching = check_choice("matching", matching, MATCHINGS)
        self.antithetic = self.pairs if antithetic is None else bool(antithetic)
        self.cache = Cache() if cache is None else cache
        self.half_steps = check_int_range("half_steps", half_steps, 1, counters.HALF_STEPS)
        self._paths = check_int_range("measure", measure, 0, 1 << 31)
        if 0 < self._paths < 4:
            raise ValueError(f"measure={measure} paths are too few: 4 or more, or 0 for none")
        self.seed = check_int_range("seed", seed, 0, 1 << 64)
        self.transport = Transport(
            self.grid, self.reference, ends, noise=self.noise, backend=backend, fuse=fuse
        )
        self.states: list[BridgeState] = []
        self._ranks, self._sizes = ALONE, dict[int, int]()
        self.networks = Networks(
            nets,
            make_net,
            bool(fresh),
            takes_one=self.takes_one_net,
            like=ends[0].like,
            T=made.T,
            seed=self.seed,
        )
        if self.one_net and self.matching == "mean":
            raise ValueError('one network for both drifts gives drifts: write matching="drift"')
        if self.noisy:
            warn_of_loud_steps(self.transport, self.seed)

    # -- what an algorithm says --------------------------------------------------------------------

    @abstractmethod
    def direction(self, half_step: int) -> Direction:
        """The direction that half-step 1, 2, .. fits."""

    @abstractmethod
    def problem(self, half_step: int) -> Problem:
        """What the regression of this half-step is asked."""

    # -- the fit -----------------------------------------------------------------------------------

    def iterate(
        self,
        *,
        folder: str | os.PathLike[str] | None = None,
        save_seconds: float | None = 60.0,
        save_steps: int | None = None,
    ) -> Iterator[BridgeState]:
        """Do the half-steps that are left, and yield the state after each.

        Between two of them everything may be looked at, and changed: ``regression``, ``cache``.
        folder, save_seconds, save_steps: as for ``fit``. The same fit that goes on begins with the
        ``regression`` and the ``cache`` of the last half-step that the folder knows of, and is
        refused with others: what a loop has changed it does not change again for half-steps that
        are done, so that the new bridge must be given it.
        """
        with self._kept(folder, save_seconds, save_steps) as keeper:
            while self.half_step < self.half_steps:
                yield self._advance(keeper, None)

    def fit(
        self,
        *,
        folder: str | os.PathLike[str] | None = None,
        save_seconds: float | None = 60.0,
        save_steps: int | None = None,
        progress: bool = False,
        callbacks: Iterable[Callback] = (),
    ) -> list[BridgeState]:
        """All half-steps that are left; the states of all so far.

        folder: where the state is kept: after each half-step, and inside it every save_seconds or
        every save_steps steps of the regression; None for never. The same fit again, killed at any
        moment, goes on from there bit for bit; ``half_steps`` may have grown, lr, clip and measure
        may differ. Ctrl-C writes the state first. Under torchrun all processes must see the folder;
        they share the simulation of the cache and the batches.
        progress: show a bar, or lines now and then where none can be drawn. callbacks: called with
        each state that this run has reached.
        Raises ArithmeticError, with half-step, step and learning rate, where a regression or a
        simulation leaves the finite numbers (the folder keeps its last checkpoint, and the same fit
        is refused until lr is smaller); CheckpointError for a folder that holds another bridge, by
        what differs, or a damaged one; OSError for a full disk, or a folder in which another
        process works; KeyboardInterrupt for Ctrl-C, which says how to go on (without a folder the
        half-step is lost, and its network is left as it was at that step).
        """
        calls = list(callbacks)
        with ExitStack() as stack:
            keeper = stack.enter_context(self._kept(folder, save_seconds, save_steps))
            show = progress and keeper.ranks.first
            bar = stack.enter_context(shown(show, self.half_steps, self.half_step))
            while self.half_step < self.half_steps:
                state = self._advance(keeper, bar)
                for call in calls:
                    call(state)
        return self.states

    def advance(self, on_step: OnStep | None = None) -> BridgeState:
        """One half-step. on_step: called with (steps done, fraction, loss) in the regression."""
        with self._kept(None, None, None) as keeper:
            return self._advance(keeper, on_step)

    @property
    def half_step(self) -> int:
        """How many half-steps are done."""
        return len(self.states)

    @contextmanager
    def _kept(
        self, folder: Any, save_seconds: float | None, save_steps: int | None
    ) -> Iterator[Keeper]:
        """Within the block the processes of torchrun work together, and the folder is held."""
        with data_parallel(None, self.transport.ends[0].like.device) as ranks:
            kept = Folder(
                folder,
                self.settings,
                every_seconds=save_seconds,
                every_steps=save_steps,
                writes=ranks.first,
                work="bridge",
                form=FORMAT,
            )
            self._ranks, self._sizes = ranks, {}
            keeper = Keeper(kept, ranks, self.transport, self.networks, self.states, self._sizes)
            try:
                with kept.held():
                    keeper.resume(self.regression)
                    yield keeper
            finally:
                self._ranks = ALONE

    def _advance(self, keeper: Keeper, on_step: OnStep | None) -> BridgeState:
        n, start = self.half_step + 1, time.perf_counter()
        way = self.direction(n)
        if keeper.keeps:
            # It may have been changed since the half-step before.
            keeper.folder.settings["cache"] = describe_cache(self.cache)
        problem, last = self.problem(n), self._last(way)

        def spent() -> dict[str, float]:
            simulation = problem.seconds
            return {
                "simulation": simulation,
                "regression": time.perf_counter() - start - simulation,
            }

        with keeper.half_step(n, way, self.regression, spent):
            losses = self._regress(problem, way, n, on_step, keeper)
            seconds, fitted = keeper.seconds(), time.perf_counter()
            before = self.states[-1].measures if self.states else Measures()
            after = before
            if self._paths:
                after = measure(
                    self.transport,
                    way,
                    last,
                    before,
                    paths=self._paths,
                    seed=self.seed,
                    both=self.one_net,
                )
            seconds["measures"] = time.perf_counter() - fitted
            state = BridgeState(n, way, tuple(losses), after, seconds)
            self.states.append(state)
            try:
                keeper.finish()
            except OSError:
                # It is not on disk: the same call again does this half-step once more.
                self.states.pop()
                raise
        warn_if_worse(n, way, before, after)
        return state

    # -- the use -----------------------------------------------------------------------------------

    def sample(self, x: Any, **options: Any) -> Tensor:
        """``Transport.sample``: x, or how many to draw; direction=, method="sde" or "flow"."""
        return self.transport.sample(x, **options)

    def flow(self, prior: Any = None, *, at: str = "target") -> Flow:
        """``Transport.flow``: the probability flow of the learned bridge as an ``sk.Flow``."""
        return self.transport.flow(prior, at=at)

    def log_likelihood(
        self, x: Tensor, *, prior: Any = None, at: str = "target", **options: Any
    ) -> Likelihood:
        """``Transport.log_likelihood``: log p(x) in nats of the learned bridge at an end."""
        return self.transport.log_likelihood(x, prior=prior, at=at, **options)

    # -- what they are made of ---------------------------------------------------------------------

    def trajectories(
        self, half_step: int, motion: Direction, drift: Drift, *, ends: bool, caches: int = 1
    ) -> Trajectories:
        """The cache of a half-step: paths of ``drift`` from the end at which ``motion`` starts.

        caches: how many the half-step has, each of which takes its part of the memory.
        """
        end, seed = self.transport.end(motion), self.seed
        states = 2 if ends else self.grid.N + 1

        def make(first: int, count: int) -> Tensor:
            starts, number = (
                end.draw(seed, half_step, first, count),
                counters.path_number(half_step, first),
            )
            return self.transport.simulate(
                starts, motion, seed=seed, first_sample=number, ends=ends, drift=drift
            )

        paths = Trajectories(
            self.cache,
            make,
            states,
            end.like,
            seed=seed,
            half_step=half_step,
            ranks=self._ranks,
            paths=self.cache.size(states * caches, end.like, self._sizes.get(half_step)),
        )
        self._sizes[half_step] = paths.paths
        return paths

    @property
    def points(self) -> int:
        """How many points least squares see where no path is simulated."""
        return 10_000 if self.cache.paths is None else self.cache.paths

    @property
    def one_net(self) -> bool:
        """Whether one network has both drifts."""
        return self.networks.one is not None

    def settings(self) -> dict[str, Any]:
        """What makes this fit the one it is."""
        source, target = self.transport.ends
        return {
            "algorithm": {
                "name": type(self).__name__,
                **{name: getattr(self, name) for name in self.options},
                "matching": self.matching,
                "noise": self.noise,
                "antithetic": self.antithetic,
                "fresh": self.networks.fresh,
            },
            "shape": list(source.like.shape[1:]),
            "dtype": str(source.like.dtype),
            "grid": describe_grid(self.grid),
            "reference": reference_to_plain(self.reference),
            "source": describe_end(source),
            "target": describe_end(target),
            "cache": describe_cache(self.cache),
            "seed": self.seed,
        }

    def _last(self, way: Direction) -> Drift | None:
        """A copy of the drift of a direction, as it is before it is fitted, for the measures."""
        last = self.transport.forward if way == "forward" else self.transport.backward
        return copy.deepcopy(last) if self._paths else None

    def _regress(
        self, problem: Problem, way: Direction, n: int, on_step: OnStep | None, keeper: Keeper
    ) -> list[float]:
        if isinstance(self.regression, LeastSquares):
            if self.one_net:
                raise TypeError("LeastSquares() fits no network: leave nets away, or write Adam()")
            drift, losses = self.regression.fit(problem, self.grid, way)
            self.transport.set_drift(way, drift)
            if on_step is not None:
                on_step(len(losses), 1.0, losses[-1])
            return losses
        net = self.networks.of(way, n)
        rows: dict[Direction, int | None] = {way: None}
        if self.one_net:
            rows = {"forward": 0, "backward": 1}
        fitted = {d: NetworkDrift(net, self.grid, d, self.matching, row) for d, row in rows.items()}
        regression = self.regression.of(n, self.one_net, self.networks.fresh)
        losses = regression.fit(problem, fitted[way], on_step, keep=keeper)
        for d, found in fitted.items():
            self.transport.set_drift(d, found)
        return losses
