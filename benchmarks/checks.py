"""Is the answer right? Asked before any clock runs; the answer is reported beside the time.

Statistical errors are given in standard errors of the quantity itself, so that a wrong factor of
1.01 in a variance shows as 7 standard errors with 10^6 samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

STANDARD_ERRORS = 5.0
"""The limit. All seeds are fixed; of 200 honest quantities one exceeds it with p = 1e-4."""

UNIT_ROUNDOFF = {
    torch.float64: 2.0**-53,
    torch.float32: 2.0**-24,
    torch.float16: 2.0**-11,
    torch.bfloat16: 2.0**-8,
}


def moment_error(r: Tensor) -> float:
    """For r that should be independent N(0, 1): the worse of mean and variance, in standard errors.

    The mean's standard error is 1 / sqrt(n), the variance's sqrt(2 / (n - 1)).
    """
    r = r.detach().flatten().double()
    n = r.numel()
    mean = abs(float(r.mean())) * math.sqrt(n)
    variance = abs(float(r.var()) - 1.0) * math.sqrt((n - 1) / 2.0)
    return max(mean, variance)


def relative_error(out: Tensor, reference: Tensor) -> float:
    """|out - reference| / |reference| in float64; NaN if anything was left unwritten."""
    out, reference = out.detach().double(), reference.detach().double()
    return float((out - reference).norm() / reference.norm())


def rounding_limit(dtype: torch.dtype) -> float:
    """Largest |out - reference| / |reference| that rounding explains.

    bfloat16 and float16 results are computed in float32 and rounded once, to nearest: errors spread
    evenly over a unit roundoff on either side make 0.41 of it on the average over the binade, while
    rounding towards zero would make 0.83. float32 and float64 round three times at most.
    """
    return (0.5 if dtype in (torch.float16, torch.bfloat16) else 4.0) * UNIT_ROUNDOFF[dtype]


class Moments(NamedTuple):
    """Mean and variance that an ensemble should have."""

    mean: float
    variance: float


def ou_moments(
    theta: float, mu: float, sigma: float, x0: float, dt: float, steps: int
) -> tuple[Moments, Moments]:
    """(what Euler-Maruyama gives after ``steps`` steps, exactly; the closed form at that time)."""
    shrink = 1.0 - theta * dt
    mean = mu + shrink**steps * (x0 - mu)
    variance = sigma**2 * dt * (1.0 - shrink ** (2 * steps)) / (1.0 - shrink**2)
    decay = math.exp(-theta * dt * steps)
    exact = sigma**2 * (1.0 - decay**2) / (2.0 * theta)
    return Moments(mean, variance), Moments(mu + decay * (x0 - mu), exact)


def ensemble_error(x: Tensor, expected: Moments) -> float:
    """Distance of an ensemble's mean and variance from ``expected``, in standard errors."""
    return moment_error((x.double() - expected.mean) / math.sqrt(expected.variance))


class Reference(NamedTuple):
    """Moments of each component that an ensemble should have, (D,) float64 each.

    fourth: fourth central moment, from which the variance's standard error follows. paths: how many
    they were estimated from; infinitely many if they are exact.
    """

    mean: Tensor
    variance: Tensor
    fourth: Tensor
    paths: float = math.inf


def affine_reference(
    start: Sequence[float],
    steps: int,
    shrink: float,
    *,
    shift: float = 0.0,
    variance: tuple[float, float] = (0.0, 0.0),
) -> Reference:
    """Moments of x -> shrink x + shift + sqrt(v1 x^2 + v0) z after ``steps`` steps, exactly.

    variance: (v1, v0). The fourth moment is a Gaussian's: so it is for v1 = 0, and for small v1 up
    to a part of 8 v1 steps.
    """
    mean = torch.tensor(start, dtype=torch.float64)
    spread = torch.zeros_like(mean)
    by_state, alone = variance
    for _ in range(steps):
        spread = shrink**2 * spread + by_state * (spread + mean**2) + alone
        mean = shrink * mean + shift
    return Reference(mean, spread, 3.0 * spread**2)


_ROWS = 1 << 22


def ensemble_reference(x: Tensor) -> Reference:
    """Moments of the ensemble x (n, D), summed in float64 by chunks that any memory holds."""
    n = x.shape[0]
    chunks = [x[i : i + _ROWS] for i in range(0, n, _ROWS)]
    mean = sum((c.double().sum(0) for c in chunks), x.new_zeros((), dtype=torch.float64)) / n
    centred = [_power_sums(c, mean) for c in chunks]
    second, fourth = (sum(parts[1:], parts[0]) / n for parts in zip(*centred, strict=True))
    return Reference(mean.cpu(), second.cpu() * n / max(n - 1, 1), fourth.cpu(), n)


def _power_sums(x: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
    square = (x.double() - mean).square_()
    return square.sum(0), square.square_().sum(0)


def distance(x: Tensor, expected: Reference, steps: int) -> float:
    """How far the ensemble x (n, D) is from ``expected``: its worst moment, in standard errors.

    Standard errors are those of ``expected``'s law, for x and for the estimate together. A mean is
    also allowed the rounding of ``steps`` additions, which only ensembles of 10^8 paths can see.
    """
    found = ensemble_reference(x.detach())
    share = 1.0 / found.paths + 1.0 / expected.paths
    size = (expected.variance + expected.mean**2).sqrt()
    rounding = UNIT_ROUNDOFF[x.dtype] * math.sqrt(steps) * size
    mean_error = (expected.variance * share + rounding**2).sqrt()
    variance_error = ((expected.fourth - expected.variance**2) * share).sqrt()
    worst = torch.cat(
        [
            (found.mean - expected.mean).abs() / mean_error,
            (found.variance - expected.variance).abs() / variance_error,
        ]
    )
    return float(worst.max())


def sampler_variance(
    predictor: Sequence[tuple[float, float, float]],
    corrector_alpha: Sequence[float] | None,
    marginal_variance: Callable[[int], float],
    snr: float,
    start: float,
) -> float:
    """Variance that a predictor-corrector sampler gives N(0, v) data with its exact score.

    The score is -x / v_i at level i = 0..N, v_i = ``marginal_variance(i)``. Then a step of the
    predictor (A, B, C) takes the variance V to (A - B / v)^2 V + C^2, and the corrector, whose
    eps = 2 alpha snr^2 |z|^2 / |s|^2 tends to 2 alpha snr^2 v^2 / V for many components, takes it
    to (1 - eps / v)^2 V + 2 eps. The last update leaves its noise away. Relative error O(1 / D).
    """
    variance = start
    for i, (a, b, c) in enumerate(predictor):
        last = i == len(predictor) - 1
        noise = 0.0 if last and corrector_alpha is None else c * c
        variance = (a - b / marginal_variance(i)) ** 2 * variance + noise
        if corrector_alpha is not None:
            level = marginal_variance(i + 1)
            eps = 2.0 * corrector_alpha[i] * snr**2 * level**2 / variance
            noise = 0.0 if last else 2.0 * eps
            variance = (1.0 - eps / level) ** 2 * variance + noise
    return variance
