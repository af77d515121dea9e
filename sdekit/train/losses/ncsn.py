r"""The loss of noise-conditional score networks (Song & Ermon 2019, arXiv 1907.05600, eqs. 5, 6).

    L = 1 / (2 L) sum_{i=1}^L sigma_i^2 E |s(sigma_i, x_0 + sigma_i z) + z / sigma_i|^2 / D,

the paper's with its lambda(sigma) = sigma^2, divided by D as the other losses are. It is half of
denoising score matching with the weighting "simple" at L levels of a VE equation.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sdekit.sde import AffineSDE, expand
from sdekit.train.losses.denoising import denoising_score_matching
from sdekit.train.losses.diffused import Net, check_data, evaluate, noise_like
from sdekit.train.times import Levels, pick

__all__ = ["ncsn", "ncsn_of_score"]


def ncsn(sigmas: Any, score: Net, x0: Tensor, *, seed: int, step: int = 0) -> Tensor:
    """Return an unbiased estimate of L for each sample of x0 (B, D...): (B,). Differentiable.

    Args:
        sigmas: (L,) levels in the data's units, above zero, as ``annealed_langevin`` takes them.
            Each sample gets one, stratified over the batch.
        score: (sigma, x) -> score of the data with noise of std sigma, of x's shape; sigma is (B,).
        x0, seed, step: as ``denoising_score_matching``.

    Raises TypeError for a score that is not callable, ValueError for levels that are not positive,
    data without samples, or a score of another shape than x0's.
    """
    sigmas = _check_levels(sigmas)
    n = check_data(x0).shape[0]
    sigma = sigmas[pick(len(sigmas), n, seed=seed, step=step)].to(x0.device)
    z = noise_like(x0, seed=seed, step=step)
    x = x0 + expand(sigma, x0) * z
    s = evaluate("score", score, sigma, x)
    # sigma (s + z / sigma): nothing is divided by a small sigma.
    return 0.5 * (expand(sigma, s) * s + z).square().flatten(1).mean(1)


def ncsn_of_score(
    sde: AffineSDE,
    score: Net,
    x0: Tensor,
    *,
    seed: int,
    step: int = 0,
    target: str = "score",
    levels: int = 100,
    times: Levels | None = None,
) -> Tensor:
    """``ncsn`` of a score, (t, x) -> score, at levels of an affine SDE even in log(sigma / alpha).

    For VE equations these are the geometric sigmas of the paper. levels: L, 2 or more. times: the
    levels themselves, ``Levels.even(sde, L)`` if None (making them takes 1 to 3 ms, so a loop makes
    them once). Other arguments and errors as ``denoising_score_matching``.
    """
    times = Levels.even(sde, levels) if times is None else times
    return 0.5 * denoising_score_matching(
        sde, score, x0, seed=seed, step=step, target=target, times=times
    )


def _check_levels(sigmas: Any) -> Tensor:
    """The levels (L,) in float64 on the host."""
    try:
        values = torch.as_tensor(sigmas).detach().to("cpu", torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"sigmas must be a sequence of numbers, got {sigmas!r}") from None
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"sigmas must be (L,) with L of 1 or more, got {tuple(values.shape)}")
    if not bool(((values > 0.0) & values.isfinite()).all()):
        raise ValueError(f"sigmas must be finite and above zero, got {values.tolist()}")
    return values
