r"""Fréchet distance between the Gaussians with the moments of two sets of features.

    d^2 = |mu_x - mu_y|^2 + tr(C_x) + tr(C_y) - 2 tr((C_x^{1/2} C_y C_x^{1/2})^{1/2}),

the square of their 2-Wasserstein distance (Dowson & Landau 1982; Heusel et al. 2017 for images).
The last trace is the nuclear norm, the sum of singular values, of R_x R_y^T for any factors
C = R^T R. With R from a QR factorization of the centred features no covariance is formed, and no
square root is taken of a rounding error, which a root of the product C_x C_y costs half the digits.
"""

from __future__ import annotations

import math

import torch
from sdekit_kernels.checks import check_int_range
from torch import Tensor

from sdekit.data import permutation
from sdekit.noise import keys

__all__ = ["frechet_distance", "frechet_infinity", "gaussian_frechet"]


def gaussian_frechet(mean_x: Tensor, cov_x: Tensor, mean_y: Tensor, cov_y: Tensor) -> float:
    """d^2 of N(mean_x, cov_x) and N(mean_y, cov_y), (F,) and (F, F); roots through eigenvalues.

    Eigenvalues below zero by rounding count as zero. Raises ValueError for covariances with one
    that is negative beyond that, for shapes that do not fit and for numbers that are not finite.
    """
    size = mean_x.shape[0] if mean_x.ndim == 1 else -1
    for mean, cov in ((mean_x, cov_x), (mean_y, cov_y)):
        if mean.shape != (size,) or cov.shape != (size, size):
            raise ValueError(
                "means and covariances must have shapes (F,) and (F, F), got "
                f"{tuple(mean.shape)} and {tuple(cov.shape)}"
            )
        if not (bool(mean.isfinite().all()) and bool(cov.isfinite().all())):
            raise ValueError("means and covariances must be finite numbers")
    return _from_factors(mean_x.double() - mean_y.double(), _root(cov_x), _root(cov_y))


def frechet_distance(features_x: Tensor, features_y: Tensor) -> float:
    """d^2 of the Gaussians fitted to features (N, F) and (M, F), covariances divided by N - 1.

    Its expectation for samples of equal laws is above zero, by a share of about F^2 / N: compare
    only values from equal N and M, or use ``frechet_infinity``.
    Raises TypeError for what is no floating-point tensor, ValueError for shapes that do not fit,
    fewer than two samples and numbers that are not finite.
    """
    x, y = _features(features_x, features_y)
    return _from_factors(x.mean(0) - y.mean(0), _factor(x), _factor(y))


def frechet_infinity(
    features_x: Tensor, features_y: Tensor, *, sizes: int = 8, draws: int = 16, seed: int = 0
) -> float:
    """d^2 extrapolated to infinitely many samples of both sets (Chong & Forsyth 2020).

    A line in 1 / N is fitted to the means of ``draws`` distances between random subsets of N
    samples of each set, for ``sizes`` values of N whose inverses are evenly spaced from n / 3 to n,
    n the size of the smaller set; its value at 1 / N = 0 is returned. The bias of order 1 / N is
    gone; of equal laws the rest is about as often below zero as above it. Measured with 64 features
    of two times 297 real digits: 6.7 at n, 0 +- 0.5 here (the subsets' own share of that: 0.4).
    Raises as ``frechet_distance``, and ValueError for a smaller set than 3 (F + 2) samples, where
    the line is not one yet.
    """
    x, y = _features(features_x, features_y)
    sizes = check_int_range("sizes", sizes, 2, 1 << 10)
    draws = check_int_range("draws", draws, 1, 1 << 10)
    n, need = min(len(x), len(y)), 3 * (x.shape[1] + 2)
    if n < need:
        raise ValueError(
            f"{n} samples of {x.shape[1]} features are too few to extrapolate from: at least {need}"
        )
    inverse = torch.linspace(1.0 / n, 3.0 / n, sizes, dtype=torch.float64)
    values = torch.zeros_like(inverse)
    for i, count in enumerate((1.0 / inverse).round().long().tolist()):
        for j in range(draws):
            step = 2 * (i * draws + j)
            chosen_x = permutation(len(x), seed=seed, stream=keys.DATA, step=step)[:count]
            chosen_y = permutation(len(y), seed=seed, stream=keys.DATA, step=step + 1)[:count]
            values[i] += frechet_distance(x[chosen_x], y[chosen_y]) / draws
        inverse[i] = 1.0 / count
    centred = inverse - inverse.mean()
    slope = (centred * values).sum() / centred.square().sum()
    return float(values.mean() - slope * inverse.mean())


def _features(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Both in float64, checked."""
    for name, given in (("features_x", x), ("features_y", y)):
        if not isinstance(given, Tensor) or not given.is_floating_point():
            raise TypeError(f"{name} must be a floating-point tensor")
        if given.ndim != 2 or len(given) < 2:
            raise ValueError(
                f"{name} must have shape (N, F) with N of two or more, got {tuple(given.shape)}"
            )
        if not bool(given.isfinite().all()):
            where = int((~given.isfinite()).any(1).nonzero()[0])
            raise ValueError(f"{name} has numbers that are not finite, the first in row {where}")
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"{x.shape[1]} features cannot be compared with {y.shape[1]}")
    return x.detach().double(), y.detach().double()


def _factor(x: Tensor) -> Tensor:
    """R with R^T R the covariance of the rows of x."""
    return torch.linalg.qr(x - x.mean(0), mode="r").R / math.sqrt(len(x) - 1)


def _root(cov: Tensor) -> Tensor:
    """R with R^T R = cov, from its eigenvalues."""
    values, vectors = torch.linalg.eigh(cov.double())
    limit = 1e-8 * float(values.abs().max()) if len(values) else 0.0
    if len(values) and float(values[0]) < -limit:
        raise ValueError(
            f"a covariance has the eigenvalue {float(values[0]):g}, it cannot be negative"
        )
    root: Tensor = values.clamp(min=0.0).sqrt().unsqueeze(1) * vectors.mT
    return root


def _from_factors(shift: Tensor, root_x: Tensor, root_y: Tensor) -> float:
    nuclear = torch.linalg.svdvals(root_x @ root_y.mT).sum()
    traces = root_x.square().sum() + root_y.square().sum()
    return max(0.0, float(shift.square().sum() + traces - 2.0 * nuclear))
