r"""Wasserstein distances between point clouds: sliced, and exact by assignment.

    W_p(x, y)^p = min over couplings of E |X - Y|^p.

Distances between n draws of one law are above zero: of order n^{-1/2} for slices and n^{-1/D} in D
dimensions. Compare with the distance between two sets of draws of the target, of the same sizes.
"""

from __future__ import annotations

import numpy as np
import sdekit_kernels
import torch
from numpy.typing import NDArray
from sdekit_kernels.checks import check_int_range, check_positive
from torch import Tensor

from sdekit.bridge.clouds import two_clouds
from sdekit.noise import keys


def sliced_wasserstein(
    x: Tensor, y: Tensor, *, projections: int = 256, p: float = 2.0, seed: int = 0
) -> float:
    r"""(E_\theta W_p(\theta . x, \theta . y)^p)^{1/p} over directions \theta of the sphere.

    x (n, D...), y (m, D...): any sizes. The mean over ``projections`` directions, which are normals
    of the seed's counters divided by their length (Rabin et al. 2011; Bonneel et al. 2015). On a
    line the distance is exact: between the sorted values, by their shares of the mass.
    Raises TypeError or ValueError for shapes that do not fit, points that are not finite, p < 1.
    """
    x, y = two_clouds(x, y)
    count = check_int_range("projections", projections, 1, 1 << 31)
    power = check_positive("p", p)
    if power < 1.0:
        raise ValueError(f"p must be 1 or more, got {p:g}")
    theta = sdekit_kernels.normal(
        (count, x.shape[1]), seed=seed, stream=keys.PROBE, dtype=torch.float64, device=x.device
    )
    theta = theta / theta.norm(dim=1, keepdim=True)
    i, j, mass = (v.to(x.device) for v in _shares(len(x), len(y)))
    total = 0.0
    # Some directions at a time: all at once would hold (n + m) numbers for each of them.
    for some in theta.split(max(1, (1 << 24) // (len(x) + len(y)))):
        xs, ys = (some @ x.mT).sort(1).values, (some @ y.mT).sort(1).values
        gap = (xs[:, i] - ys[:, j]).abs() ** power
        total += float((gap @ mass).sum())
    return float((total / count) ** (1.0 / power))


def _shares(n: int, m: int) -> tuple[Tensor, Tensor, Tensor]:
    """Which sorted x meets which sorted y, and with how much mass, in whole parts of 1 / (n m)."""
    levels = torch.cat([torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n]).unique()
    lower = torch.cat([torch.zeros(1, dtype=torch.int64), levels[:-1]])
    mass = (levels - lower).double() / (n * m)
    return lower // m, lower // n, mass


def wasserstein2(x: Tensor, y: Tensor) -> float:
    """The 2-Wasserstein distance between the clouds x (n, D...) and y (m, D...), of equal masses.

    Exact: by POT's network simplex, or, where POT is not installed, for n = m, by scipy's
    assignment. Both get centred clouds, which changes the square by that of the means' difference,
    and takes scipy's time for 2000 points three apart from 23 seconds to 1.4. Memory n m float64;
    time about the square of n: 10^4 points in the plane take POT 44 seconds on one core.
    Raises ImportError if neither is installed; TypeError or ValueError for shapes that do not fit
    or points that are not finite.
    """
    x, y = two_clouds(x, y)
    x, y = x.cpu(), y.cpu()
    shift = float((x.mean(0) - y.mean(0)).square().sum())
    x, y = x - x.mean(0), y - y.mean(0)
    cost = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").square().numpy()
    return float((shift + _least_cost(cost)) ** 0.5)


def _least_cost(cost: NDArray[np.float64]) -> float:
    """The least mean of cost (n, m) over couplings of equal masses."""
    try:
        import ot  # optional
    except ImportError:
        if cost.shape[0] != cost.shape[1]:
            raise ImportError(
                "wasserstein2 of clouds of different sizes needs POT: pip install pot"
            ) from None
        return _assigned(cost)
    value, log = ot.emd2([], [], cost, numItermax=100_000_000, log=True)
    if log["warning"] is not None:
        raise RuntimeError(f"POT did not find the optimal coupling: {log['warning']}")
    return max(float(value), 0.0)


def _assigned(cost: NDArray[np.float64]) -> float:
    try:
        from scipy.optimize import linear_sum_assignment  # optional
    except ImportError:
        raise ImportError("wasserstein2 needs POT or scipy: pip install pot") from None
    rows, columns = linear_sum_assignment(cost)
    return float(cost[rows, columns].mean())
