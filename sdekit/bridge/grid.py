r"""The one grid of times that the cache, the training and the sampling of a bridge share.

Times 0 = t_0 < ... < t_N = T, steps \gamma_k = t_k - t_{k-1}. A step forward from t_k asks the
forward drift at t_k, k = 0 .. N - 1; a step backward from t_k asks the backward drift at t_k,
k = N .. 1: always at the time of the state that is given to it. ``asked`` is that list, and it is
the only one: what is fitted at ``asked(direction)[j]`` is asked at ``asked(direction)[j]``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

import torch
from sdekit_kernels.checks import check_choice, check_int_range, check_positive
from torch import Tensor

Direction = Literal["forward", "backward"]
DIRECTIONS: Final = ("forward", "backward")
GAMMAS: Final = ("constant", "ramp", "linear", "geometric")


def check_direction(given: Any) -> Direction:
    """``given`` if it is a direction; raises ValueError otherwise."""
    return "forward" if check_choice("direction", given, DIRECTIONS) == "forward" else "backward"


def opposite(direction: Direction) -> Direction:
    """The other direction."""
    return "backward" if direction == "forward" else "forward"


@dataclass(frozen=True, slots=True, eq=False)
class TimeGrid:
    """Times (N + 1,) from 0 to T, float64 on the CPU.

    "In order of motion" is from the first step that a direction takes to its last.
    """

    times: Tensor

    @property
    def N(self) -> int:
        """The number of steps."""
        return len(self.times) - 1

    @property
    def T(self) -> float:
        """The last time."""
        return float(self.times[-1])

    def path(self, direction: Direction) -> Tensor:
        """The times (N + 1,) of the states of a path in this direction, in order of motion."""
        return self.times if direction == "forward" else self.times.flip(0)

    def asked(self, direction: Direction) -> Tensor:
        """The times (N,) at which this direction's drift is asked, in order of motion."""
        return self.path(direction)[:-1]

    def lengths(self, direction: Direction) -> Tensor:
        """The lengths (N,) of this direction's steps, in order of motion."""
        return self.path(direction).diff().abs()

    def nearest(self, direction: Direction, t: Tensor) -> Tensor:
        """The number j, in order of motion, of the asked time that is nearest to t; t's shape."""
        asked = self.asked("forward") if direction == "forward" else self.asked("backward").flip(0)
        middles = 0.5 * (asked[1:] + asked[:-1])
        found = torch.searchsorted(middles.to(t.device), t.detach().double())
        return found if direction == "forward" else self.N - 1 - found


def time_grid(
    steps: Any, T: float, *, gammas: str | Tensor = "constant", ratio: float = 10.0
) -> TimeGrid:
    r"""The grid of ``steps`` steps on [0, T].

    gammas: the steps' lengths, (N,), whose sum must be T; or their shape, which is scaled to T:
    "constant"; "ramp", which rises on a line from \gamma_min to \gamma_max over the first half of
    the steps and falls likewise over the second one, as in De Bortoli et al. 2021 (arXiv
    2106.01357, section 6); "linear" and "geometric", which rise all the way.
    ratio: \gamma_max / \gamma_min.
    Raises TypeError or ValueError for N < 1, a step that is not above zero, a sum that is not T.
    """
    if isinstance(gammas, str):
        n = check_int_range("steps", steps, 1, 1 << 31)
        lengths = _shape(check_choice("gammas", gammas, GAMMAS), n, ratio)
        lengths = lengths * (T / lengths.sum())
    else:
        lengths = _given(gammas, steps, T)
    times = torch.cat([torch.zeros(1, dtype=torch.float64), lengths.cumsum(0)])
    times[-1] = T
    return TimeGrid(times)


def _shape(gammas: str, n: int, ratio: float) -> Tensor:
    ratio = check_positive("ratio", ratio)
    if gammas == "constant":
        return torch.ones(n, dtype=torch.float64)
    rising = (n + 1) // 2 if gammas == "ramp" else n
    way = torch.linspace(0.0, 1.0, rising, dtype=torch.float64)
    lengths = ratio**way if gammas == "geometric" else 1.0 + (ratio - 1.0) * way
    if gammas == "ramp":
        # The mirror; of an odd number of steps the longest one stands in the middle alone.
        lengths = torch.cat([lengths, lengths[: n // 2].flip(0)])
    return lengths


def _given(gammas: Any, steps: Any, T: float) -> Tensor:
    lengths = torch.as_tensor(gammas, dtype=torch.float64, device="cpu").detach()
    if lengths.ndim != 1 or len(lengths) < 1:
        raise ValueError(f"gammas must be (N,) with N of 1 or more, got {tuple(lengths.shape)}")
    if steps is not None and steps != len(lengths):
        raise ValueError(f"there are {len(lengths)} gammas for steps={steps}: leave steps away")
    bad = ~((lengths > 0.0) & lengths.isfinite())
    if bool(bad.any()):
        where = int(bad.nonzero()[0])
        raise ValueError(
            f"every gamma must be finite and above zero, gammas[{where}] = {float(lengths[where])}"
        )
    total = float(lengths.sum())
    if abs(total - T) > 1e-6 * T:
        raise ValueError(
            f"the gammas sum to {total:g}, the reference ends at T = {T:g}: give it T={total:g}"
        )
    return lengths
