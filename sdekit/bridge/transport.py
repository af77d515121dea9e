r"""A bridge that can be used: samples in both directions, its probability flow, likelihoods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from sdekit_kernels.checks import check_choice, check_float_tensor, check_int_range
from torch import Tensor

from sdekit.bridge.counters import BACK, path_number
from sdekit.bridge.drifts import Drift, FlowDrift, kinks
from sdekit.bridge.ends import End, Law
from sdekit.bridge.grid import Direction, TimeGrid, check_direction
from sdekit.bridge.trajectories import Noise, trajectories
from sdekit.grid import as_times, locate_saves, time_rounding
from sdekit.likelihood import Flow, Likelihood, log_likelihood
from sdekit.ode import integrate
from sdekit.ode.solution import STATUS
from sdekit.sde import AffineSDE

METHODS = ("sde", "flow")


@final
@dataclass(slots=True, eq=False)
class Transport:
    """Two ends, a grid, and the drifts between them, along their motion; None: not there (yet).

    reference: None for a flow: ``forward`` is then its velocity, in both directions.
    """

    grid: TimeGrid
    reference: AffineSDE | None
    ends: tuple[End, End]
    forward: Drift | None = None
    backward: Drift | None = None
    noise: Noise = "shared"
    backend: str = "auto"
    fuse: bool | None = None

    def drift(self, direction: Direction) -> Drift:
        """The drift of a direction; raises RuntimeError where there is none yet."""
        found = self.forward if direction == "forward" else self.backward
        if found is None:
            raise RuntimeError(f"there is no {direction} drift: fit() makes it")
        return found

    def set_drift(self, direction: Direction, drift: Drift) -> None:
        """Take a fitted drift."""
        if direction == "forward":
            self.forward = drift
        else:
            self.backward = drift

    def end(self, direction: Direction) -> End:
        """The end from which a direction starts."""
        return self.ends[0] if direction == "forward" else self.ends[1]

    def field(self) -> Drift:
        """dx/dt of the probability flow; raises RuntimeError before both drifts are there."""
        if self.reference is None:
            return self.drift("forward")
        return FlowDrift(self.drift("forward"), self.drift("backward"), self.grid)

    def starts(self, x: Any, direction: Direction, seed: int, first_sample: int) -> Tensor:
        """``x`` itself, checked, or so many draws of the end from which the direction starts."""
        end = self.end(direction)
        if not isinstance(x, Tensor):
            count = check_int_range(
                "x, where it is no tensor, the number of samples", x, 0, 1 << 40
            )
            return end.draw(seed, 0, first_sample, count)
        x = check_float_tensor("x", x)
        if x.shape[1:] != end.like.shape[1:] or x.ndim < 2:
            raise ValueError(
                f"x has shape {tuple(x.shape)}, this bridge is between events (B, "
                f"{', '.join(map(str, end.like.shape[1:]))})"
            )
        return x.detach()

    def simulate(
        self,
        starts: Tensor,
        direction: Direction,
        *,
        seed: int,
        first_sample: int,
        ends: bool = False,
        at: Sequence[float] | Tensor | None = None,
        drift: Drift | None = None,
    ) -> Tensor:
        """``trajectories`` with this bridge's drift, or another one, and its noise."""
        if self.reference is None:
            raise RuntimeError('a flow has no noise: write method="flow"')
        return trajectories(
            self.grid,
            self.reference,
            self.drift(direction) if drift is None else drift,
            starts,
            direction,
            seed=seed,
            first_sample=first_sample,
            noise=self.noise,
            ends=ends,
            at=at,
            backend=self.backend,
            fuse=self.fuse,
        )

    def sample(
        self,
        x: Any,
        *,
        direction: str = "forward",
        method: str | None = None,
        seed: int = 0,
        first_sample: int = 0,
        paths: bool = False,
        times: Sequence[float] | Tensor | None = None,
        rtol: float = 1e-4,
        atol: float = 1e-4,
    ) -> Tensor:
        """Where x goes: from source to target forward, from target to source backward.

        x: states (B, D...), or how many to draw from the end at which the direction starts: of a
        law others than the training saw, of data the training's own, in another order. They and the
        Brownian motion, another one in each direction, are functions of seed and number,
        ``first_sample`` first.
        method: "sde" on the grid's steps, the default where there is noise, or "flow", the
        probability flow, by adaptive steps with rtol and atol.
        paths: all states (N + 1, B, D...) at the grid's times in order of motion, instead of the
        last, (B, D...). times: the states (K, B, D...) at these times, in order of motion.
        Raises TypeError or ValueError for what does not fit, RuntimeError before a fit,
        ArithmeticError for paths that leave the finite numbers.
        """
        way = check_direction(direction)
        if paths and times is not None:
            raise TypeError("give paths=True, the states at the grid's times, or times=, not both")
        starts = self.starts(x, way, seed, first_sample)
        if method is None:
            method = "flow" if self.reference is None else "sde"
        check_choice("method", method, METHODS)
        shown = self._shown(way, paths, times)
        if method == "flow":
            return self._along_flow(starts, way, shown, rtol, atol)
        # Back from where a path arrived: its own Brownian motion would not be independent of x.
        number = path_number(0 if way == "forward" else BACK, first_sample)
        ends = not paths
        moved = self.simulate(starts, way, seed=seed, first_sample=number, ends=ends, at=times)
        return moved if paths or times is not None else moved[-1]

    def _shown(
        self, direction: Direction, paths: bool, times: Sequence[float] | Tensor | None
    ) -> list[float] | None:
        """The times at which states are wanted, in order of motion; None: the last one alone."""
        grid = self.grid.path(direction).tolist()
        if times is None:
            return grid if paths else None
        shown = as_times("times", times)
        # Raises for what lies outside the grid or does not run its way.
        locate_saves(shown, grid, time_rounding(times), "times")
        return [min(max(t, 0.0), self.grid.T) for t in shown]

    @torch.no_grad()
    def _along_flow(
        self, x: Tensor, direction: Direction, shown: list[float] | None, rtol: float, atol: float
    ) -> Tensor:
        field, grid = self.field(), self.grid.path(direction).tolist()
        if x.numel() == 0:
            return x if shown is None else x.expand(len(shown), *x.shape)

        def flat(t: Tensor, y: Tensor, rows: Tensor) -> Tensor:
            return field(t, y.view(-1, *x.shape[1:])).flatten(1)

        start, end = grid[0], grid[-1]
        inside = [t for t in shown or () if t not in (start, end)]
        solved = integrate(
            flat,
            x.flatten(1),
            start,
            end,
            rtol=rtol,
            atol=atol,
            breaks=kinks(field),
            save_at=inside,
            backend=self.backend,
            fuse=False,
        )
        lost = (solved.status != 0).nonzero().flatten()
        if len(lost):
            why = STATUS[int(solved.status[int(lost[0])])]
            raise ArithmeticError(
                f"{len(lost)} of {len(x)} samples did not arrive along the flow, sample "
                f"{int(lost[0])} first ({why}): write larger tolerances"
            )
        if shown is None:
            return solved.y.view_as(x)
        states = {start: x.flatten(1), end: solved.y}
        if solved.saved is not None:
            states |= dict(zip(inside, solved.saved, strict=True))
        return torch.stack([states[t].view_as(x) for t in shown])

    def flow(self, prior: Any = None, *, at: str = "target") -> Flow:
        """The probability flow as an ``sk.Flow`` of the law at ``at``, from that of the other end.

        prior: an object with log_prob(x) -> (B,), the law of the other end; by default that end
        itself, where it is a law with a log_prob. Raises TypeError without one.
        """
        target = check_choice("at", at, ("source", "target")) == "target"
        other = self.ends[0] if target else self.ends[1]
        if prior is None and isinstance(other, Law):
            prior = other.law
        if not callable(getattr(prior, "log_prob", None)):
            raise TypeError(
                f"the density at the {at} needs that of the other end: give prior=, an object with "
                "log_prob(x) -> (B,)"
            )
        start, end = (self.grid.T, 0.0) if target else (0.0, self.grid.T)
        field = self.field()
        return Flow(field, prior, t_data=start, t_prior=end, breaks=kinks(field))

    def log_likelihood(
        self, x: Tensor, *, prior: Any = None, at: str = "target", **options: Any
    ) -> Likelihood:
        """log p(x) in nats of the learned bridge's law at ``at``, through its probability flow.

        options: of ``sk.log_likelihood``. Raises as ``flow`` and ``sk.log_likelihood``.
        """
        return log_likelihood(self.flow(prior, at=at), x, **options)
