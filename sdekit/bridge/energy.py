r"""The energy of paths that follow a velocity, beside the least that any could need.

    E(v) = E \int |v(t, X_t)|^2 dt >= W_2(\pi_0, \pi_1)^2 / T   (Benamou & Brenier 2000),

with equality for straight optimal transport; the normalized path energy of Tong et al. 2023
(arXiv 2302.00482) and Shi et al. 2023 is |E - W_2^2| / W_2^2.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from sdekit_kernels.checks import check_positive
from torch import Tensor


def path_energy(
    velocity: Callable[[Tensor, Tensor], Tensor], times: Tensor, paths: Tensor
) -> float:
    r"""E \int |v(t, x_t)|^2 dt over paths (N + 1, B, D...) at times (N + 1,), by trapezoids.

    The rule is off by O(h^2) of its steps: evaluate a probability flow with 100 or more.
    Raises ValueError for shapes that do not fit or times that do not move in one direction.
    """
    if times.ndim != 1 or len(times) < 2 or paths.shape[:1] != times.shape or paths.ndim < 3:
        raise ValueError(
            "times and paths must have shapes (N + 1,) and (N + 1, B, D...), got "
            f"{tuple(times.shape)} and {tuple(paths.shape)}"
        )
    steps = times.double().diff()
    if not bool((steps > 0).all() | (steps < 0).all()):
        raise ValueError("times must rise or fall all the way")
    with torch.no_grad():
        squares = [
            float(velocity(t, x).double().flatten(1).square().sum(1).mean())
            for t, x in zip(times, paths, strict=True)
        ]
    values = torch.tensor(squares, dtype=torch.float64)
    return float((0.5 * (values[1:] + values[:-1]) * steps.abs().cpu()).sum())


def normalized_path_energy(energy: float, distance: float) -> float:
    """|energy - W_2^2| / W_2^2 for paths over a unit of time; distance: W_2 of the two laws."""
    least = check_positive("distance", distance) ** 2
    return abs(check_positive("energy", energy, allow_zero=True) - least) / least
