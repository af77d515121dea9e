"""Bits per dimension that simple models reach: what a likelihood is to be compared with."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sdekit.likelihood import DataTransform
from sdekit.sde.parameters import log_normal_density

__all__ = ["gaussian_bits_per_dim", "uniform_bits_per_dim"]


def gaussian_bits_per_dim(train: Tensor, test: Tensor, transform: DataTransform) -> Tensor:
    """Bits per dimension of each test image under the Gaussian fitted to the training images, (N,).

    Mean and full covariance of the dequantized images; the same transform, so that the numbers
    compare with a score model's. Dequantization alone gives each pixel the variance of a bin / 12,
    so the covariance is never singular.
    """
    x = transform.forward(train, step=0, dtype=torch.float64).flatten(1)
    y = transform.forward(test, step=1, dtype=torch.float64).flatten(1)
    mean, cov = x.mean(0), torch.cov(x.mT)
    values, vectors = torch.linalg.eigh(cov)
    log_prob = log_normal_density((y - mean) @ vectors, values.sqrt()).sum(1)
    return -(log_prob / y.shape[1] + transform.log_abs_det) / math.log(2.0)


def uniform_bits_per_dim(transform: DataTransform) -> float:
    """Bits of a pixel that has every grey level with the same probability: log2(levels)."""
    return math.log2(transform.levels)
