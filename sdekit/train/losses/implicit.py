r"""Implicit score matching (Hyvärinen 2005), on data with noise.

    L = (1 / (T - t_min)) \int_{t_min}^T lambda(t) E[|s(t, x_t)|^2 + 2 div s(t, x_t)] / D dt,

twice Hyvärinen's E[|s|^2 / 2 + div s], weighted. By parts, E[s . grad log p_t] = -E[div s], so that
L is the squared distance from the score of p_t less the constant lambda E|grad log p_t|^2 / D: it
needs no target. Denoising score matching exceeds it by the mean of lambda(t) / sigma(t)^2 over t,
and has the same gradient.
"""

from __future__ import annotations

import torch
from sdekit_kernels.dispatch import compute_dtype
from torch import Tensor

from sdekit.likelihood.divergence import field_divergence
from sdekit.sde import AffineSDE
from sdekit.train.losses.diffused import Diffused, Net, diffuse, evaluate
from sdekit.train.times import Times, default_times
from sdekit.train.weighting import Weighting, get_weighting

__all__ = ["field_and_forms", "implicit_score_matching"]


def implicit_score_matching(
    sde: AffineSDE,
    score: Net,
    x0: Tensor,
    *,
    seed: int,
    step: int = 0,
    weighting: str | Weighting = "simple",
    times: Times | None = None,
) -> Tensor:
    """Return an unbiased estimate of L for each sample of x0 (B, D...): (B,). Differentiable.

    The divergence is exact: D products with the score's Jacobian, all of whose graphs are kept for
    the backward pass. ``sliced_score_matching`` is what remains possible for images.

    Args: as ``denoising_score_matching``, with the same times and noise; "uniform" is lambda = 1.

    Raises as ``denoising_score_matching``, and RuntimeError for a score without a derivative.
    """
    weigh = get_weighting(weighting)
    times = default_times(sde, weigh) if times is None else times
    place = diffuse(sde, x0, times, seed=seed, step=step)
    weight = place.weight(weigh)
    field, divergence = field_and_forms(place, score, weight, None)
    # The field is lambda s: |s|^2 lambda = |field|^2 / lambda. No noise, no weight, no part.
    inverse = torch.where(weight > 0.0, 1.0 / weight, 0.0).to(field.dtype)
    squares = (inverse * field.square()).flatten(1)
    return (squares.sum(1) + 2.0 * divergence[:, 0]) / squares.shape[1]


def field_and_forms(
    place: Diffused, score: Net, weight: Tensor, probes: Tensor | None
) -> tuple[Tensor, Tensor]:
    """weight s(t, x) and its divergence (B, 1), or its forms v^T J v by ``probes``, (B, n).

    The weight is inside of the field, because it may be another for each component.
    """
    dtype = compute_dtype(place.x.dtype)

    def field(x: Tensor) -> Tensor:
        return weight.to(dtype) * evaluate("score", score, place.t, x)

    return field_divergence(field, place.x.to(dtype), probes=probes)
