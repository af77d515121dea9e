r"""Bounds of the gap between p_T and the prior that trust no network, for an affine SDE.

p_T is a mixture of the transitions N(offset + alpha y_0, sigma^2) over the data y_0, and the prior
is N(offset, pi^2): what is known of y_0 bounds the gap at once.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from sdekit_kernels.checks import check_positive
from torch import Tensor

from sdekit.likelihood.pointwise import check_affine, check_points
from sdekit.sde import AffineSDE
from sdekit.sde.parameters import event_sum

__all__ = ["prior_gap_interval", "prior_kl_bound"]


def prior_kl_bound(sde: AffineSDE, second_moment: Any, event_shape: tuple[int, ...]) -> float:
    r"""An upper bound of KL(p_T || prior), in nats: minus the mean of the gap over data.

    KL is convex, so that of a mixture is at most the mean of its parts' (Cover & Thomas 2006,
    section 2.7), with alpha, sigma at T and the prior's std pi, summed over components:

        KL <= 1/2 sum (alpha^2 E[y_0^2] + sigma^2) / pi^2 - 1 - log(sigma^2 / pi^2).

    second_moment: E|x_0 - offset|^2 as a number (R^2 for data in a ball of radius R around the
    offset), or of each component, of the event's shape. It is attained by data at one point.
    Raises TypeError for an SDE that is not affine, ValueError for moments that are negative, not
    finite, or of another shape.
    """
    sde = check_affine(sde)
    like = torch.zeros(1, *event_shape, dtype=torch.float64)
    sde.check_event(like)
    zero, end = torch.tensor([0.0, sde.T], dtype=torch.float64).unbind()
    prior = torch.as_tensor(sde.prior_std, dtype=torch.float64, device="cpu").square()
    ratio = (sde.transition_variance(zero, end) / prior).expand_as(like)
    pull = ((2.0 * sde.log_mean_ratio(zero, end)).exp() / prior).expand_as(like)
    moment = torch.as_tensor(second_moment, dtype=torch.float64)
    if moment.ndim > 0 and moment.shape != torch.Size(event_shape):
        raise ValueError(
            f"second_moment must be a number or have the event's shape {tuple(event_shape)}, "
            f"got {tuple(moment.shape)}"
        )
    if not bool((moment.isfinite() & (moment >= 0.0)).all()):
        raise ValueError(f"second_moment must be finite and zero or more, got {second_moment!r}")
    # Of the sum of squares alone nothing says in which component they are: in the worst one.
    shift = pull.max() * moment if moment.ndim == 0 else (pull * moment).sum()
    return float(0.5 * (shift + (ratio - 1.0 - ratio.log()).sum()))


def prior_gap_interval(sde: AffineSDE, x: Tensor, radius: float) -> tuple[Tensor, Tensor]:
    r"""(low, high), (B,) each in nats, between which log prior(x) - log p_T(x) must lie.

    For data within ``radius`` R of the offset: with y = x - offset, each transition's density at x
    lies between those at the distances max(0, |y| - alpha R) and |y| + alpha R, and so does p_T.
    The interval is 2 alpha R |y| / sigma^2 wide where |y| > alpha R.
    Raises TypeError for an SDE that is not affine or x of the wrong kind, ValueError for an SDE
    with parameters per component or a radius that is negative or not finite.
    """
    sde, x = check_affine(sde), check_points(x)
    reach = check_positive("radius", radius, allow_zero=True)
    if sde.event_shape is not None:
        raise ValueError(
            f"{type(sde).__name__} has parameters of event shape {tuple(sde.event_shape)}: "
            "distances need one sigma for all components, write prior_kl_bound"
        )
    zero, end = torch.tensor([0.0, sde.T], dtype=torch.float64).unbind()
    variance = float(sde.transition_variance(zero, end))
    reach *= float(sde.log_mean_ratio(zero, end).exp())
    far = event_sum(sde.centered(x).double().square()).sqrt()
    constant = -0.5 * x.shape[1:].numel() * math.log(2.0 * math.pi * variance)
    nearest, farthest = (far - reach).clamp(min=0.0), far + reach
    prior = sde.prior_log_prob(x.double())
    low = prior - constant + 0.5 * nearest.square() / variance
    high = prior - constant + 0.5 * farthest.square() / variance
    return low.to(x.dtype), high.to(x.dtype)
