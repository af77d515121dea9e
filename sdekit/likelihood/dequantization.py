r"""Importance-weighted dequantization: a lower bound of log P(k) of integers, from a density.

x = low + (high - low) (k + u) / levels makes P(k) = vol E_u[p(x)] with vol the volume of a bin, u
uniform. Jensen's inequality for the mean of K densities (Burda, Grosse & Salakhutdinov 2016,
"Importance weighted autoencoders"; K = 1 is Theis, van den Oord & Bethge 2016; Ho et al. 2019,
"Flow++", report it for images) gives

    log P(k) >= L_K = E log (1 / K) sum_i p(x_i) + log vol,    L_1 <= L_2 <= ... -> log P(k).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from sdekit_kernels.checks import check_int_range
from torch import Tensor

from sdekit.likelihood.pointwise import check_points, per_sample
from sdekit.likelihood.transform import DataTransform

__all__ = ["DequantizationBound", "dequantization_bound"]


@dataclass(frozen=True, slots=True)
class DequantizationBound:
    """What ``dequantization_bound`` found, one entry a sample.

    log_prob: (B,) nats, an estimate of L_K <= log P(k). std_error: (B,) nats, of that estimate.
    dim: components of a sample.
    """

    log_prob: Tensor
    std_error: Tensor
    dim: int

    @property
    def bits_per_dim(self) -> Tensor:
        """-log_prob / (D ln 2), (B,): an upper bound of the bits that a component costs."""
        return -self.log_prob / (self.dim * math.log(2.0))

    @property
    def bits_std_error(self) -> Tensor:
        """Standard error of ``bits_per_dim``, (B,)."""
        return self.std_error / (self.dim * math.log(2.0))


@torch.no_grad()
def dequantization_bound(
    log_prob: Callable[[Tensor], Tensor],
    k: Any,
    transform: DataTransform,
    *,
    draws: int = 16,
    repeats: int = 1,
    seed: int = 0,
    first_sample: int = 0,
    dtype: torch.dtype = torch.float32,
) -> DequantizationBound:
    r"""An unbiased estimate of L_K <= log P(k), K = ``draws``, for integers k (B, D...).

    Args:
        log_prob: x (B, D...) -> log p(x) in nats, (B,), in the space of ``transform``:
            lambda x: sdekit.log_likelihood(sde, score, x).log_prob. It is called draws * repeats
            times with the rows of k.
        transform: the map from integers to x, with dequantize=True.
        draws: K. A larger one tightens the bound, by about Var(p) / (2 K E[p]^2) that it leaves.
        repeats: R independent estimates of L_K, whose mean is returned. With R >= 2 std_error is
            their standard deviation over sqrt(R). With R = 1 it is the delta method's,
            std(p) / (mean(p) sqrt(K)), that of the log of a mean, right for K so large that the
            error is well below 1; NaN for K = 1, of which one number cannot tell.
        seed, first_sample: name the noise, stream DEQUANTIZE as in ``DataTransform.forward``;
            draw i of repetition r has the step r K + i.

    A sample of which one log_prob is NaN has NaN; one of which all are -inf has -inf. The others
    are unharmed. Raises TypeError for a log_prob that is not callable or a transform that is none;
    ValueError for dequantize=False, for data out of range (``DataTransform.forward``), and for a
    log_prob of another shape.
    """
    if not callable(log_prob):
        raise TypeError(f"log_prob must be callable as log_prob(x), got {type(log_prob).__name__}")
    if not isinstance(transform, DataTransform):
        raise TypeError(f"transform must be a DataTransform, got {type(transform).__name__}")
    if not transform.dequantize:
        raise ValueError(
            "the bound is a mean over the noise of dequantization, and this transform has none: "
            f"write DataTransform({transform.levels}, {transform.low:g}, {transform.high:g})"
        )
    draws = check_int_range("draws", draws, 1, 1 << 31)
    repeats = check_int_range("repeats", repeats, 1, 1 << 31)
    values = []
    for step in range(draws * repeats):
        x = check_points(
            transform.forward(k, seed=seed, step=step, first_sample=first_sample, dtype=dtype)
        )
        values.append(per_sample("log_prob", log_prob(x), x))
    # (R, K, B): the peak of the densities is set aside, so that none of them overflows.
    logs = torch.stack(values).view(repeats, draws, -1)
    dim = x.shape[1:].numel()
    means = logs.logsumexp(1) - math.log(draws) + dim * transform.log_abs_det
    return DequantizationBound(means.mean(0).to(dtype), _std_error(logs, means).to(dtype), dim)


def _std_error(logs: Tensor, means: Tensor) -> Tensor:
    """From R repetitions, or for R = 1 by the delta method; see ``dequantization_bound``."""
    repeats, draws, n = logs.shape
    if repeats > 1:
        return means.std(0) / math.sqrt(repeats)
    if draws == 1:
        return torch.full((n,), math.nan, dtype=logs.dtype, device=logs.device)
    density = (logs[0] - logs[0].amax(0)).exp()
    return density.std(0) / (density.mean(0) * math.sqrt(draws))
