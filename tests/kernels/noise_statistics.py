"""Statistics of the noise, each in units of its own standard error.

Moments and correlations are means of N independent terms of known variance, so that
(mean - expectation) sqrt(N / variance) is a standard normal under the hypothesis that the noise is
what it claims to be. All sums are taken in float64 over pieces of bounded size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from scipy import special, stats
from sdekit_kernels import normal

__all__ = [
    "PAIRS",
    "bin_counts",
    "chi_square_errors",
    "correlation_errors",
    "kolmogorov_p_value",
    "moment_errors",
    "pieces",
    "tail_counts",
    "tail_p_values",
]

DIM = 4096
PIECE = 1 << 22
Draw = Callable[[int, int], torch.Tensor]
"""(first_sample, n_samples) -> normals of shape (n_samples, dim)."""


def pieces(total: int, dim: int = DIM, **draw: int) -> Iterator[torch.Tensor]:
    """At least ``total`` normals as tensors of shape (rows, dim)."""
    samples = -(-total // dim)
    rows = max(1, PIECE // dim)
    for first in range(0, samples, rows):
        yield normal((min(rows, samples - first), dim), first_sample=first, **draw)


def double_factorial(k: int) -> int:
    """E z^(k + 1) for odd k: 1, 3, 15, 105, ..."""
    return math.prod(range(k, 0, -2))


def moment_errors(source: Iterator[torch.Tensor]) -> dict[str, float]:
    """Standard errors by which the raw moments 1 to 8 differ from 0, 1, 0, 3, 0, 15, 0, 105."""
    sums, count = np.zeros(9), 0
    for piece in source:
        z = piece.double()
        power = torch.ones_like(z)
        count += z.numel()
        for k in range(1, 9):
            power = power * z
            sums[k] += float(power.sum())
    errors = {}
    for k in range(1, 9):
        mean = double_factorial(k - 1) if k % 2 == 0 else 0
        variance = double_factorial(2 * k - 1) - mean**2
        errors[f"E z^{k}"] = float(sums[k] / count - mean) * math.sqrt(count / variance)
    return errors


def bin_counts(source: Iterator[torch.Tensor], bins: int) -> np.ndarray:
    """How many normals fall into each of ``bins`` intervals of equal probability."""
    counts = np.zeros(bins, np.int64)
    for piece in source:
        u = special.ndtr(piece.double().flatten().numpy())
        counts += np.bincount(np.minimum((u * bins).astype(np.int64), bins - 1), minlength=bins)
    return counts


def kolmogorov_p_value(counts: np.ndarray) -> float:
    """Kolmogorov-Smirnov on the bins' borders.

    The largest distance on a grid is below the largest anywhere, so the p value is an upper bound;
    with 2^16 borders the difference is less than the fluctuation within one bin, sqrt(N) / 256.
    """
    total = counts.sum()
    expected = np.arange(1, len(counts) + 1) / len(counts)
    distance = np.abs(np.cumsum(counts) / total - expected).max()
    return float(stats.kstwobign.sf(distance * math.sqrt(total)))


def chi_square_errors(counts: np.ndarray) -> float:
    """Pearson's chi-square of the bins, minus its mean, in its standard deviations."""
    expected = counts.sum() / len(counts)
    freedom = len(counts) - 1
    chi_square = float(((counts - expected) ** 2).sum() / expected)
    return (chi_square - freedom) / math.sqrt(2 * freedom)


def tail_counts(source: Iterator[torch.Tensor], sigmas: tuple[int, ...]) -> tuple[list[int], int]:
    """How many |z| exceed each of ``sigmas``, and how many normals there were."""
    counts, total = [0] * len(sigmas), 0
    for piece in source:
        size = piece.abs()
        total += size.numel()
        counts = [c + int((size > s).sum()) for c, s in zip(counts, sigmas, strict=True)]
    return counts, total


def tail_p_values(counts: list[int], total: int, sigmas: tuple[int, ...]) -> list[float]:
    """Two-sided p value of each count under Poisson's law with mean N P(|z| > sigma)."""
    out = []
    for count, sigma in zip(counts, sigmas, strict=True):
        law = stats.poisson(2 * total * special.ndtr(-sigma))
        out.append(min(1.0, 2 * min(law.cdf(count), law.sf(count - 1))))
    return out


