r"""Noise levels: EDM's grid of them, the times at which an equation has them, a chain's subsets.

The level of x_t is sigma(t) / alpha(t): that of the noise in y / alpha(t) = y_0 + level z, which is
data with noise whatever the equation (Karras et al. 2022, arXiv 2206.00364, eq. 4 ff.).
"""

from __future__ import annotations

from typing import Any, Final

import torch
from sdekit_kernels.checks import check_choice, check_int_range, check_positive
from torch import Tensor

from sdekit.sde import AffineSDE

__all__ = ["chain_times", "edm_sigmas", "levels_at", "times_of_levels"]

_HALVINGS: Final = 200
"""An interval [0, T] shrinks to neighbours in float64 near t after 53 + log2(T / t) halvings."""


def edm_sigmas(
    steps: int, *, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0
) -> Tensor:
    """EDM's levels, (N + 1,) in float64, decreasing, the last one 0 (Karras et al. 2022, eq. 5).

    sigma_i = (sigma_max^{1/rho} + i / (N - 1) (sigma_min^{1/rho} - sigma_max^{1/rho}))^rho for i =
    0..N - 1, and sigma_N = 0; N = ``steps``. For N = 1 they are sigma_max and 0.
    Raises TypeError or ValueError unless N >= 1, rho > 0 and 0 < sigma_min < sigma_max.
    """
    n = check_int_range("steps", steps, 1, 1 << 31)
    low, high = check_positive("sigma_min", sigma_min), check_positive("sigma_max", sigma_max)
    rho = check_positive("rho", rho)
    if low >= high:
        raise ValueError(f"sigma_min must be below sigma_max, got {low:g} and {high:g}")
    roots = torch.linspace(high ** (1.0 / rho), low ** (1.0 / rho), n, dtype=torch.float64)
    sigmas = torch.cat([roots**rho, torch.zeros(1, dtype=torch.float64)])
    # The power rounds: the ends are given, not computed.
    if n > 1:
        sigmas[n - 1] = low
    sigmas[0] = high
    return sigmas


def levels_at(sde: AffineSDE, t: Tensor) -> Tensor:
    """sigma(t) / alpha(t), of t's shape, for an equation without per component parameters.

    Raises ValueError for one with them: its components have levels of their own.
    """
    if sde.event_shape is not None:
        raise ValueError(
            "one noise level for all components is needed, but the SDE's parameters have the "
            f"event shape {sde.event_shape}: use sample(sde, ...), which works in t"
        )
    return sde.std(t) / sde.mean_coefficient(t)


def times_of_levels(sde: AffineSDE, levels: Tensor) -> Tensor:
    """The times at which sigma(t) / alpha(t) is ``levels``, float64, of their shape; 0 at level 0.

    By bisection, to neighbours in float64; also beyond T where the equation goes on there.
    Raises ValueError for levels below 0 or above what the equation reaches.
    """
    levels = levels.detach().to("cpu", torch.float64)
    top = float(levels.max()) if levels.numel() else 0.0
    if not bool(((levels >= 0.0) & torch.isfinite(levels)).all()):
        raise ValueError(f"noise levels must be finite and zero or more, got {levels.tolist()[:6]}")
    end = torch.tensor(float(sde.T), dtype=torch.float64)
    # A level that is the one at T up to rounding is that of T.
    largest = float(levels_at(sde, end))
    levels = torch.where((levels / largest - 1.0).abs() < 1e-12, largest, levels)
    for _ in range(10):
        if float(levels_at(sde, end)) >= min(top, float(levels.max())):
            break
        end = 2.0 * end
    else:
        raise ValueError(
            f"the level {top:g} is above all that {type(sde).__name__} has, {largest:g} at T = "
            f"{sde.T:g}: write a smaller sigma_max, or with churn a smaller churn_max"
        )
    # Level 0 is at t = 0, to which halvings lead too slowly.
    data = levels == 0.0
    levels = torch.where(data, largest, levels)
    low, high = torch.zeros_like(levels), end.expand_as(levels).clone()
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        if not bool(((middle > low) & (middle < high)).any()):
            break
        above = levels_at(sde, middle) >= levels
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    return torch.where(data, 0.0, high)


def chain_times(chain: Any, steps: int, *, spacing: str = "linear") -> Tensor:
    """A subset of a chain's levels as times k / N, from 1 down to 0: (S + 1,) in float64.

    k_i = N (1 - i / S), or N (1 - i / S)^2 for spacing "quadratic", rounded to whole levels and
    moved apart where two meet, S = ``steps`` (Song, Meng & Ermon 2020, appendix D.2, there without
    the ends). chain: a ``DDPM``, or its ``sde``.
    Raises TypeError for another equation, ValueError unless 1 <= S <= N.
    """
    betas = getattr(getattr(getattr(chain, "sde", chain), "schedule", None), "betas", None)
    if betas is None:
        raise TypeError(f"chain must be a DDPM or its sde, got {type(chain).__name__}")
    check_choice("spacing", spacing, ("linear", "quadratic"))
    levels = len(betas)
    n = check_int_range("steps", steps, 1, levels + 1)
    share = torch.arange(n, -1, -1, dtype=torch.float64) / n
    k = (levels * (share if spacing == "linear" else share.square())).round().long().tolist()
    for i in range(n - 1, -1, -1):
        k[i] = max(k[i], k[i + 1] + 1)
    return torch.tensor(k, dtype=torch.float64) / levels
