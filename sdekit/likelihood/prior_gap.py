r"""What a likelihood has too much because it ends in the prior: log prior(x_T) - log p_T(x_T).

The score at T alone gives log p_T up to a constant, as a line integral from a centre c,

    J(x) = \int_0^1 s(T, c + u (x - c)) . (x - c) du,     log p_T(x) = J(x) - log \int exp J,

and the constant is an integral over all of space, here by importance sampling.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import sdekit_kernels
import torch
from numpy.polynomial.legendre import leggauss
from sdekit_kernels.checks import check_int_range, check_positive
from torch import Tensor

from sdekit.likelihood.pointwise import ScoreLike, check_points, log_prior, score_at
from sdekit.noise import keys
from sdekit.sde.parameters import event_sum, log_normal_density

__all__ = ["prior_gap"]

# Numbers of x's kind in one call of the score: 16 MiB of float32.
_BUDGET = 1 << 22
# Draws that place the second proposal: 2 numbers a component from 256 draws.
_PILOT = 256


@torch.no_grad()
def prior_gap(
    sde: Any,
    score: ScoreLike,
    x: Tensor,
    *,
    prior: Any = None,
    t_max: float | None = None,
    nodes: int = 16,
    draws: int = 1024,
    seed: int = 0,
    around: tuple[Any, Any] | None = None,
) -> tuple[Tensor, Tensor]:
    r"""log prior(x) - log p_T(x) at x = x_T (B, D...): (gap (B,), std_error 0-d), both in nats.

    It is what log_likelihood's value has beyond the truth when the prior stands for p_T. The
    segment takes ``nodes`` Gauss-Legendre nodes, one call of the score each: exact for a Gaussian
    p_T from 1 on, and for smooth mixtures an error that falls geometrically with them (3e-3 nats of
    an outlier of 784 components under VE with 8, 1e-5 with 16). The draws take half as many: of
    their errors only the mean counts.

    log \int exp J is estimated by ``draws`` from the even mixture m = (b + q) / 2 of two Gaussians:
    b of mean and std ``around`` (by default ``sde.prior_mean`` and ``sde.prior_std``), and q with
    independent components whose score -P (x - mu) is the least-squares fit of s at 256 draws of b.
    As the estimate is the mean of exp(J) / m - beta (q / m - 1), with beta by regression (Owen &
    Zhou 2000, "Safe and effective importance sampling"), it is exact where p_T is b or q, and has
    at most twice the variance that the better of the two would have alone. std_error is that of the
    constant (delta method), and the same for all samples: one number. It does not see the nodes'
    error, nor a mode of p_T in which no draw fell, nor that a network's score is no gradient.

    Args:
        sde: has ``T`` and, by default, the prior; any object will do if ``prior``, ``t_max`` and
            ``around`` are given.
        score: (t, x) -> x's shape, with t (B,). It is also called with other rows than those of x,
            so that it must be the score of one law (no labels that belong to rows).
        prior: an object with log_prob(x) -> (B,); by default ``sde.prior_log_prob``.
        t_max: the time at which x stands; ``sde.T`` by default.
        draws: an even number. Noise of stream PRIOR_GAP of the seed.
    A sample that is not finite has the gap NaN; the others are unharmed. Raises TypeError or
    ValueError for arguments out of their range or of the wrong shape, saying what to write.
    """
    x = check_points(x)
    end = check_positive("t_max", _attribute(sde, "T", "t_max") if t_max is None else t_max)
    density = log_prior(sde, prior, end)
    nodes = check_int_range("nodes", nodes, 1, 257)
    draws = check_int_range("draws", draws, 4, 1 << 31)
    if draws % 2:
        raise ValueError(f"draws must be even, one half for each proposal, got {draws}")
    base = _base(sde, around, x)
    at_end = partial(_in_parts, score, end, dtype=x.dtype)
    noise = partial(_noise, x, seed)

    fit = _fit(at_end, base, noise(min(_PILOT, draws), step=0))
    # Half of the draws each: the mixture's density, without the chance of which one drew.
    points = torch.cat([_place(base, noise(draws // 2, 1)), _place(fit, noise(draws // 2, 2))])
    log_b, log_q = _log_density(base, points), _log_density(fit, points)
    log_m = torch.logaddexp(log_b, log_q) - math.log(2.0)
    potential = _line_integral(at_end, base[0], points, (nodes + 1) // 2)
    log_norm, error = _log_mean(potential - log_m, (log_q - log_m).exp())

    def at_rows(x: Tensor) -> Tensor:
        return score_at(score, end, x)

    gap = density(x) - _line_integral(at_rows, base[0], x, nodes) + log_norm
    return gap.to(x.dtype), error.to(x.dtype)


Proposal = tuple[Tensor, Tensor]
"""Mean and std of a Gaussian with independent components, (1, D...) in float64."""


def _line_integral(score: Any, centre: Tensor, x: Tensor, nodes: int) -> Tensor:
    """J(x), (B,) in float64, the nodes one after the other."""
    places, weights = leggauss(nodes)
    step = x - centre.to(x.dtype)
    total = torch.zeros(x.shape[0], dtype=torch.float64, device=x.device)
    for place, weight in zip(0.5 * (places + 1.0), 0.5 * weights, strict=True):
        s = score(centre.to(x.dtype) + float(place) * step)
        total += float(weight) * event_sum(s * step.double())
    return total


def _fit(score: Any, base: Proposal, z: Tensor) -> Proposal:
    """The Gaussian whose score -P (x - mu) is the least-squares fit of s in each component.

    Where s does not fall (P is negative, or that of a std above 4 times the base's) the std stays
    at 4 times the base's: the base in the mixture keeps the weights bounded.
    """
    x = _place(base, z)
    s = score(x)
    mean_x, mean_s = x.mean(0, keepdim=True), s.mean(0, keepdim=True)
    slope = ((x - mean_x) * (s - mean_s)).sum(0) / (x - mean_x).square().sum(0)
    precision = torch.maximum(-slope.unsqueeze(0), (4.0 * base[1]).square().reciprocal())
    return mean_x + mean_s / precision, precision.rsqrt()


def _log_mean(log_w: Tensor, ratio: Tensor) -> tuple[Tensor, Tensor]:
    """log E[w], w of two halves (strata), by the control variate ``ratio`` of mean 1; std error."""
    shift = log_w.max()
    w = (log_w - shift).exp()
    spread = (ratio - ratio.mean()).square().mean()
    # Below 1e-20 the two proposals are one, and the ratio's spread is rounding.
    both = ((w - w.mean()) * (ratio - ratio.mean())).mean()
    beta = torch.where(spread > 1e-20, both / spread, 0.0)
    rest = w - beta * (ratio - 1.0)
    # A control that makes the mean negative is worse than none.
    rest = torch.where(rest.mean() > 0.0, rest, w)
    mean = rest.mean()
    error = (rest.view(2, -1).var(1).mean() / rest.numel()).sqrt()
    return shift + mean.log(), error / mean


def _place(law: Proposal, z: Tensor) -> Tensor:
    return law[0] + law[1] * z


def _log_density(law: Proposal, x: Tensor) -> Tensor:
    return event_sum(log_normal_density(x - law[0], law[1]))


def _noise(x: Tensor, seed: int, n: int, step: int) -> Tensor:
    """Normals (n, D...) in float64."""
    return sdekit_kernels.normal(
        (n, *x.shape[1:]),
        seed=seed,
        stream=keys.PRIOR_GAP,
        step=step,
        dtype=torch.float64,
        device=x.device,
    )


def _in_parts(score: ScoreLike, t: float, x: Tensor, *, dtype: torch.dtype) -> Tensor:
    """s(t, x) in float64, asked in ``dtype``, as many rows at a time as the budget holds."""
    rows = max(1, _BUDGET // x.shape[1:].numel())
    return torch.cat([score_at(score, t, part.to(dtype)) for part in x.split(rows)])


def _base(sde: Any, around: tuple[Any, Any] | None, x: Tensor) -> Proposal:
    """Mean and std of the first proposal, (1, D...)."""
    if around is None:
        mean = _attribute(sde, "prior_mean", "around")
        std = _attribute(sde, "prior_std", "around")
    else:
        mean, std = around
    try:
        mean, std = (
            torch.as_tensor(p, dtype=torch.float64, device=x.device).expand_as(x[:1])
            for p in (mean, std)
        )
    except RuntimeError:
        raise ValueError(
            f"around=(mean, std) must be numbers or fit one event {tuple(x.shape[1:])}"
        ) from None
    if not bool((mean.isfinite() & std.isfinite() & (std > 0.0)).all()):
        raise ValueError("around=(mean, std) must be finite, with std above zero")
    return mean, std


def _attribute(sde: Any, name: str, argument: str) -> Any:
    if not hasattr(sde, name):
        raise TypeError(f"{type(sde).__name__} has no {name}: write prior_gap(..., {argument}=...)")
    return getattr(sde, name)
