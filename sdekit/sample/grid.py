"""Grids of times that a sampler walks down: t_0 = T > t_1 > ... > t_N = t_min."""

from __future__ import annotations

from typing import Any

import torch
from sdekit_kernels.checks import check_int_range, check_positive
from torch import Tensor

from sdekit.sde import AffineSDE


def uniform_times(sde: AffineSDE, steps: int, *, t_min: float | None = None) -> Tensor:
    """t_i = T + (i / N) (t_min - T), i = 0..N = ``steps``: (N + 1,) in float64.

    t_min: ``sde.t_min`` if None. Raises TypeError or ValueError unless steps >= 1 and
    0 <= t_min < T.
    """
    start, stop = _ends(sde, t_min)
    return torch.linspace(start, stop, _steps(steps) + 1, dtype=torch.float64)


def polynomial_times(
    sde: AffineSDE, steps: int, *, rho: float = 7.0, t_min: float | None = None
) -> Tensor:
    """t_i = (T^{1/rho} + (i / N) (t_min^{1/rho} - T^{1/rho}))^rho, i = 0..N: (N + 1,) in float64.

    Short steps near the data (Karras et al. 2022, arXiv 2206.00364, eq. 5, with sigma(t) = t):
    ``VE("edm")`` wants this grid, since its T = 80 is 40000 times its t_min and equal steps would
    cross all the small noise levels in the last one. rho = 1 gives equal steps.
    Raises TypeError or ValueError unless steps >= 1, rho > 0 and 0 <= t_min < T.
    """
    start, stop = _ends(sde, t_min)
    rho = check_positive("rho", rho)
    high, low = start ** (1.0 / rho), stop ** (1.0 / rho)
    times = torch.linspace(high, low, _steps(steps) + 1, dtype=torch.float64) ** rho
    # The power rounds: the ends are given, not computed.
    times[0], times[-1] = start, stop
    return times


def check_times(times: Any, sde: AffineSDE) -> Tensor:
    """A given grid as float64 on the host, (N + 1,).

    Raises TypeError for what is no sequence of numbers; ValueError unless N >= 1 and the times are
    finite, strictly decreasing, and within [0, T].
    """
    try:
        grid = torch.as_tensor(times).detach().to("cpu", torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"times must be a sequence of numbers, got {times!r}") from None
    if grid.ndim != 1 or grid.numel() < 2:
        raise ValueError(
            f"times must hold two or more numbers from the noise to the data, got shape "
            f"{tuple(grid.shape)}: write for instance uniform_times(sde, 100)"
        )
    if not bool(torch.isfinite(grid).all()):
        raise ValueError("times must be finite")
    rising = (grid[1:] >= grid[:-1]).nonzero()
    if rising.numel() > 0:
        i = int(rising[0])
        hint = ": write times.flip(0)" if bool((grid[1:] > grid[:-1]).all()) else ""
        raise ValueError(
            f"times must decrease strictly, from the noise to the data, but times[{i}] = "
            f"{float(grid[i]):g} is followed by {float(grid[i + 1]):g}{hint}"
        )
    # One part in 10^6 of room: a grid made in float32 may end beyond T by its rounding.
    if float(grid[-1]) < 0.0 or float(grid[0]) > sde.T * (1.0 + 1e-6):
        raise ValueError(
            f"times must lie in [0, {sde.T:g}], got {float(grid[0]):g} down to {float(grid[-1]):g}"
        )
    return grid


def following(times: Tensor) -> Tensor:
    """For each level of the grid the time that a chain would step to from there: (N + 1,).

    That is the next one on the grid; after the last level, one more step as long as the last one,
    no further than 0. Correctors need it, since alpha_i = 1 - beta_i belongs to a step.
    """
    beyond = (2.0 * times[-1] - times[-2]).clamp(min=0.0)
    return torch.cat([times[1:], beyond.view(1)])


def _steps(steps: Any) -> int:
    return check_int_range("steps", steps, 1, 1 << 31)


def _ends(sde: AffineSDE, t_min: float | None) -> tuple[float, float]:
    stop = check_positive("t_min", sde.t_min if t_min is None else t_min, allow_zero=True)
    if stop >= sde.T:
        raise ValueError(f"t_min must be below the SDE's T = {sde.T:g}, got {stop:g}")
    return float(sde.T), stop
