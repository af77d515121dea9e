r"""How to choose the noise levels and steps of annealed Langevin dynamics: NCSNv2's techniques.

Song & Ermon 2020, "Improved techniques for training score-based generative models", arXiv
2006.09011: techniques 1, 2 and 4. Technique 3 (the network's output over sigma) is what
``sdekit.score.from_eps`` does, technique 5 is the average of weights; the final denoising is
``annealed_langevin(denoise=True)``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import torch
from sdekit_kernels.checks import check_float_tensor, check_int_range, check_positive
from torch import Tensor

__all__ = [
    "NCSNv2Levels",
    "geometric_levels",
    "geometric_ratio",
    "langevin_step_size",
    "largest_distance",
    "level_overlap",
    "ncsnv2_levels",
    "variance_ratio",
]

_ROWS: Final = 512
"""Rows of the matrix of distances made at a time: 5,000 data take 10 MB."""


def largest_distance(data: Tensor) -> float:
    r"""sigma_1 = max_{i, j} ||x_i - x_j||, of data (N, D...), in their units (technique 1).

    With noise of this std every two data points are within each other's reach. In float64, all N^2
    pairs: give a part of a large set. Raises TypeError or ValueError unless there are two points.
    """
    given = check_float_tensor("data", data).detach()
    if given.ndim < 2 or len(given) < 2:
        raise ValueError(f"data must be (N, D...) with N of 2 or more, got {tuple(given.shape)}")
    x = given.flatten(1).double()
    # The squares of a distance are differences of squares of norms: keep these small.
    x = x - x.mean(0)
    squares = x.square().sum(1)
    largest = 0.0
    for block in range(0, len(x), _ROWS):
        part = slice(block, block + _ROWS)
        between = squares[part, None] + squares[None, :] - 2.0 * (x[part] @ x.T)
        largest = max(largest, float(between.max()))
    return math.sqrt(largest)


def level_overlap(gamma: float, dimension: int) -> float:
    r"""Phi(sqrt(2 D) (gamma - 1) + 3 gamma) - Phi(sqrt(2 D) (gamma - 1) - 3 gamma).

    The part of the samples of level sigma whose norm lies within three deviations of that of level
    sigma / gamma (technique 2).
    """
    shift = math.sqrt(2.0 * dimension) * (gamma - 1.0)
    return _normal_cdf(shift + 3.0 * gamma) - _normal_cdf(shift - 3.0 * gamma)


def geometric_ratio(dimension: int, overlap: float = 0.5) -> float:
    """The ratio gamma > 1 of neighbouring levels, with ``level_overlap`` = overlap (technique 2).

    Raises ValueError unless 0 < overlap < 0.99 and D >= 5: with fewer components sqrt(2 D) <= 3
    gamma wins, and the levels overlap by more than half at any ratio.
    """
    d = check_int_range("dimension", dimension, 1, 1 << 62)
    wanted = check_positive("overlap", overlap)
    if wanted >= 0.99:
        raise ValueError(f"overlap must be below 0.99, that of equal levels is 0.997, got {wanted}")
    if d < 5:
        raise ValueError(
            f"with {d} components levels of any ratio overlap: the equation has a solution from 5 "
            "components on; choose the ratio yourself, for instance 1.5"
        )
    low, high = 1.0, 2.0
    while level_overlap(high, d) > wanted:
        high = 2.0 * high
    # The overlap rises a little above that at 1 and falls from there: there is one crossing.
    while (middle := 0.5 * (low + high)) not in (low, high):
        low, high = (middle, high) if level_overlap(middle, d) > wanted else (low, middle)
    return high


def geometric_levels(sigma_max: float, sigma_min: float, ratio: float) -> Tensor:
    """sigma_1 > ... > sigma_L with equal ratios no larger than ``ratio``, (L,) in float64.

    L is the fewest levels. Raises TypeError or ValueError unless 0 < sigma_min < sigma_max and
    ratio > 1.
    """
    high, low = check_positive("sigma_max", sigma_max), check_positive("sigma_min", sigma_min)
    if low >= high:
        raise ValueError(f"sigma_min must be below sigma_max, got {low:g} and {high:g}")
    if not check_positive("ratio", ratio) > 1.0:
        raise ValueError(f"ratio must be above 1, got {ratio:g}")
    gaps = max(math.ceil(math.log(high / low) / math.log(ratio) - 1e-9), 1)
    levels = torch.linspace(math.log(high), math.log(low), gaps + 1, dtype=torch.float64).exp()
    levels[0], levels[-1] = high, low
    return levels


def variance_ratio(share: float, ratio: float, steps_each: int) -> float:
    r"""s_T^2 / sigma_i^2 of samples of level gamma sigma_i after T Langevin steps at sigma_i.

    (1 - e)^{2 T} (gamma^2 - k) + k with e = eps / sigma_L^2 and k = 2 e / (1 - (1 - e)^2), for data
    that are one point (technique 4, proposition 3). share: e in (0, 1].
    """
    stationary = 2.0 / (2.0 - share)
    return (1.0 - share) ** (2 * steps_each) * (ratio**2 - stationary) + stationary


def langevin_step_size(ratio: float, steps_each: int, sigma_min: float) -> float:
    """The paper's eps, with which ``variance_ratio`` is closest to 1 (technique 4).

    The paper's step is x + a s + sqrt(2 a) z with a = eps sigma_i^2 / sigma_L^2; that of
    ``annealed_langevin`` follows the paper of 2019, x + a / 2 s + sqrt(a) z: hand it 2 eps.
    ratio: gamma. steps_each: T. sigma_min: sigma_L. Raises TypeError or ValueError unless gamma > 1
    and T >= 1.
    """
    if not check_positive("ratio", ratio) > 1.0:
        raise ValueError(f"ratio must be above 1, got {ratio:g}")
    t = check_int_range("steps_each", steps_each, 1, 1 << 31)
    # Both terms stay above 1: the ratio falls from gamma^2 at e = 0 and rises again to 2 at e = 1.
    low, high, golden = 0.0, 1.0, 0.5 * (math.sqrt(5.0) - 1.0)
    for _ in range(80):
        left, right = high - golden * (high - low), low + golden * (high - low)
        if variance_ratio(left, ratio, t) < variance_ratio(right, ratio, t):
            high = right
        else:
            low = left
    return 0.5 * (low + high) * check_positive("sigma_min", sigma_min) ** 2


@dataclass(frozen=True, slots=True)
class NCSNv2Levels:
    """What ``annealed_langevin(score, sigmas, shape, steps_each=, eps=)`` takes.

    sigmas: (L,) float64. eps: twice the paper's, see ``langevin_step_size``.
    """

    sigmas: Tensor
    steps_each: int
    eps: float


def ncsnv2_levels(
    data: Any, *, sigma_min: float = 0.01, steps_each: int = 5, overlap: float = 0.5
) -> NCSNv2Levels:
    """Levels and step size from the data (N, D...) by techniques 1, 2 and 4.

    Raises TypeError or ValueError as the functions of this module.
    """
    sigma_max = largest_distance(data)
    sigmas = geometric_levels(
        sigma_max, sigma_min, geometric_ratio(math.prod(data.shape[1:]), overlap)
    )
    ratio = float(sigmas[0] / sigmas[1])
    return NCSNv2Levels(sigmas, steps_each, 2.0 * langevin_step_size(ratio, steps_each, sigma_min))


def _normal_cdf(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2.0))
