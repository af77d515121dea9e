r"""Laws of the plane that papers on flows and bridges use, in their published parameterizations.

z_1, z_2, ... are independent normals, u = Phi(z) uniform on (0, 1), s the std of the noise.
eight_gaussians, pinwheel, checkerboard, moons and swiss_roll are those of FFJORD (Grathwohl et al.
2019); moons, swiss_roll and s_curve before their scaling those of scikit-learn, whose noise the
Schrödinger bridges of De Bortoli et al. 2021 and Shi et al. 2023 choose as here for s_curve. They
then subtract the mean, divide by the std and multiply by 7: with ``mean`` and ``cov`` from here,
7 (x - mean) / cov.diagonal().sqrt().
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sdekit.data.plane import Plane

__all__ = ["checkerboard", "eight_gaussians", "moons", "pinwheel", "s_curve", "swiss_roll"]

_PI = math.pi


def _uniform(z: Tensor) -> Tensor:
    return torch.special.ndtr(z)


def _one_of(z: Tensor, k: int) -> Tensor:
    """0..k - 1 with equal probabilities, from a normal."""
    return (k * _uniform(z)).floor().clamp(max=k - 1)


def _vector(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _cov(xx: float, xy: float, yy: float) -> Tensor:
    return torch.tensor([[xx, xy], [xy, yy]], dtype=torch.float64)


def _moons(z: Tensor) -> Tensor:
    """(cos a, sin a) or (1 - cos a, 1/2 - sin a), a = pi u, s = 0.1; then 2 x - (1, 0.2)."""
    a, outer = _PI * _uniform(z[:, 0]), z[:, 1] < 0
    x = torch.where(outer, a.cos(), 1.0 - a.cos())
    y = torch.where(outer, a.sin(), 0.5 - a.sin())
    return 2.0 * (torch.stack([x, y], 1) + 0.1 * z[:, 2:4]) - _vector(1.0, 0.2)


moons = Plane(
    "moons",
    4,
    _moons,
    mean=_vector(0.0, 0.3),
    # E sin a = 2 / pi, E sin^2 a = E cos^2 a = 1/2, E cos a = E sin a cos a = 0.
    cov=4.0 * _cov(0.75 + 0.01, 0.125 - 1.0 / _PI, 0.5 * (1.25 - 2.0 / _PI) - 1.0 / 16.0 + 0.01),
)


def _s_curve(z: Tensor) -> Tensor:
    """(sin t, sign(t) (cos t - 1)), t = 3 pi (u - 1/2), s = 0.1."""
    t = 3.0 * _PI * (_uniform(z[:, 0]) - 0.5)
    return torch.stack([t.sin(), t.sign() * (t.cos() - 1.0)], 1) + 0.1 * z[:, 1:3]


s_curve = Plane(
    "s_curve",
    3,
    _s_curve,
    mean=_vector(0.0, 0.0),
    # E cos t = -2 / (3 pi), E cos 2t = 0, and sin t (cos t - 1) over (0, 3 pi / 2) is -1 / (3 pi).
    cov=_cov(0.5 + 0.01, -1.0 / (3.0 * _PI), 1.5 + 4.0 / (3.0 * _PI) + 0.01),
)


def _swiss_roll(z: Tensor) -> Tensor:
    """(t cos t, t sin t) / 5, t = 1.5 pi (1 + 2 u), with s = 1 before the division."""
    t = 1.5 * _PI * (1.0 + 2.0 * _uniform(z[:, 0]))
    return (torch.stack([t * t.cos(), t * t.sin()], 1) + z[:, 1:3]) / 5.0


def _swiss_roll_moments() -> tuple[Tensor, Tensor]:
    """From integrals of t^k cos and sin over (a, b) = (1.5 pi, 4.5 pi) by parts."""
    a, b = 1.5 * _PI, 4.5 * _PI
    mean = _vector(2.0, 2.0 / (3.0 * _PI))
    square = (b**3 - a**3) / (18.0 * _PI)
    second = _cov(square - 0.25 + 1.0, (b * b - a * a) / (12.0 * _PI), square + 0.25 + 1.0)
    return mean / 5.0, (second - torch.outer(mean, mean)) / 25.0


swiss_roll = Plane("swiss_roll", 3, _swiss_roll, *_swiss_roll_moments())


def _eight_gaussians(z: Tensor) -> Tensor:
    """(4 (cos a, sin a) + z / 2) / sqrt 2 with a = 2 pi k / 8, k one of 0..7."""
    a = 0.25 * _PI * _one_of(z[:, 0], 8)
    centre = 4.0 * torch.stack([a.cos(), a.sin()], 1)
    return (centre + 0.5 * z[:, 1:3]) / math.sqrt(2.0)


def _eight_gaussians_log_density(x: Tensor) -> Tensor:
    """log of the mean of eight normal densities of variance 1/8."""
    x = x.double()
    a = 0.25 * _PI * torch.arange(8, dtype=torch.float64)
    centre = math.sqrt(8.0) * torch.stack([a.cos(), a.sin()], 1)
    squares = (x.unsqueeze(-2) - centre).square().sum(-1)
    return (-4.0 * squares).logsumexp(-1) - math.log(8.0 * _PI / 4.0)


eight_gaussians = Plane(
    "eight_gaussians",
    3,
    _eight_gaussians,
    mean=_vector(0.0, 0.0),
    # Centres on a circle of radius sqrt 8: 4 in each direction; noise: 1/8.
    cov=_cov(4.125, 0.0, 4.125),
    log_density=_eight_gaussians_log_density,
)


def _pinwheel(z: Tensor) -> Tensor:
    """2 R(2 pi k / 5 + e^f / 4) (f, g), f = 1 + 0.3 z_2, g = 0.1 z_3, k one of 0..4."""
    f, g = 1.0 + 0.3 * z[:, 1], 0.1 * z[:, 2]
    a = 0.4 * _PI * _one_of(z[:, 0], 5) + 0.25 * f.exp()
    return 2.0 * torch.stack([a.cos() * f - a.sin() * g, a.sin() * f + a.cos() * g], 1)


pinwheel = Plane(
    "pinwheel",
    3,
    _pinwheel,
    mean=_vector(0.0, 0.0),
    # Five arms: no direction is special. E |x|^2 = 4 (1 + 0.09 + 0.01).
    cov=_cov(2.2, 0.0, 2.2),
)


def _checkerboard(z: Tensor) -> Tensor:
    """x = 4 u_1 - 2, y = u_2 - 2 k + (floor(x) mod 2), k one of 0, 1; both times 2."""
    x = 4.0 * _uniform(z[:, 0]) - 2.0
    y = _uniform(z[:, 1]) - 2.0 * _one_of(z[:, 2], 2) + x.floor().remainder(2.0)
    return 2.0 * torch.stack([x, y], 1)


def _checkerboard_log_density(x: Tensor) -> Tensor:
    """1 / 32 on eight of the sixteen squares of side 2 in [-4, 4)^2, those whose indices agree."""
    x = x.double()
    cell = (x / 2.0).floor()
    inside = ((x >= -4.0) & (x < 4.0)).all(-1) & (cell.sum(-1).remainder(2.0) == 0.0)
    return inside.double().log() - math.log(32.0)


checkerboard = Plane(
    "checkerboard",
    3,
    _checkerboard,
    mean=_vector(0.0, 0.0),
    cov=_cov(16.0 / 3.0, 1.0, 16.0 / 3.0),
    log_density=_checkerboard_log_density,
)
