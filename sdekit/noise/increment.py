r"""What a solver's step may know of the Brownian path over it.

Over [t, t + dt], with W measured from its value at t:

    dw         = W_dt                                          N(0, dt)
    h          = (1 / dt) int_0^dt (W_s - (s / dt) W_dt) ds    N(0, dt / 12), independent of dw
    k          = (1 / dt^2) int_0^dt (W_s - (s / dt) W_dt) (dt / 2 - s) ds
                                                               N(0, dt / 720), independent of both
    area[i, j] = 1/2 int_0^dt (W_i dW_j - W_j dW_i)            variance dt^2 / 4

h is the space-time Levy area: int_0^dt W_s ds = dt (h + dw / 2), which gives the iterated integrals
I_(1,0) = dt (h + dw / 2) and I_(0,1) = dt (dw / 2 - h). k, the space-time-time Levy area, gives
int_0^dt s W_s ds = dt^2 (dw / 3 + h / 2 - k) (Foster, Lyons & Oberhauser 2020). Of the area
between Brownian motions,

    area[i, j] = h_i dw_j - dw_i h_j + b[i, j],

the first part is exact and the rest has, given dw and h, mean 0 and variance dt^2 / 20 +
dt (h_i^2 + h_j^2) / 5 (Foster, Lyons & Oberhauser 2020; Davie 2014): b is drawn as a normal with
this mean and variance. Finer steps are joined exactly, so a path drawn on a fine grid is one path
for every coarser one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import torch
from sdekit_kernels.checks import check_choice
from torch import Tensor

from sdekit.noise import keys

__all__ = ["STREAMS", "Increment", "draw_shape", "join", "split"]

STREAMS = {
    "dw": keys.PATH,
    "h": keys.SPACE_TIME,
    "area": keys.LEVY,
    "z": keys.FREE,
    "u": keys.CHANCE,
    "k": keys.SPACE_TIME_TIME,
}
"""What a solver may draw, and from which stream."""


class Increment(NamedTuple):
    """One step of the noise, each of one sample's channels: (B, channels...).

    dt: the step's length in the shape in which it multiplies dw. h: space-time Levy area. area:
    (B, M, M), antisymmetric. z: standard normals that are no part of the path. u: uniform in
    (0, 1), one a sample, (B,). k: space-time-time Levy area. What the solver does not draw is None.
    """

    dt: Any
    dw: Tensor
    h: Tensor | None = None
    area: Tensor | None = None
    z: Tensor | None = None
    u: Tensor | None = None
    k: Tensor | None = None

    @property
    def length(self) -> Any:
        """|dt|, the variance of dw: dt itself is negative on a decreasing grid."""
        return abs(self.dt)

    @property
    def space_time(self) -> Tensor:
        """h; here and below, ValueError where the noise was drawn without."""
        return self._drawn("h")

    @property
    def space_time_time(self) -> Tensor:
        """k, where the solver draws it."""
        return self._drawn("k")

    @property
    def free(self) -> Tensor:
        """z, where the solver draws it."""
        return self._drawn("z")

    @property
    def chance(self) -> Tensor:
        """u, where the solver draws it."""
        return self._drawn("u")

    @property
    def levy(self) -> Tensor:
        """The area, where the solver draws it."""
        return self._drawn("area")

    def _drawn(self, name: str) -> Tensor:
        value: Tensor | None = getattr(self, name)
        if value is None:
            have = ", ".join(repr(d) for d in STREAMS if getattr(self, d) is not None)
            more = " and 'h'" if name == "area" and self.h is None else ""
            raise ValueError(
                f"this step of the noise has no {name!r}, only {have}: let the solver have "
                f"{name!r}{more} among its draws, or ask Brownian.over for it"
            )
        return value

    @classmethod
    def of(cls, draws: Sequence[str], normals: Sequence[Tensor], dt: Any, root: Any) -> Increment:
        """From standard normals, one tensor a name in ``draws``; root = sqrt|dt|.

        Raises ValueError for draws that there are not, or that go with others that are missing.
        """
        _check_draws(tuple(draws))
        z = dict(zip(draws, normals, strict=True))
        dw = root * z["dw"]
        h = z["h"] * (root * 12.0**-0.5) if "h" in z else None
        # An equation without noise has 0-d zeros for normals, and no areas.
        area = _area(dt, dw, h, z["area"]) if h is not None and "area" in z and dw.ndim else None
        u = 0.5 * torch.special.erfc(z["u"] * -(0.5**0.5)) if "u" in z else None
        k = z["k"] * (root * 720.0**-0.5) if "k" in z else None
        return cls(dt, dw, h, area, z.get("z"), u, k)


def draw_shape(draw: str, channels: Sequence[int]) -> tuple[int, ...]:
    """Shape of one sample's normals of a draw, where dw has the shape ``channels``.

    Raises ValueError for areas where the channels are not (M,), M Brownian motions.
    """
    if draw != "area":
        return () if draw == "u" else tuple(channels)
    if len(channels) != 1:
        raise ValueError(
            "the draw 'area' is between the M Brownian motions of a sample, dw (B, M), but here "
            f"dw has the shape {('B', *channels)}: give the equation general noise, or a shape "
            "(B, M) to Brownian"
        )
    m = channels[0]
    return (m * (m - 1) // 2,)


@lru_cache(maxsize=64)
def _check_draws(draws: tuple[str, ...]) -> None:
    """Raises ValueError for a draw that is not known, or one that is nothing without another."""
    for draw in draws:
        check_choice("draw", draw, tuple(STREAMS))
    wanted = {"dw", "h"} if "area" in draws else {"dw"}
    if not wanted <= {*draws}:
        raise ValueError(
            "draws must have 'dw', and 'h' where they have 'area', which is drawn given it; got "
            f"{draws}: write {tuple(d for d in STREAMS if d in wanted.union(draws))}"
        )


def join(first: Increment, then: Increment) -> Increment:
    """The increment over two steps, one after the other; z and u are those of the first."""
    dt, dw = first.dt + then.dt, first.dw + then.dw
    h: Tensor | None = None
    if first.h is not None and then.h is not None:
        h = (first.dt * first.h + then.dt * then.h) / dt
        h = h + (then.dt * first.dw - first.dt * then.dw) / (2 * dt)
    area: Tensor | None = None
    if first.area is not None and then.area is not None:
        cross = first.dw[:, :, None] * then.dw[:, None, :]
        area = first.area + then.area + 0.5 * (cross - cross.mT)
    return Increment(dt, dw, h, area, first.z, first.u, _join_k(first, then))


def _join_k(first: Increment, then: Increment) -> Tensor | None:
    """k over both steps; in their integrals of W and s W the ends of the whole cancel exactly."""
    if first.k is None or then.k is None:
        return None
    u, v = first.dt, then.dt
    k = u * u * first.k + v * v * then.k + (0.5 * u * v) * (first.space_time - then.space_time)
    k = k + ((v - u) / 12.0) * (v * first.dw - u * then.dw)
    return k / (u + v) ** 2


def split(
    whole: Increment, first: float, normals: tuple[Tensor, Tensor]
) -> tuple[Increment, Increment]:
    """The increments over the first part of a step and over the rest, drawn given those over all.

    first: length of the first part, between 0 and the step's. normals: two standard normals a
    channel. z and u stay those of the step.
    """
    u, total, h = first, whole.dt, whole.space_time
    v = total - u
    # What is seen, (dw, h), as a combination of the parts' own independent (dw_1, h_1, dw_2, h_2).
    seen = np.array([[1.0, 0.0, 1.0, 0.0], [v / 2, u, -u / 2, v]])
    seen[1] /= total
    law = np.diag([u, u / 12, v, v / 12])
    gain = (law @ seen.T @ np.linalg.inv(seen @ law @ seen.T))[:2]
    left = (law - law @ seen.T @ np.linalg.inv(seen @ law @ seen.T) @ seen @ law)[:2, :2]
    # Rounding may leave nothing, or less, of a variance where a part is short.
    spread = max(left[0, 0], 0.0) ** 0.5
    tilt = left[1, 0] / spread if spread > 0.0 else 0.0
    other = max(left[1, 1] - tilt**2, 0.0) ** 0.5
    dw = float(gain[0, 0]) * whole.dw + float(gain[0, 1]) * h + spread * normals[0]
    h_first = float(gain[1, 0]) * whole.dw + float(gain[1, 1]) * h
    h_first = h_first + float(tilt) * normals[0] + other * normals[1]
    rest = whole.dw - dw
    h_rest = (total * h - u * h_first - (v * dw - u * rest) / 2) / v
    return (
        whole._replace(dt=u, dw=dw, h=h_first),
        whole._replace(dt=v, dw=rest, h=h_rest),
    )


def _area(dt: Any, dw: Tensor, h: Tensor, z: Tensor) -> Tensor:
    """The antisymmetric (B, M, M), from one normal for each pair i < j, row by row."""
    m = dw.shape[1]
    if m == 1:
        return torch.zeros_like(dw)[:, :, None]
    rows, columns = torch.triu_indices(m, m, 1, device=dw.device)
    hi, hj, wi, wj = h[:, rows], h[:, columns], dw[:, rows], dw[:, columns]
    spread = (dt * dt / 20.0 + (hi.square() + hj.square()) * (dt / 5.0)) ** 0.5
    upper = hi * wj - wi * hj + spread * z
    pairs = m * (m - 1) // 2
    place = [[2 * pairs] * m for _ in range(m)]  # of the zero on the diagonal
    for p, (i, j) in enumerate(combinations(range(m), 2)):
        place[i][j], place[j][i] = p, pairs + p
    both = torch.cat([upper, -upper, torch.zeros_like(dw[:, :1])], 1)
    return both[:, torch.tensor(place, device=dw.device)]
