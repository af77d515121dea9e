"""Laws and quadratures against which methods are compared."""

from __future__ import annotations

import math

import torch

from sdekit.sde import DoubleWell

F64 = torch.float64
WELL = dict(height=1.0, temperature=0.5)


def covers(sample, expected, errors=4.0):
    """The sample's mean is the expected one within so many standard errors."""
    error = float(sample.std()) / math.sqrt(len(sample))
    return abs(float(sample.mean()) - expected) < errors * error


def weighted(n=20_001):
    """n normals (n, 1), equally spaced, and their weights: smooth functions to rounding."""
    z = torch.linspace(-8.5, 8.5, n, dtype=F64)
    p = torch.exp(-0.5 * z.square())
    return z[:, None], p / p.sum()


def double_well():
    """Points and their probabilities under the law of ``DoubleWell(**WELL)``."""
    x = torch.linspace(-3.0, 3.0, 6001, dtype=F64)
    p = torch.exp(DoubleWell(**WELL).log_density(x[:, None]))
    return x, p / p.sum()
