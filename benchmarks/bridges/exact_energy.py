r"""The energy of the Schrödinger bridge itself, between clouds of points, without any fit.

The entropic plan of two clouds, with regularization 2 sigma^2, is its coupling; given a pair, X_t
is N((1 - t) x_0 + t x_1, sigma^2 t (1 - t)), and the velocity of the probability flow is

    v(t, x) = E[x_1 - x_0 + (1 - 2 t) / (2 t (1 - t)) (x - (1 - t) x_0 - t x_1) | X_t = x],

a mean over pairs with normal weights. The energy is \int_0^1 E |v(t, X_t)|^2 dt.
"""

from __future__ import annotations

import math
from typing import Final

import sdekit_kernels
import torch
from torch import Tensor

from sdekit.bridge.closed_form import sinkhorn
from sdekit.noise import keys

TIMES: Final = 25
PARTNERS: Final = 3
"""Partners that are drawn for each point of the source."""


def bridge_energy(x0: Tensor, x1: Tensor, *, seed: int, sigma: float = 1.0) -> float:
    """The energy between two clouds (n, 2), by the middles of 25 intervals of time."""
    x0, x1 = x0.double(), x1.double()
    plan = sinkhorn(x0, x1, epsilon=2.0 * sigma**2, tolerance=1e-4).plan
    shares = (plan / plan.sum(1, keepdim=True)).cumsum(1)
    u = torch.special.ndtr(_normal((len(x0), PARTNERS), seed, 0))
    partner = torch.searchsorted(shares, u).clamp(max=len(x1) - 1)
    first, second = x0.repeat_interleave(PARTNERS, 0), x1[partner.flatten()]
    total = 0.0
    for k in range(TIMES):
        t = (k + 0.5) / TIMES
        middle, variance = (1.0 - t) * first + t * second, sigma**2 * t * (1.0 - t)
        # Every third pair: one of each point of the source.
        x = middle[k % PARTNERS :: PARTNERS]
        x = x + math.sqrt(variance) * _normal((len(x), 2), seed, k + 1)
        weight = torch.softmax(-torch.cdist(x, middle).square() / (2.0 * variance), 1)
        pull = (1.0 - 2.0 * t) / (2.0 * t * (1.0 - t))
        v = weight @ (second - first) + pull * (x - weight @ middle)
        total += float(v.square().sum(1).mean()) / TIMES
    return total


def _normal(shape: tuple[int, int], seed: int, step: int) -> Tensor:
    return sdekit_kernels.normal(
        shape, seed=seed, stream=keys.DATA, step=1_000 + step, dtype=torch.float64
    )
