r"""Nodes and weights for the normals of one step.

A product of Gauss-Hermite rules with n nodes a normal is exact for polynomials up to degree 2n - 1
in each: with n = 4 it misjudges the expectation of a smooth function over one step by dt^4, less
than what tells orders up to two apart. A normal that the step sees through finitely many values
alone, its sign or whether it is above a threshold, gets one node for each of them, with its
probability; one that the step does not see gets one node. Both are found by looking.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import numpy as np
import torch
from torch import Tensor

__all__ = ["step_rule"]

_SCAN, _MOST = 801, 8
"""Values of a normal that are looked at, between -5 and 5, and jumps at most that are no slope."""

_Seen = Callable[[Tensor], Tensor]


def step_rule(seen: _Seen, dimensions: int, count: int) -> tuple[Tensor, Tensor]:
    """Points (Q, dimensions) and weights (Q,) of sum 1.

    seen: what a step makes of normals (P, dimensions), (P, K), from a few states at once. count:
    nodes of a normal of which the step is a smooth function.
    """
    rules = [_one(seen, i, dimensions, count) for i in range(dimensions)]
    points = [[z for z, _ in nodes] for nodes in product(*rules)]
    weights = [math.prod(w for _, w in nodes) for nodes in product(*rules)]
    return torch.tensor(points, dtype=torch.float64), torch.tensor(weights, dtype=torch.float64)


def _one(seen: _Seen, i: int, dimensions: int, count: int) -> list[tuple[float, float]]:
    """(node, weight) for normal i, the others held at values without meaning."""
    others = torch.linspace(0.37, -0.71, dimensions, dtype=torch.float64)

    def at(z: Tensor) -> Tensor:
        normals = others.repeat(len(z), 1)
        normals[:, i] = z
        return seen(normals)

    scan = torch.linspace(-5.0, 5.0, _SCAN, dtype=torch.float64) + 1e-3 * math.pi
    made = at(scan)
    jumps = (made[1:] != made[:-1]).any(1).nonzero().flatten()
    if len(jumps) > _MOST:
        z, weights = np.polynomial.hermite_e.hermegauss(count)
        return list(zip(z.tolist(), (weights / weights.sum()).tolist(), strict=True))
    thresholds = [_threshold(at, scan[j], scan[j + 1]) for j in jumps.tolist()]
    edges = [-math.inf, *thresholds, math.inf]
    below = [0.5 * math.erfc(-z / math.sqrt(2.0)) for z in edges]
    inner = [scan[0].item(), *thresholds, scan[-1].item()]
    return [
        (0.5 * (inner[j] + inner[j + 1]), below[j + 1] - below[j]) for j in range(len(edges) - 1)
    ]


def _threshold(at: _Seen, low: Tensor, high: Tensor) -> float:
    """Where the step jumps between two values of the normal, by bisection."""
    left = at(low[None])
    for _ in range(60):
        middle = 0.5 * (low + high)
        if torch.equal(at(middle[None]), left):
            low = middle
        else:
            high = middle
    return float(high)
