r"""A lower bound of log p(x) by the SDE: Song, Durkan, Murray & Ermon 2021 (arXiv 2101.09258).

With p the law of the reverse-time SDE that starts in the prior at T, and x_t a path from x at time
r (its transition N(mean, sigma^2), x_t = mean + sigma z, so that grad log p(x_t | x) = -z / sigma):

    log p_r(x) >= E log prior(x_T) - 1/2 \int_r^T g^2 E[|s + z / sigma|^2 - |z|^2 / sigma^2] dt
                  + \int_r^T E[div f] dt,

their theorem 3. It needs no ODE and no divergence of the score, and holds for every s that grows
no faster than linearly. For the exact score it lacks E[log p_T(x_T) - log prior(x_T) | x] alone.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import sdekit_kernels
import torch
from sdekit_kernels.checks import check_choice, check_int_range, check_positive
from torch import Tensor

from sdekit.likelihood.bound_terms import BoundTerms
from sdekit.likelihood.bound_times import BoundTimes
from sdekit.likelihood.pointwise import ScoreLike, check_affine, check_points, log_prior
from sdekit.noise import keys
from sdekit.sde import AffineSDE

__all__ = ["OF", "elbo"]

OF = ("t_min", "data")


@torch.no_grad()
def elbo(
    sde: AffineSDE,
    score: ScoreLike,
    x: Tensor,
    *,
    of: str = "t_min",
    draws: int = 128,
    t_min: float | None = None,
    t_max: float | None = None,
    prior: Any = None,
    data_std: float = 0.5,
    seed: int = 0,
    first_sample: int = 0,
    chunk: int = 1,
) -> tuple[Tensor, Tensor]:
    r"""(bound (B,), std_error (B,)) in nats: an unbiased estimate of a lower bound of log p(x).

    of: what is bounded. "t_min": log p_{t_min}(x), x taken as a draw at t_min, as log_likelihood
    takes it: the number to put beside its value. "data": log p_0(x), x a point of the data; the
    integral still begins at t_min, and the last stretch is a Gaussian decoder of mean Tweedie's
    E[x_0 | x_t] and std sigma / alpha (as the paper does for numerical stability), which adds

        D log alpha - 1/2 E[sigma^2 |s|^2 + 2 sigma s . z]  at t_min:

    a rectangle for the integral below t_min, with an error of second order in sigma(t_min)^2.

    One draw is a time and two paths, z and -z: two calls of the score (four for "data"). What makes
    its variance finite and small, none of which moves the mean:

    - |s + z / sigma|^2 - |z|^2 / sigma^2 is taken as |s|^2 + 2 s . z / sigma: nothing of order
      D / sigma^2 is subtracted; the pair z, -z cancels the noise of order 1 / sigma as sigma -> 0;
    - times, two in each of draws / 2 strata, are laid in log(v + sigma^2 / alpha^2), v =
      data_std^2, where for data of that std the integrand is even, and denser where sigma^2 is up
      to v (see ``bound_times.py``): half the error that even times would have; what such data
      give as a function of time is subtracted, and its integral added;
    - c (|z|^2 - D) / sigma^2 of mean 0 is added, c = 1 - (alpha^2 v / (alpha^2 v + sigma^2))^2, the
      exact control for Gaussian data of std data_std.

    std_error is unbiased for the variance of the stratified mean: from the difference of the two
    draws in each stratum, so it has draws / 2 degrees of freedom.

    Args:
        score: (t, x) -> x's shape, t (B,); any function, the bound holds.
        draws: an even number. chunk: how many draws go into one call of the score; above 1 its rows
            are those of x, chunk times over. It does not change the value beyond rounding.
        t_min, t_max, prior: as for log_likelihood. The prior's mean is exact for the default one,
            over the draws for another.
        data_std: about the std of the data in x's units: matters for the variance alone.
        seed, first_sample: name the noise, streams ELBO and ELBO_TIME, step j for draw j.
    A sample that leaves the finite numbers has NaN or -inf; the others are unharmed.
    Raises TypeError for an SDE that is not affine, TypeError or ValueError for arguments out of
    their range or of the wrong shape.
    """
    sde, x = check_affine(sde), check_points(x)
    check_choice("of", of, OF)
    draws = check_int_range("draws", draws, 2, 1 << 31)
    chunk = check_int_range("chunk", chunk, 1, 1 << 31)
    if draws % 2:
        raise ValueError(f"draws must be even, two in each stratum of time, got {draws}")
    first = check_positive("t_min", _default(t_min, sde.t_min_likelihood), allow_zero=True)
    end = check_positive("t_max", _default(t_max, sde.T))
    if not first < end:
        raise ValueError(f"times must be 0 <= t_min < t_max, got {first:g} and {end:g}")
    variance = check_positive("data_std", data_std) ** 2
    law = log_prior(sde, prior, end)
    terms = BoundTerms(sde, score, x, first if of == "t_min" else 0.0, variance)
    dim = x.shape[1:].numel()
    times = BoundTimes(sde, terms.start, first, end, variance, x.device)

    noise = partial(
        sdekit_kernels.normal,
        seed=seed,
        first_sample=first_sample,
        dtype=torch.float64,
        device=x.device,
    )
    # Two draws a stratum; the times of all draws at once, because each is a bisection.
    place = torch.special.ndtr(noise((len(x), draws), stream=keys.ELBO_TIME)).mT
    stratum = torch.arange(draws, device=x.device).unsqueeze(1) // 2
    all_times = times.quantile(((stratum + place) / (draws // 2)).flatten()).view(draws, -1)

    values: list[Tensor] = []
    for j in range(0, draws, chunk):
        t = all_times[j : j + chunk].flatten()
        steps = range(j, min(j + chunk, draws))
        z = torch.cat([noise(tuple(x.shape), stream=keys.ELBO, step=s) for s in steps])
        weight = times.weight(t, z)
        value = -0.5 * (terms.pair(t, z, weight) + dim * times.excess(t))
        if of == "data" and first > 0.0:
            value -= 0.5 * terms.pair(torch.full_like(t, first), z, None)
        if prior is not None:
            value += terms.prior_mean(law, end, z)
        values += value.view(len(steps), -1).unbind()
    estimates = torch.stack(values).view(draws // 2, 2, -1)
    bound = estimates.mean((0, 1)) + terms.log_volume(end)
    if prior is None:
        bound += terms.default_prior(end)
    spread = (estimates[:, 0] - estimates[:, 1]).square().sum(0).sqrt()
    return bound.to(x.dtype), (spread / draws).to(x.dtype)


def _default(given: float | None, otherwise: float) -> float:
    return otherwise if given is None else given
