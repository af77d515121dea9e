r"""Drifts along their own motion: what a step forward or backward adds to x in a unit of time.

A step of length \gamma in either direction is x + \gamma v(t, x) + noise, at the time t of x. Of a
bridge's forward equation v_f is the drift; of its backward equation, which is solved over falling
times, v_b is the drift with the opposite sign. The reversal of v_f is v_b = -v_f + g^2 \nabla log
p_t, and the probability flow is (v_f - v_b) / 2 (Shi et al. 2023, arXiv 2303.16852).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, final

import torch
from torch import Tensor, nn

from sdekit.bridge.grid import Direction, TimeGrid
from sdekit.sde import AffineSDE, expand

Drift = Callable[[Tensor, Tensor], Tensor]
"""(t, x (B, D...)) -> (B, D...), t 0-d or (B,)."""

MATCHINGS: Final = ("mean", "drift")
_FEW: Final = 8
"""Components up to which an affine drift takes a matrix for each row of a batch."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class ReferenceDrift:
    """The reference's own drift, forward."""

    sde: AffineSDE

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        """a(t) (x - offset)."""
        return self.sde.drift(t, x)


@final
@dataclass(frozen=True, slots=True, eq=False)
class AffineDrift:
    """matrices[j] x + shifts[j] at the j-th asked time of a direction; affine in t between them.

    matrices (N, D, D) and shifts (N, D), in order of motion, for events flattened to D components.
    Before the first asked time and after the last one it is what it is there.
    """

    matrices: Tensor
    shifts: Tensor
    grid: TimeGrid
    direction: Direction

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        """The drift at t, 0-d or (B,), of x's shape."""
        flat = x.flatten(1)
        if t.ndim and flat.shape[1] > _FEW:
            return self._by_time(t.to(x.device), flat).view_as(x)
        matrix, shift = (v.to(x.dtype) for v in self._between(t.to(x.device)))
        if t.ndim == 0:
            return (flat @ matrix.mT + shift).view_as(x)
        return (torch.einsum("bij,bj->bi", matrix, flat) + shift).view_as(x)

    @property
    def kinks(self) -> list[float]:
        """Where it is not smooth in t."""
        return self.grid.asked(self.direction).tolist()

    def _by_time(self, t: Tensor, flat: Tensor) -> Tensor:
        """Rows of one time together: a matrix a row would be B D^2 numbers."""
        out = torch.empty_like(flat)
        times, which = t.unique(return_inverse=True)
        for k, time in enumerate(times):
            rows = (which == k).nonzero().squeeze(1)
            matrix, shift = (v.to(flat.dtype) for v in self._between(time))
            out[rows] = flat[rows] @ matrix.mT + shift
        return out

    def _between(self, t: Tensor) -> tuple[Tensor, Tensor]:
        times, matrices, shifts = self.grid.asked(self.direction), self.matrices, self.shifts
        if self.direction == "backward":
            times, matrices, shifts = times.flip(0), matrices.flip(0), shifts.flip(0)
        last, times = len(times) - 1, times.to(t.device)
        k = torch.searchsorted(times, t.double()).clamp(min(1, last), last)
        before = (k - 1).clamp(min=0)
        span = (times[k] - times[before]).clamp(min=1e-300)
        way = ((t.double() - times[before]) / span).clamp(0.0, 1.0)
        # A time of the grid in float32 is that time of the grid, and not one a rounding beside it.
        way = torch.where(way < 1e-5, 0.0, torch.where(way > 1.0 - 1e-5, 1.0, way)).to(shifts)
        lerp = way.unsqueeze(-1)
        shift = torch.lerp(shifts[before], shifts[k], lerp)
        return torch.lerp(matrices[before], matrices[k], lerp.unsqueeze(-1)), shift


@final
@dataclass(frozen=True, slots=True, eq=False)
class NetworkDrift:
    r"""A network's drift.

    matching "drift": the network gives v. "mean": it gives what a step adds to the mean, \gamma v,
    with the \gamma of the step from the asked time nearest to t. A network that has a method
    drift_unit(t, direction) -> t's shape gives v times that where matching is "drift": outputs of
    unit size at all times, and a loss that weighs v by the unit's square.
    row: for a network that gives both drifts, (B, 2, D...), the one that is meant; else None.
    """

    net: nn.Module
    grid: TimeGrid
    direction: Direction
    matching: str = "drift"
    row: int | None = None

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        """v(t, x), of x's shape."""
        out: Tensor = self.net(t, x)
        if self.row is not None:
            out = out[:, self.row]
        if self.matching == "drift" and not hasattr(self.net, "drift_unit"):
            return out
        return out / expand(self.unit(t), x)

    @property
    def kinks(self) -> list[float]:
        """Where it is not smooth in t: halfway between asked times, where the unit is a step's."""
        asked, lengths = self.grid.asked(self.direction), self.grid.lengths(self.direction)
        if self.matching == "drift" or torch.allclose(lengths, lengths[0], rtol=1e-12, atol=0.0):
            return []
        return (0.5 * (asked[1:] + asked[:-1])).tolist()

    def unit(self, t: Tensor) -> Tensor:
        """What the network's output is in units of v: 1, or the step's length; of t's shape."""
        if self.matching == "drift":
            return self._own(t, self.direction)
        lengths = self.grid.lengths(self.direction).to(t)
        return lengths[self.grid.nearest(self.direction, t)]

    def units(self, t: Tensor) -> Tensor:
        """``unit`` of all that the network gives: (B,) for t (B,), or (B, 2) of both drifts."""
        if self.row is None:
            return self.unit(t)
        return torch.stack([self._own(t, "forward"), self._own(t, "backward")], -1)

    def _own(self, t: Tensor, direction: Direction) -> Tensor:
        own = getattr(self.net, "drift_unit", None)
        return torch.ones_like(t) if own is None else own(t, direction)


@final
@dataclass(frozen=True, slots=True, eq=False)
class FlowDrift:
    """The probability flow (v_f - v_b) / 2, which moves the marginals of the bridge along time.

    Where a drift was never fitted, v_f at T and v_b at 0, it is taken at the nearest time at which
    it is asked.
    """

    forward: Drift
    backward: Drift
    grid: TimeGrid

    @property
    def kinks(self) -> list[float]:
        """Where it is not smooth in t: of both drifts, and where each begins to be held."""
        held = self.grid.times[[1, -2]].tolist()
        return sorted({*held, *kinks(self.forward), *kinks(self.backward)})

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        """dx/dt at (t, x), of x's shape."""
        first, last = float(self.grid.times[1]), float(self.grid.times[-2])
        v_f, v_b = self.forward(t.clamp(max=last), x), self.backward(t.clamp(min=first), x)
        return 0.5 * (v_f - v_b)


def kinks(drift: Drift) -> list[float]:
    """The times at which a drift is not smooth in t, as far as it says so."""
    return list(getattr(drift, "kinks", ()))
