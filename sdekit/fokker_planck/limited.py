"""Order two where drift dominates, without negative masses: limited reconstruction.

Of linear schemes none that keeps densities positive has an order above one for drift alone (Godunov
1959). Here the density at the upwind side of an edge is reconstructed from the cell and its two
neighbours, of order three on equal cells (van Leer 1977), and weighted with the excess of the
scheme's own diffusion: nothing where diffusion dominates, all of it where there is none. The only
limit is that it stays between 0 and twice the cell's average, which is what positivity asks for
(Zhang & Shu 2010): limiters that allow no new extrema flatten maxima, and had up to thirteen times
the error. Time goes by Heun's steps, convex sums of Euler's (Shu & Osher 1988), each so short that
no cell gives more than it has.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sdekit.fokker_planck.generator import Generator, Jump

__all__ = ["Limited"]

_MOST_STEPS = 1e6
"""Beyond, an hour would pass on 200 x 200 cells."""


class Limited:
    """m -> the masses after tau, for one Q whose drift is on axes."""

    def __init__(self, q: Generator) -> None:
        self.q = q
        self.area = q.cells.area
        self.edges = [_Edges(q, jump) for jump in q.jumps if jump.axis is not None]
        gives = q.loss.clone()
        for edges in self.edges:
            flow = edges.ahead - edges.behind
            gives[edges.here] += flow / self.area[edges.here]
            gives[edges.there] += flow / self.area[edges.there]
        self.rate = float(gives.max())

    def __call__(self, m: Tensor, tau: float) -> Tensor:
        """Masses (n1, n2) after tau. Raises ValueError where that would take too long."""
        steps = math.ceil(self.rate * tau)
        if steps > _MOST_STEPS:
            raise ValueError(
                f"the fastest cell allows steps of {1.0 / self.rate:.3g}, {steps} for a time of "
                f"{tau:.3g}: take wider cells where drift or diffusion are strong, or "
                "scheme='linear'"
            )
        dt = tau / max(steps, 1)
        for _ in range(steps):
            first = m + dt * self._slope(m)
            m = 0.5 * (m + first + dt * self._slope(first))
            # Zero up to the rounding of what a cell gives and has.
            m.clamp_(min=0.0)
        return m

    def _slope(self, m: Tensor) -> Tensor:
        """Of dm/dt."""
        out = self.q.apply(m)
        p = m / self.area
        for edges in self.edges:
            flow = edges.correction(p)
            out[edges.here] -= flow
            out[edges.there] += flow
        return out


class _Edges:
    """All edges across one axis: what reconstruction adds to the flow over them.

    ahead, behind: drift from i to i + v and (below zero) from i + v to i, as much of it as is to be
    reconstructed, of a density of one.
    """

    def __init__(self, q: Generator, jump: Jump) -> None:
        self.axis = jump.axis or 0
        self.here, self.there = jump.here, jump.there
        flow = torch.zeros_like(jump.drift) if jump.excess is None else jump.drift * jump.excess
        self.ahead, self.behind = flow.clamp(min=0.0), flow.clamp(max=0.0)
        shape = (-1, 1) if self.axis == 0 else (1, -1)
        self.apart = q.cells.middles[self.axis].diff().view(shape)
        # The outermost cells have no slope.
        self.sixth = (q.cells.widths[self.axis][1:-1] / 6.0).view(shape)

    def correction(self, p: Tensor) -> Tensor:
        """Mass per time, from here to there, for densities p (n1, n2)."""
        slope = p.diff(dim=self.axis).div_(self.apart)
        n = slope.shape[self.axis]
        before, after = slope.narrow(self.axis, 0, n - 1), slope.narrow(self.axis, 1, n - 1)
        up = self._limited(p, before + 2.0 * after)
        down = self._limited(p, after + 2.0 * before)
        return self.ahead * up[self.here] - self.behind * down[self.there]

    def _limited(self, p: Tensor, slopes: Tensor) -> Tensor:
        """How much the density rises from the middle of a cell to its edge: at most by itself."""
        rise = torch.zeros_like(p)
        inner = rise.narrow(self.axis, 1, slopes.shape[self.axis])
        torch.mul(slopes, self.sixth, out=inner)
        return torch.minimum(torch.maximum(rise, -p), p)
