r"""The modified Bessel function of the first kind, of any real order above -1, in logarithms.

Torch has it for the orders 0 and 1 only. Here in float64, differentiable in order and argument,
without overflow:

- r = sqrt(order^2 + z^2) < 30: the power series \sum_j (z/2)^{2j} / (j! \Gamma(order + j + 1)),
  64 positive terms; the last is below e^-80 of the largest;
- else: the uniform expansion in 1 / r (Debye; Olver 1974, NIST handbook 10.41), 14 terms; the
  first one left out is below 3e-16 at r = 30.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache

import torch
from torch import Tensor

__all__ = ["log_bessel"]

_TURN, _SERIES, _DEBYE = 30.0, 64, 14


def log_bessel(order: Tensor, z: Tensor) -> Tensor:
    """log(I_order(z) e^-z (z / 2)^-order), for order > -1 and z >= 0; float64.

    The factor makes it finite at z = 0, where it is -lgamma(order + 1).
    """
    order, z = torch.broadcast_tensors(order.double(), z.double())
    far = order.square() + z.square() >= _TURN**2
    # Each branch gets arguments at which it is smooth, so that no gradient turns to NaN.
    near_order, near_z = torch.where(far, 0.0, order), torch.where(far, 0.0, z)
    far_order, far_z = torch.where(far, order, 0.0), torch.where(far, z, _TURN)
    return torch.where(far, _expansion(far_order, far_z), _series(near_order, near_z))


def _series(order: Tensor, z: Tensor) -> Tensor:
    j = torch.arange(_SERIES, dtype=z.dtype, device=z.device)
    order, square = order.unsqueeze(-1), (0.25 * z.square()).unsqueeze(-1)
    # xlogy is 0 for j = 0 at z = 0; the other terms' logarithm there is -inf, whose gradient
    # would be no number: 1e-300 is 0 beside the first term.
    power = torch.xlogy(j, square.clamp(min=1e-300))
    terms = power - torch.lgamma(j + 1.0) - torch.lgamma(j + order + 1.0)
    return torch.logsumexp(terms, -1) - z


def _expansion(order: Tensor, z: Tensor) -> Tensor:
    r = torch.hypot(order, z)
    p_square = (order / r).square()
    total = torch.zeros_like(r)
    for coefficients in reversed(_debye()):
        value = torch.zeros_like(r)
        for c in reversed(coefficients):
            value = value * p_square + c
        total = total / r + value
    # r - z without cancellation.
    exponent = order.square() / (r + z) - torch.xlogy(order, 0.5 * (order + r))
    return exponent - 0.5 * torch.log(2.0 * math.pi * r) + total.log()


@lru_cache(maxsize=1)
def _debye() -> list[list[float]]:
    r"""Coefficients of V_k with U_k(p) = p^k V_k(p^2), k = 0 .. 13.

    U_0 = 1, U_{k+1}(p) = p^2 (1 - p^2) U_k'(p) / 2 + (1/8) \int_0^p (1 - 5 s^2) U_k(s) ds.
    """
    u, table = {0: Fraction(1)}, [[1.0]]
    for k in range(1, _DEBYE):
        following: dict[int, Fraction] = {}
        for n, c in u.items():
            for power, share in (
                (n + 1, c * n / 2 + c / (8 * (n + 1))),
                (n + 3, -c * n / 2 - 5 * c / (8 * (n + 3))),
            ):
                following[power] = following.get(power, Fraction(0)) + share
        u = following
        table.append([float(u[k + 2 * i]) for i in range(k + 1)])
    return table
