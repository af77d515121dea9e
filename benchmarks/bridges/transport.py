r"""The 2-Wasserstein distance of two clouds of the plane of one size, by an auction.

Each x_i without a partner bids for the y_j with the least c_{ij} + p_j, as much as it is better
than the second least, and \epsilon (Bertsekas 1988): when all have partners, the mean cost is at
most \epsilon above the least one. Prices only rise, so that a list of each point's best partners,
and the bound that the others had when it was made, say when all pairs must be looked at again:
10^4 points take seconds, where a network simplex on all pairs takes most of a minute.
"""

from __future__ import annotations

from typing import Any, Final

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

LISTED: Final = 48
PRECISION: Final = 5e-6
"""The last epsilon, in parts of the clouds' mean square."""
FACTOR: Final = 6.0
"""From one epsilon to the next one."""

Array = NDArray[np.float64]
_jit: Any = numba.njit


def plane_wasserstein2(x: Tensor, y: Tensor) -> tuple[float, float]:
    """The distance of x and y, both (n, 2), and how far above the exact one it may be."""
    partner, above = optimal_partners(x, y)
    square = float((x.double() - y.double()[partner]).square().sum(1).mean())
    return square**0.5, square**0.5 - max(square - above, 0.0) ** 0.5


def optimal_partners(x: Tensor, y: Tensor) -> tuple[Tensor, float]:
    """The partner in y of each x, both (n, 2), and what their mean square may be above the least.

    Raises ValueError for clouds of two sizes, or not of the plane.
    """
    a, b = (v.double().numpy() for v in (x, y))
    if a.shape != b.shape or a.shape[1] != 2:
        raise ValueError(f"two clouds (n, 2) of one size are needed, got {a.shape} and {b.shape}")
    a, b = a - a.mean(0), b - b.mean(0)
    last = PRECISION * float((a * a).sum(1).mean() + (b * b).sum(1).mean())
    steps = [last * FACTOR**k for k in range(8)]
    partner = _auction(a, b, np.array(steps[::-1]), min(LISTED, len(a)))
    return torch.from_numpy(partner), last


@_jit(cache=True)
def _listed(
    i: int, x: Array, y: Array, prices: Array, who: Any, costs: Array, bound: Array
) -> None:
    """The partners of x_i with the least c + p; ``bound``: the largest of these."""
    n, k = len(y), who.shape[1]
    worst, at = -np.inf, 0
    for j in range(n):
        cost = (x[i, 0] - y[j, 0]) ** 2 + (x[i, 1] - y[j, 1]) ** 2
        value = cost + prices[j]
        if j >= k and value >= worst:
            continue
        place = j if j < k else at
        who[i, place], costs[i, place] = j, cost
        if j >= k - 1:
            worst = -np.inf
            for q in range(k):
                other = costs[i, q] + prices[who[i, q]]
                if other > worst:
                    worst, at = other, q
    bound[i] = worst


@_jit(cache=True)
def _auction(x: Array, y: Array, steps: Array, k: int) -> Any:
    """The partner of each x."""
    n = len(x)
    prices, bound = np.zeros(n), np.empty(n)
    who, costs = np.empty((n, k), np.int64), np.empty((n, k))
    for i in range(n):
        _listed(i, x, y, prices, who, costs, bound)
    partner, owner, waiting = np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.int64)
    for epsilon in steps:
        partner[:], owner[:] = -1, -1
        count = n
        for i in range(n):
            waiting[i] = i
        while count > 0:
            count -= 1
            i = waiting[count]
            for attempt in range(2):
                best, second, chosen = np.inf, np.inf, 0
                for q in range(k):
                    value = costs[i, q] + prices[who[i, q]]
                    if value < best:
                        best, second, chosen = value, best, who[i, q]
                    elif value < second:
                        second = value
                if second <= bound[i] or attempt == 1:
                    break
                _listed(i, x, y, prices, who, costs, bound)
            prices[chosen] += second - best + epsilon
            if owner[chosen] >= 0:
                partner[owner[chosen]] = -1
                waiting[count] = owner[chosen]
                count += 1
            owner[chosen], partner[i] = i, chosen
    return partner
