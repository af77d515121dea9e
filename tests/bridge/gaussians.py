"""Gaussians and references that the tests of closed forms share."""

from __future__ import annotations

import sdekit_kernels
import torch
from torch import Tensor

from sdekit.sde import OU, VP, AffineSDE, Brownian

REFERENCES: dict[str, AffineSDE] = {
    "brownian": Brownian(0.9),
    "brownian per component": Brownian(torch.tensor([0.5, 1.2], dtype=torch.float64), T=2.0),
    "ou": OU(torch.tensor([0.4, 1.5], dtype=torch.float64), mu=0.3, sigma=0.8, T=1.5),
    "vp": VP(beta_min=0.1, beta_max=3.0),
}


def covariance(seed: int, d: int) -> Tensor:
    """A random covariance (d, d) with eigenvalues between 0.1 and about 4."""
    z = sdekit_kernels.normal((d, d), seed=seed, dtype=torch.float64)
    return z @ z.mT / d + 0.1 * torch.eye(d, dtype=torch.float64)


def laws(d: int = 2) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """m0, S0, m1, S1, covariances that do not commute."""
    m = sdekit_kernels.normal((2, d), seed=7, dtype=torch.float64)
    S0, S1 = covariance(1, d), covariance(2, d)
    assert d == 1 or float((S0 @ S1 - S1 @ S0).abs().max()) > 0.01
    return m[0], S0, m[1], S1


def draws(mean: Tensor, cov: Tensor, n: int, seed: int) -> Tensor:
    """n draws of N(mean, cov), (n, D)."""
    z = sdekit_kernels.normal((n, len(mean)), seed=seed, stream=9, dtype=torch.float64)
    return mean + z @ torch.linalg.cholesky(cov).mT


def in_errors(x: Tensor, mean: Tensor, cov: Tensor) -> float:
    """The largest deviation of moments of x (n, D) from those of N(mean, cov), in std errors."""
    n, var = len(x), cov.diagonal()
    of_mean = (x.mean(0) - mean) / (var / n).sqrt()
    of_cov = (torch.cov(x.mT) - cov) / ((var[:, None] * var + cov.square()) / n).sqrt()
    return float(torch.cat([of_mean, of_cov.flatten()]).abs().max())


def gap(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())
