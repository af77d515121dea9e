r"""The loss of Karras et al. 2022 (EDM, arXiv 2206.00364, eq. 2 and table 1).

    L = E_sigma[lambda(sigma) E |D(x_0 + sigma z; sigma) - x_0|^2 / D],
    log sigma ~ N(mean, std^2),    lambda = (sigma^2 + data_std^2) / (sigma data_std)^2.

Under an affine SDE, y_t / alpha is data with noise of level sigma(t) / alpha(t), and the same loss,
with the law of the level cut to those of the SDE, is denoising score matching with the weighting
``LogNormal``.
"""

from __future__ import annotations

import torch
from sdekit_kernels.checks import check_positive
from torch import Tensor

from sdekit.sde import AffineSDE, expand
from sdekit.train.losses.denoising import denoising_score_matching
from sdekit.train.losses.diffused import Net, check_data, evaluate, noise_like, weighted_mean
from sdekit.train.times import TimeSampler, stratified
from sdekit.train.weighting import LogNormal

__all__ = ["edm", "edm_of_score"]


def edm(
    denoiser: Net,
    x0: Tensor,
    *,
    seed: int,
    step: int = 0,
    mean: float = -1.2,
    std: float = 1.2,
    data_std: float = 0.5,
) -> Tensor:
    """Return an unbiased estimate of L for each sample of x0 (B, D...): (B,). Differentiable.

    Args:
        denoiser: (x, sigma) -> x_0 of x's shape, in the paper's order of arguments; sigma is (B,).
        x0, seed, step: as ``denoising_score_matching``.
        mean, std: of log sigma. Its quantiles are stratified over the batch.
        data_std: of the data, by which the denoiser's network is taken to be preconditioned.

    Raises TypeError or ValueError as ``denoising_score_matching``, and unless std and data_std are
    above zero.
    """
    std, data_std = check_positive("std", std), check_positive("data_std", data_std)
    n = check_data(x0).shape[0]
    # u = 0 would be the level 0: 1e-12 is 7 stds below the mean.
    u = stratified(n, seed=seed, step=step).clamp(1e-12, 1.0 - 1e-12)
    sigma = (float(mean) + std * torch.special.ndtri(u)).exp().to(x0.device)
    x = x0 + expand(sigma, x0) * noise_like(x0, seed=seed, step=step)
    out = evaluate("denoiser", _in_our_order(denoiser), sigma, x)
    weight = (sigma.square() + data_std**2) / (sigma * data_std).square()
    return weighted_mean(expand(weight, out), (out - x0).square())


def edm_of_score(
    sde: AffineSDE,
    score: Net,
    x0: Tensor,
    *,
    seed: int,
    step: int = 0,
    target: str = "score",
    mean: float = -1.2,
    std: float = 1.2,
    data_std: float = 0.5,
    times: TimeSampler | None = None,
) -> Tensor:
    """``edm`` of a score, (t, x) -> score, or a network of another target, under an affine SDE.

    The integral of N(log sigma; mean, std^2) times the denoiser's weighted error over the levels
    of the SDE; ``edm`` has all levels. Arguments and errors as ``denoising_score_matching``; times:
    a ``TimeSampler``, None for that of the log-normal law itself.
    """
    if times is None:
        times = TimeSampler(sde, proposal="lognormal", mean=mean, std=std)
    each = denoising_score_matching(
        sde,
        score,
        x0,
        seed=seed,
        step=step,
        target=target,
        weighting=LogNormal(float(mean), std, data_std),
        times=times,
    )
    return (times.t_max - times.t_min) * each


def _in_our_order(denoiser: Net) -> Net:
    """(sigma, x) of a (x, sigma); raises TypeError if it is not callable."""
    if not callable(denoiser):
        raise TypeError(
            f"denoiser must be callable as denoiser(x, sigma), got {type(denoiser).__name__}"
        )
    return lambda sigma, x: denoiser(x, sigma)
