r"""Denoising score matching (Vincent 2011; Song et al. 2021, arXiv 2011.13456, eq. 7).

    L = (1 / (T - t_min)) \int_{t_min}^T lambda(t) E |s(t, x_t) - grad log p(x_t | x_0)|^2 / D dt,

x_t = offset + alpha(t) (x_0 - offset) + sigma(t) z, so that grad log p(x_t | x_0) = -z / sigma(t).
The minimum over all functions s is the score of the diffused data.
"""

from __future__ import annotations

from torch import Tensor

from sdekit.sde import AffineSDE
from sdekit.train.losses.diffused import Net, diffuse, weighted_mean
from sdekit.train.losses.targets import check_target, residual_of
from sdekit.train.times import Times, default_times
from sdekit.train.weighting import Weighting, get_weighting, uniform

__all__ = ["denoising_score_matching"]


def denoising_score_matching(
    sde: AffineSDE,
    net: Net,
    x0: Tensor,
    *,
    seed: int,
    step: int = 0,
    target: str = "score",
    weighting: str | Weighting = "simple",
    times: Times | None = None,
    gap: float | None = None,
) -> Tensor:
    """Return an unbiased estimate of L for each sample of x0 (B, D...): (B,). Differentiable.

    Whatever the target, the error is measured as that of the score: with one weighting, by name or
    function, a network and its conversion to another target have the same loss, to rounding. The
    exception is "uniform", the plain squared error of what the network predicts.

    Args:
        sde: an affine SDE; offset and per component parameters are allowed.
        net: (t, x) -> x's shape, with t (B,) in x0's dtype (float32 for 16 bits).
        x0: data. A sample with NaN has the loss NaN; the others are unharmed.
        seed, step: name the times and the noise (streams TRAIN + 1 and TRAIN + 2); a new step for
            each batch.
        target: what the net's output means: "score", "eps", "x0", "v" or "posterior_mean"
            (``sdekit.train.losses.targets`` has the equations, ``as_score`` the conversions).
        weighting: lambda(t), a function or a name: "simple", sigma^2; "likelihood", g^2, with which
            (T - t_min) D / 2 times L is, up to ``bound_constant``, a bound of the negative
            log-likelihood in nats; "min_snr", sigma^2 min(1, 5 / SNR); "lognormal"; "uniform"
            (``sdekit.train.weighting``).
        times: where to look; those that fit the weighting if None (``default_times``; they are
            importance-sampled for "likelihood"). Making them takes 1 to 3 ms, so a loop makes them
            once. L does not depend on them beyond t_min, only its variance does.
        gap: how far before t the time of "posterior_mean" is, in units of t; None for the whole
            way, E[x_0 | x_t].

    Raises TypeError for an SDE that is not affine, ValueError for an unknown target or weighting,
    data without samples, or a net whose output is of another shape than x0's.
    """
    weigh = get_weighting(weighting)
    target, gap = check_target(target, gap)
    times = default_times(sde, weigh) if times is None else times
    place = diffuse(sde, x0, times, seed=seed, step=step)
    residual = residual_of(target, place, place.predict("net", net), gap)
    if weigh is uniform:
        weight = place.wide(place.factor) * residual.own
    else:
        weight = place.weight(weigh) * residual.unit.square()
    return weighted_mean(weight, residual.error.square())
