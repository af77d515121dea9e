r"""Maximum mean discrepancy with its standard error (Gretton et al. 2012)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from sdekit_kernels.checks import check_choice, check_positive
from torch import Tensor

__all__ = ["MMD", "median_distance", "mmd"]


@dataclass(frozen=True, slots=True)
class MMD:
    """value: unbiased estimate of MMD^2, below zero about half the time if the laws are equal.

    std_error: its standard error over both sets of samples. bandwidths: those of the kernel.
    """

    value: float
    std_error: float
    bandwidths: tuple[float, ...]


def mmd(
    x: Tensor, y: Tensor, *, kernel: str = "rbf", bandwidths: Sequence[float] | None = None
) -> MMD:
    r"""Estimate MMD^2 = E k(X, X') + E k(Y, Y') - 2 E k(X, Y) from x (N, D...) and y (M, D...).

    The estimate is the U-statistic: means over i != j of k(x_i, x_j) and of k(y_i, y_j), over all
    pairs of k(x_i, y_j). Its variance has the two orders of Hoeffding's decomposition,

        4 v_x / N + 4 v_y / M + 2 w_xx / (N (N - 1)) + 2 w_yy / (M (M - 1)) + 4 w_xy / (N M),

    v_x the variance of E k(x, X') - E k(x, Y) over x, w the variances of the kernel with its row
    and column means taken away. v is zero for equal laws, where w is all there is; the estimate
    of v from row means is freed of their own noise. Errors of the error are of relative order
    1 / sqrt(N).

    kernel: "rbf", the mean over h of ``bandwidths`` of exp(-|x - y|^2 / (2 h^2)), by default the
    median distance of the pooled samples; "polynomial", (x . y / D + 1)^3, the kernel distance of
    features of Binkowski et al. 2018, without bandwidths. Memory: (N + M)^2 float64.

    Raises TypeError for what is no floating-point tensor; ValueError for another kernel, fewer than
    four samples, shapes that differ, numbers that are not finite, bandwidths that are not positive,
    and samples that are all the same where the median is asked for.
    """
    x, y = _events("x", x), _events("y", y)
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"samples of {x.shape[1]} numbers cannot be compared with {y.shape[1]}")
    kernel = check_choice("kernel", kernel, ("rbf", "polynomial"))
    if kernel == "polynomial":
        if bandwidths is not None:
            raise ValueError("the polynomial kernel has no bandwidths")
        widths: tuple[float, ...] = ()
    elif bandwidths is None:
        widths = (median_distance(x, y),)
    else:
        widths = tuple(check_positive("bandwidths", h) for h in bandwidths)
        if not widths:
            raise ValueError("bandwidths must hold one number or more")
    both = torch.cat([x, y])
    k = _polynomial(both) if kernel == "polynomial" else _rbf(both, widths)
    n = len(x)
    value, variance = _estimate(k[:n, :n], k[n:, n:], k[:n, n:])
    return MMD(value, variance**0.5, widths)


def median_distance(x: Tensor, y: Tensor) -> float:
    """The median of the distances between different samples of x and y together."""
    distance = torch.pdist(torch.cat([x.flatten(1), y.flatten(1)]).double())
    median = float(distance.median())
    if median == 0.0:
        raise ValueError("most samples are the same: there is no median distance, give bandwidths")
    return median


def _events(name: str, given: Tensor) -> Tensor:
    if not isinstance(given, Tensor) or not given.is_floating_point():
        raise TypeError(f"{name} must be a floating-point tensor: integers are given as x.float()")
    if given.ndim < 2 or len(given) < 4:
        raise ValueError(
            f"{name} must have shape (N, D...) with N of four or more, got {tuple(given.shape)}"
        )
    if not bool(given.isfinite().all()):
        raise ValueError(f"{name} has numbers that are NaN or infinite")
    return given.detach().double().flatten(1)


def _rbf(x: Tensor, widths: Sequence[float]) -> Tensor:
    square = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").square()
    return torch.stack([(-0.5 * square / h**2).exp() for h in widths]).mean(0)


def _polynomial(x: Tensor) -> Tensor:
    out: Tensor = (x @ x.mT / x.shape[1] + 1.0) ** 3
    return out


def _estimate(kxx: Tensor, kyy: Tensor, kxy: Tensor) -> tuple[float, float]:
    """The U-statistic and the estimate of its variance."""
    n, m = kxy.shape
    x_rows, wxx = _within(kxx)
    y_rows, wyy = _within(kyy)
    cross_x, cross_y = kxy.mean(1), kxy.mean(0)
    wxy = (kxy - cross_x.unsqueeze(1) - cross_y + kxy.mean()).square().sum() / ((n - 1) * (m - 1))
    value = x_rows.mean() + y_rows.mean() - 2.0 * kxy.mean()
    # What the variance of row means owes to their being means over finitely many samples.
    vx = (x_rows - cross_x).var() - wxx / (n - 2) - wxy / m
    vy = (y_rows - cross_y).var() - wyy / (m - 2) - wxy / n
    first = 4.0 * vx.clamp(min=0.0) / n + 4.0 * vy.clamp(min=0.0) / m
    second = 2.0 * wxx / (n * (n - 1)) + 2.0 * wyy / (m * (m - 1)) + 4.0 * wxy / (n * m)
    return float(value), float(first + second)


def _within(k: Tensor) -> tuple[Tensor, Tensor]:
    """Means of each row without its diagonal, and the variance of k(x, x') less both row means."""
    n = len(k)
    rows = (k.sum(1) - k.diagonal()) / (n - 1)
    # Row means beyond the whole mean are estimated with 1 / (n - 2), so that rests sum to zero.
    effect = (rows - rows.mean()) * (n - 1) / (n - 2)
    rest = k - rows.mean() - effect.unsqueeze(1) - effect
    squares = rest.square().sum() - rest.diagonal().square().sum()
    return rows, squares / (n * (n - 3))
