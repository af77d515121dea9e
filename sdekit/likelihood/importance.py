r"""Importance sampling: draws of a law q whose density is known, as draws of another one.

With x_i from q and an unnormalized density f,

    w_i = f(x_i) / q(x_i),   Z = \int f ~ mean(w),   E_f[h] ~ sum(w_i h(x_i)) / sum(w_i)

(for flows: Müller et al. 2019, "Neural importance sampling"; Noé et al. 2019, "Boltzmann
generators"). All of it is in logarithms, and in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

__all__ = ["Importance", "importance_weights", "pareto_shape"]

FEW: Final = 100.0
"""Effective samples below which an estimate's own standard error (10% of Z) is not trusted."""


@dataclass(frozen=True, slots=True)
class Importance:
    r"""Weights of B draws of q for a target density f, and what they say of it.

    weights: (B,) float64, of sum 1; 0 where a sample has no density. log_weights: (B,) float64,
    log f - log q, -inf there. ess: the effective sample size sum(w)^2 / sum(w^2) (Kong 1992), of at
    most B. log_normalizer: log Z, Z the integral of f, from the mean of the weights; std_error: of
    log_normalizer, by the delta method,

        std(w) / (mean(w) \sqrt{n}) = \sqrt{(n / ess - 1) / (n - 1)}.

    pareto_k: the shape of a generalized Pareto law in the weights' upper tail; w has 1 / k moments,
    so from k = 1/2 on they have no variance (Vehtari et al. 2024, "Pareto smoothed importance
    sampling"); NaN for fewer than 25 samples. warnings: why std_error is not to be trusted, a
    sentence each; empty where nothing speaks against it. No weight shows a region of f that q never
    draws: ``trusted`` says that nothing was seen, not that nothing is there.
    """

    weights: Tensor
    log_weights: Tensor
    ess: float
    log_normalizer: float
    std_error: float
    pareto_k: float
    warnings: tuple[str, ...]

    @property
    def trusted(self) -> bool:
        """Whether no warning stands against ``std_error``."""
        return not self.warnings

    def mean(self, values: Tensor) -> tuple[Tensor, Tensor]:
        r"""E_f[h] and its standard error, each (...), from ``values`` h(x_i), (B, ...).

        Standard error by the delta method for a ratio, \sqrt{\sum w_i^2 (h_i - mean)^2} with the
        normalized weights. Values of samples of weight 0 are not looked at. Raises ValueError if
        there is not one row a weight.
        """
        if values.ndim < 1 or values.shape[0] != self.weights.shape[0]:
            raise ValueError(
                f"values must have one row for each of the {self.weights.shape[0]} samples, got "
                f"the shape {tuple(values.shape)}"
            )
        w = self.weights.view(-1, *[1] * (values.ndim - 1))
        h = torch.where(w > 0.0, values.double(), 0.0)
        mean = (w * h).sum(0)
        return mean, (w * (h - mean)).square().sum(0).sqrt()


