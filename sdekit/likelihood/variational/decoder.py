r"""What x_0 costs given the decoder's Gaussian, N(mean, std^2), a component: -log p in nats.

Ho, Jain & Abbeel 2020 (arXiv 2006.11239), eq. 13: integer data stand at the centres of bins of
half-width h, and a bin has the probability

    P = Phi((r + h) / std) - Phi((r - h) / std),    r = x_0 - mean,

where the lowest bin reaches to -inf and the highest to +inf.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sdekit.likelihood.variational.bins import Bins

__all__ = ["discretized", "discretized_tanh", "gaussian", "log_interval", "noise_share"]

# Where the width times max(1, |middle|) is below this, six terms of the Taylor series in the width
# are exact: the first left away is below (w m)^6 / 322560 = 3e-18 of the whole.
_NARROW = 1e-2
_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)


def gaussian(residual: Tensor, std: Tensor) -> Tensor:
    """-log N(residual; 0, std^2), in nats of a density; residual: x_0 - mean, float64."""
    return 0.5 * (residual / std).square() + std.log() + _HALF_LOG_2PI


def discretized(residual: Tensor, std: Tensor, bins: Bins) -> Tensor:
    """-log P of x_0's bin by exact normal integrals (Ho et al. 2020, eq. 13); float64.

    Neither a narrow bin nor one far in a tail loses digits: see ``log_interval``.
    """
    upper, lower = (residual + bins.half) / std, (residual - bins.half) / std
    inner = log_interval(lower, upper)
    inner = torch.where(bins.lowest, torch.special.log_ndtr(upper), inner)
    return -torch.where(bins.highest, torch.special.log_ndtr(-lower), inner)


def discretized_tanh(residual: Tensor, std: Tensor, bins: Bins) -> Tensor:
    """``discretized`` as the code of Ho et al. 2020 computes it.

    Phi(u) ~ (1 + tanh(sqrt(2 / pi) (u + 0.044715 u^3))) / 2, up to 3e-4 off, and no probability is
    taken as less than 1e-12: no bin costs more than 27.6 nats, which far from the mean is no bound.
    """
    upper, lower = _tanh_cdf((residual + bins.half) / std), _tanh_cdf((residual - bins.half) / std)
    inner = torch.where(bins.lowest, upper, upper - lower)
    return -torch.where(bins.highest, 1.0 - lower, inner).clamp(min=1e-12).log()


def noise_share(residual_std: float, std: float, half: float, rule: str) -> float:
    r"""c with -log P of a bin inside the range ~ constant + c z^2, for the residual r = r_s z.

    The regression on z^2, E[-log P (z^2 - 1)] / 2, by the trapezoid rule (exact to rounding for so
    smooth a function): 1/2 (r_s / std)^2 for bins narrower than std, nothing for wide ones, which
    cost nothing anyhow.
    """
    z = torch.linspace(-9.0, 9.0, 721, dtype=torch.float64)
    law = (-0.5 * z.square() - _HALF_LOG_2PI).exp() * 0.025
    none = torch.zeros_like(z, dtype=torch.bool)
    chosen = discretized if rule == "discretized" else discretized_tanh
    cost = chosen(residual_std * z, torch.full_like(z, std), Bins(half, none, none))
    return float((law * cost * (z.square() - 1.0)).sum() / 2.0)


def log_interval(lower: Tensor, upper: Tensor) -> Tensor:
    """log(Phi(upper) - Phi(lower)) for lower < upper, float64.

    Two ways. A narrow interval of width w about m: log(w phi(m)) and the series of the mean of phi
    over it, 1 + w^2 He_2(m) / 24 + w^4 He_4(m) / 1920. Else, turned into the lower half where Phi
    is small, log Phi(upper) + log(1 - exp(log Phi(lower) - log Phi(upper))).
    """
    width, middle = upper - lower, 0.5 * (upper + lower)
    square = middle.square()
    bend = (square - 1.0) / 24.0 + width.square() * (square.square() - 6.0 * square + 3.0) / 1920.0
    narrow = width.log() - 0.5 * square - _HALF_LOG_2PI + torch.log1p(width.square() * bend)
    flip = middle > 0.0
    high = torch.special.log_ndtr(torch.where(flip, -lower, upper))
    low = torch.special.log_ndtr(torch.where(flip, -upper, lower))
    small = width * middle.abs().clamp(min=1.0) < _NARROW
    return torch.where(small, narrow, high + _log1m_exp(low - high))


def _log1m_exp(value: Tensor) -> Tensor:
    """log(1 - exp(value)), value < 0; by whichever function keeps the digits (Mächler 2012)."""
    near = value > -math.log(2.0)
    return torch.where(near, (-torch.expm1(value)).log(), torch.log1p(-value.exp()))


def _tanh_cdf(u: Tensor) -> Tensor:
    return 0.5 * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (u + 0.044715 * u**3)))
