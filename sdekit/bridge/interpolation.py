r"""A reference's bridge between two ends: the law of a point of it, and both drifts given the ends.

With \alpha, v of the transition from 0 to T and y = x - offset,

    y_t = k_0 y_0 + k_1 y_T + \sqrt{v_{0,t} v_{t,T} / v} z,
    k_0 = \alpha_{0,t} v_{t,T} / v,   k_1 = v_{0,t} \alpha_{t,T} / v,

    v_f = a y + g^2 \alpha_{t,T} (y_T - \alpha_{t,T} y) / v_{t,T},
    v_b = -a y - g^2 (y - \alpha_{0,t} y_0) / v_{0,t}

along their motions. For Brownian motion these are the Brownian bridge, (x_T - x) / (T - t) and
(x_0 - x) / t (Shi et al. 2023, arXiv 2303.16852; Peluchetti 2021); for an Ornstein-Uhlenbeck
process the bridge of hyperbolic sines.
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from sdekit.bridge.grid import Direction
from sdekit.sde import AffineSDE, expand


@final
class Interpolation:
    """The bridge of ``reference`` at times t (B,), between x0 and x1 (B, D...)."""

    def __init__(self, reference: AffineSDE, t: Tensor, x0: Tensor, x1: Tensor) -> None:
        zero, end = torch.zeros_like(t), torch.full_like(t, float(reference.T))
        self._reference, self._t = reference, t
        self._y0, self._y1 = reference.centered(x0), reference.centered(x1)

        def step(s: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
            ratio, variance = (
                reference.log_mean_ratio(s, u).exp(),
                reference.transition_variance(s, u),
            )
            return expand(ratio, x0), expand(variance, x0)

        self._before, self._v0 = step(zero, t)
        self._after, self._v1 = step(t, end)
        self._v = step(zero, end)[1]

    def point(self, z: Tensor) -> Tensor:
        """The states with normals z (B, D...)."""
        mean = self._before * self._v1 * self._y0 + self._v0 * self._after * self._y1
        y = mean / self._v + (self._v0 * self._v1 / self._v).sqrt() * z
        return self._reference.uncentered(y)

    def drift(self, direction: Direction, x: Tensor) -> Tensor:
        """v_f or v_b at x; not finite for v_f at T and v_b at 0."""
        y, own = self._reference.centered(x), self._reference.drift(self._t, x)
        g2 = self._reference.diffusion(self._t, x).square()
        if direction == "forward":
            return own + g2 * self._after * (self._y1 - self._after * y) / self._v1
        return -own - g2 * (y - self._before * self._y0) / self._v0