@torch.no_grad()
def importance_weights(
    target: Callable[[Tensor], Tensor],
    x: Tensor,
    log_prob: Tensor,
    std_error: Tensor | None = None,
) -> Importance:
    """The weights of draws x (B, D...) of a law q for ``target``.

    Args:
        target: x (n, D...) -> log f, (n,) nats, -inf where f is 0; it is asked for the samples that
            have a density. NaN counts as no density.
        log_prob: (B,), log q(x); NaN where a draw failed.
        std_error: (B,) nats, of log_prob, where it was estimated: weights are its exponential, and
            a noise of variance s^2 makes them exp(s^2 / 2) too large in the mean.
    Samples that failed are left out of all sums. Raises TypeError for a target that is not
    callable, ValueError for one of another shape, and if no sample has a weight.
    """
    if not callable(target):
        raise TypeError(f"target must be callable as target(x), got {type(target).__name__}")
    known = log_prob.isfinite()
    value = target(x[known])
    if not isinstance(value, Tensor) or value.shape != (int(known.sum()),):
        given = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(
            f"target must return one log-density a sample, ({int(known.sum())},), got {given}: "
            "sum over the components"
        )
    if bool((value == math.inf).any()):
        raise ValueError("target is +inf at a sample: a density has to be finite")
    log_weights = torch.full(log_prob.shape, -math.inf, dtype=torch.float64, device=x.device)
    log_weights[known] = value.double() - log_prob[known].double()
    known &= ~log_weights.isnan()
    log_weights = log_weights.masked_fill(~known, -math.inf)
    used = log_weights[known]
    if used.numel() == 0 or not bool((used > -math.inf).any()):
        raise ValueError(f"none of the {len(x)} samples has a weight above zero under this target")
    n, weights = used.numel(), log_weights.softmax(0)
    ess = 1.0 / float(weights.square().sum())
    error = math.sqrt(max(n / ess - 1.0, 0.0) / (n - 1)) if n > 1 else math.nan
    shape = pareto_shape(used)
    noise = None if std_error is None else std_error[known]
    return Importance(
        weights=weights,
        log_weights=log_weights,
        ess=ess,
        log_normalizer=float(used.logsumexp(0)) - math.log(n),
        std_error=error,
        pareto_k=shape,
        warnings=tuple(_warnings(n, len(x) - n, ess, error, shape, noise, weights[known])),
    )


def _warnings(
    n: int, lost: int, ess: float, error: float, shape: float, noise: Tensor | None, w: Tensor
) -> list[str]:
    """What speaks against the standard error."""
    found = []
    if lost:
        found.append(f"{lost} of {n + lost} samples have no density and are left out")
    if ess < FEW:
        found.append(f"there are {ess:.3g} effective samples of {n}: {FEW:g} are needed")
    # Vehtari et al. 2024: the estimate itself still converges, at a rate that n samples show.
    most = min(1.0 - 1.0 / math.log10(max(n, 11)), 0.7)
    if shape > most:
        found.append(
            f"the weights' tail is that of a Pareto law with k = {shape:.2f}, above {most:.2f}: a "
            "few samples decide, and the largest weights are yet to come"
        )
    if noise is not None and not bool((noise == 0.0).all()):
        bias = 0.5 * float((w * noise.double().square()).sum())
        if math.isnan(bias):
            found.append("log_prob rests on one probe, which cannot tell its error: take more")
        elif bias > 0.5 * error:
            found.append(
                f"the error that its probes leave in log_prob makes log Z about {bias:.2g} too "
                "large: take more probes or divergence='exact'"
            )
    return found


def pareto_shape(log_weights: Tensor) -> float:
    """The shape k of a generalized Pareto law fitted to the largest weights; NaN for fewer than 25.

    The tail is the min(n / 5, 3 sqrt(n)) largest of n; k by the estimate of Zhang & Stephens 2009
    ("A new and efficient estimation method for the generalized Pareto distribution"), drawn towards
    1/2 by 10 observations (Vehtari et al. 2024). -inf where the tail's weights are all the same.
    """
    n = log_weights.numel()
    m = int(min(0.2 * n, 3.0 * math.sqrt(n)))
    if m < 5:
        return math.nan
    # From the largest weight on, so that none overflows.
    top = (log_weights.topk(m + 1).values - log_weights.max()).exp().flip(0)
    excess = top[1:] - top[0]
    if not float(excess[-1]) > 1e-12:
        return -math.inf
    grid = 30 + int(math.sqrt(m))
    place = torch.arange(1, grid + 1, dtype=torch.float64, device=excess.device) - 0.5
    quarter = excess[int(m / 4 + 0.5) - 1].clamp_min(1e-12)
    theta = 1.0 / excess[-1] + (1.0 - (grid / place).sqrt()) / (3.0 * quarter)
    # Profile likelihood of each theta, k(theta) = mean log(1 - theta x).
    k = torch.log1p(-theta.unsqueeze(1) * excess).mean(1)
    log_likelihood = m * ((-theta / k).log() - k - 1.0)
    best = (log_likelihood.softmax(0) * theta).sum()
    k_hat = float(torch.log1p(-best * excess).mean())
    return (m * k_hat + 10 * 0.5) / (m + 10)
