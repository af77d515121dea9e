"""The laws of the plane of Tong et al. 2023 (arXiv 2302.00482), as their code draws them.

Of eight Gaussians round a Gaussian their repository has two: the runner of the experiments draws
standard deviation 1, which is taken here; a function for its tutorials draws sqrt(0.1)^(1/2) =
0.56 ("narrow"). Two sets of 10^4 points of these are 0.19 and 0.24 apart.

Training points of a seed are its samples 0 .., held-out ones those from 2^40 on.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import sdekit_kernels
import torch
from torch import Tensor

from sdekit.noise import keys

Draw = Callable[[Tensor], Tensor]

HELD_OUT: Final = 1 << 40


def _normal(z: Tensor) -> Tensor:
    return z[:, :2]


def _half_circles(z: Tensor) -> Tensor:
    angle, outer = math.pi * torch.special.ndtr(z[:, 0]), z[:, 1] < 0
    x = torch.where(outer, angle.cos(), 1.0 - angle.cos())
    y = torch.where(outer, angle.sin(), 0.5 - angle.sin())
    return torch.stack([x, y], 1)


def _moons(z: Tensor) -> Tensor:
    """scikit-learn's with noise 0.05, times 2, the first component less 1."""
    shift = torch.tensor([1.0, 0.0], dtype=z.dtype)
    return 2.0 * (_half_circles(z) + 0.05 * z[:, 2:4]) - shift


def _wide_moons(z: Tensor) -> Tensor:
    """With noise 0.1, less the mean of all numbers, over their std, times 7 (De Bortoli et al.)."""
    mean, square = 0.375, 0.5 * (1.01 + 0.625 - 1.0 / math.pi + 0.01)
    return 7.0 * (_half_circles(z) + 0.1 * z[:, 2:4] - mean) / (square - mean**2) ** 0.5


def _s_curve(z: Tensor) -> Tensor:
    """scikit-learn's with noise 0.05, first and third component, times 1.5."""
    t = 3.0 * math.pi * (torch.special.ndtr(z[:, 0]) - 0.5)
    curve = torch.stack([t.sin(), t.sign() * (t.cos() - 1.0)], 1)
    return 1.5 * (curve + 0.05 * z[:, 1:3])


def _ring(z: Tensor) -> Tensor:
    """One of eight centres on the unit circle."""
    k = (8.0 * torch.special.ndtr(z[:, 2])).floor().clamp(max=7.0)
    return torch.stack([(0.25 * math.pi * k).cos(), (0.25 * math.pi * k).sin()], 1)


def _eight_gaussians(z: Tensor) -> Tensor:
    """Radius 5, standard deviation 1."""
    return 5.0 * _ring(z) + z[:, :2]


def _narrow_eight_gaussians(z: Tensor) -> Tensor:
    """Radius 5, covariance sqrt(0.1): the code takes the root of its "var"."""
    return 5.0 * _ring(z) + 0.1**0.25 * z[:, :2]


def _wide_eight_gaussians(z: Tensor) -> Tensor:
    """Radius 4 and standard deviation 0.5, times 3."""
    return 3.0 * (4.0 * _ring(z) + 0.5 * z[:, :2])


SETS: Final[dict[str, tuple[Draw, Draw]]] = {
    "moons": (_normal, _moons),
    "s-curve": (_normal, _s_curve),
    "8 gaussians": (_normal, _eight_gaussians),
    "8 narrow gaussians": (_normal, _narrow_eight_gaussians),
    "moons to 8 gaussians": (_wide_moons, _wide_eight_gaussians),
}
"""Source and target."""


def points(draw: Draw, n: int, *, seed: int, held_out: bool, second: bool = False) -> Tensor:
    """n points (n, 2) of a law. second: another end than the first, of normals of its own."""
    z = sdekit_kernels.normal(
        (n, 4),
        seed=2 * seed + second,
        stream=keys.DATA,
        first_sample=HELD_OUT if held_out else 0,
    )
    return draw(z.double()).float()
