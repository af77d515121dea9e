r"""Denoising score matching (Vincent 2011; Song et al. 2021, arXiv 2011.13456, eq. 7).

    L = (1 / (T - t_min)) \int_{t_min}^T lambda(t) E |s(t, x_t) - grad log p(x_t | x_0)|^2 / D dt,

x_t = offset + alpha(t) (x_0 - offset) + sigma(t) z, so that grad log p(x_t | x_0) = -z / sigma(t).
The minimum over all functions s is the score of the diffused data.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import sdekit_kernels
import torch
from torch import Tensor

from sdekit.noise import keys
from sdekit.sde import AffineSDE, check_output, expand
from sdekit.sde.base import check_batched
from sdekit.train.times import TimeSampler
from sdekit.train.weighting import Weighting, get_weighting

Score = Callable[[Tensor, Tensor], Tensor]

NOISE_STREAM: Final = keys.TRAIN + 2


def denoising_score_matching(
    sde: AffineSDE,
    score: Score,
    x0: Tensor,
    *,
    seed: int,
    step: int = 0,
    weighting: str | Weighting = "simple",
    times: TimeSampler | None = None,
) -> Tensor:
    """Return an unbiased estimate of L for each sample of x0 (B, D...): (B,). Differentiable.

    Args:
        sde: an affine SDE; offset and per component parameters are allowed.
        score: (t, x) -> x's shape, with t (B,) in x0's dtype.
        x0: data.
        seed, step: name the times and the noise (streams TRAIN + 1 and TRAIN + 2); a new step for
            each batch.
        weighting: lambda(t), a function or a name: "simple", sigma^2; "likelihood", g^2, with which
            (T - t_min) D / 2 times L is, up to ``bound_constant``, a bound of the negative
            log-likelihood in nats; "lognormal" (``sdekit.train.weighting``).
        times: where to look; ``TimeSampler(sde)`` if None. L does not depend on it beyond t_min,
            only its variance does.

    Raises TypeError for an SDE that is not affine, ValueError for an unknown weighting or a score
    of another shape than x0's.
    """
    weigh = get_weighting(weighting)
    times = TimeSampler(sde) if times is None else times
    n = check_batched(x0).shape[0]
    t64, factor = times(n, seed=seed, step=step)
    z = sdekit_kernels.normal(
        tuple(x0.shape),
        seed=seed,
        stream=NOISE_STREAM,
        step=step,
        dtype=x0.dtype,
        device=x0.device,
    )
    # Coefficients in float64: 1 - exp(-B(t)) near t = 0 is what the smallest noise levels are.
    t64, factor = t64.to(x0.device), factor.to(x0.device)
    alpha, std = expand(sde.mean_coefficient(t64), x0), expand(sde.std(t64), x0)
    x = sde.uncentered(alpha * sde.centered(x0) + std * z)
    t = t64.to(x0.dtype)
    # std (s + z / std) = z - eps: nothing is divided by a small std.
    error = std * check_output("score", score(t, x), x) + z
    weight = expand((factor * weigh(sde, t64) / sde.std(t64).square()), x0)
    return (weight * error.square()).flatten(1).mean(1)


def bound_constant(sde: AffineSDE, x0: Tensor, *, t_min: float | None = None) -> Tensor:
    r"""What (T - t_min) D / 2 times the "likelihood" loss lacks to a bound of -log p(x0), (B,).

    The bound of Kingma et al. 2021 (arXiv 2107.00630, eq. 2) for data that a Gaussian of std
    sigma / alpha at t_min reconstructs:

        -log p(x0) <= KL(p(x_T | x0) | prior) + D / 2 log(2 pi e sigma^2 / alpha^2)|_{t_min}
                      + 1/2 \int g^2 E |s - grad log p(x_t | x0)|^2 dt.

    In nats, for SDEs with numbers as parameters. It holds for any score, and is what a training
    loop can watch: it costs no ODE and no divergence.
    """
    y = sde.centered(x0).double().flatten(1)
    ends = torch.tensor(
        [sde.t_min_likelihood if t_min is None else t_min, sde.T],
        dtype=torch.float64,
        device=x0.device,
    )
    alpha, std = sde.mean_coefficient(ends), sde.std(ends)
    prior = torch.as_tensor(sde.prior_std, dtype=torch.float64, device=x0.device)
    ratio = (std[1] / prior).square()
    far = 0.5 * ((alpha[1] * y / prior).square() + ratio - 1.0 - ratio.log()).sum(1)
    blur = (std[0] / alpha[0]).square()
    near = 0.5 * y.shape[1] * (2.0 * torch.pi * torch.e * blur).log()
    return far + near