def correlation_errors(pairs: Iterator[tuple[torch.Tensor, torch.Tensor]]) -> dict[str, float]:
    """Standard errors by which mixed moments of supposedly independent a, b differ from theirs.

    E ab = 0, E a^2 b = 0, E a b^2 = 0, and Cov(a^2, b^2) = 0: the last three see a dependence in
    size that the correlation misses. Variances: 1, 3, 3 and 4 (of (a^2 - 1)(b^2 - 1)).
    """
    sums, count = np.zeros(4), 0
    for left, right in pairs:
        a, b = left.double(), right.double()
        ab = a * b
        products = (ab, a * ab, b * ab, (a * a - 1) * (b * b - 1))
        sums += [float(p.sum()) for p in products]
        count += a.numel()
    errors = sums / np.sqrt(np.array([1, 3, 3, 4]) * count)
    return dict(zip(("ab", "a^2 b", "a b^2", "a^2 with b^2"), errors.tolist(), strict=True))


def _both(left: dict[str, int], right: dict[str, int], dim: int) -> Callable[[int], Iterator]:
    """Pairs (a, b) of the same place in two pieces of noise."""

    def source(total: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        return zip(pieces(total, dim, **left), pieces(total, dim, **right), strict=True)

    return source


def _lanes(i: int, j: int) -> Callable[[int], Iterator]:
    """Pairs of two lanes of the same Philox call, from 4 ``total`` normals."""

    def source(total: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for z in pieces(4 * total, DIM, seed=31, stream=2):
            calls = z.view(-1, 4)
            yield calls[:, i], calls[:, j]

    return source


def _shifted(components: int, samples: int, dim: int = DIM) -> Callable[[int], Iterator]:
    """Pairs of elements so many components and samples apart, from 2 ``total`` normals.

    Terms a_i a_{i + s} share factors but are uncorrelated, so the variance of their sum is theirs.
    """

    def source(total: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for z in pieces(2 * total, dim, seed=32, stream=3):
            rows, cols = z.shape
            a = z[: rows - samples, : cols - components]
            yield a, z[samples:, components:]

    return source


BASE = {"seed": 33, "stream": 5, "step": 9}
PAIRS: dict[str, Callable[[int], Iterator[tuple[torch.Tensor, torch.Tensor]]]] = {
    **{f"lanes {i} and {j}": _lanes(i, j) for i in range(4) for j in range(i + 1, 4)},
    **{f"components {s} apart": _shifted(s, 0) for s in (1, 2, 3, 4, 8, 1024)},
    **{f"samples {s} apart": _shifted(0, s) for s in (1, 2, 16)},
    "samples 1 apart, D = 1": _shifted(0, 1, 1),
    "samples 1 apart, D = 3": _shifted(0, 1, 3),
    "steps 9 and 10": _both(BASE, BASE | {"step": 10}, DIM),
    "steps 9 and 13": _both(BASE, BASE | {"step": 13}, DIM),
    # D < 4: steps 8 to 11 are the lanes of one call, step 12 belongs to the next.
    **{f"steps 8 and {s}, D = 2": _both(BASE | {"step": 8}, BASE | {"step": s}, 2)
       for s in (9, 10, 11, 12)},
    "streams 5 and 6": _both(BASE, BASE | {"stream": 6}, DIM),
    "streams 5 and 5 + 2^16": _both(BASE, BASE | {"stream": 5 + (1 << 16)}, DIM),
    "seeds 33 and 34": _both(BASE, BASE | {"seed": 34}, DIM),
    "seeds 33 and 33 + 2^32": _both(BASE, BASE | {"seed": 33 + (1 << 32)}, DIM),
    "seeds 33 and 33 + 2^63": _both(BASE, BASE | {"seed": 33 + (1 << 63)}, DIM),
    "seed and stream exchanged": _both(
        {"seed": 5, "stream": 33}, {"seed": 33, "stream": 5}, DIM
    ),
    "seeds 33 and -33": _both(BASE, BASE | {"seed": -33}, DIM),
}  # fmt: skip
"""Which two normals must not know of each other; each takes a number of pairs, 2 normals a pair."""
