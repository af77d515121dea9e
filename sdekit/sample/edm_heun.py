"""EDM's stochastic sampler: Heun's second-order step of the probability flow, with churn."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from sdekit_kernels import predictor_step
from sdekit_kernels.checks import check_int_range, check_positive
from sdekit_kernels.dispatch import resolve_backend
from torch import Tensor

from sdekit.noise import keys
from sdekit.sample.draws import check_draws
from sdekit.sample.info import Recorder
from sdekit.sample.levels import edm_sigmas, levels_at, times_of_levels
from sdekit.sample.start import (
    Score,
    as_times,
    check_path_points,
    check_score,
    check_shape,
    check_start,
    evaluate,
    progress_bar,
)
from sdekit.sde import AffineSDE
from sdekit.sde.parameters import at, shifted

__all__ = ["edm_heun"]


def edm_heun(
    sde: AffineSDE,
    score: Score,
    shape: Any,
    *,
    steps: int = 18,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
    rho: float = 7.0,
    churn: float = 0.0,
    churn_min: float = 0.0,
    churn_max: float | None = None,
    churn_noise: float = 1.0,
    x_init: Tensor | None = None,
    denoise: bool = True,
    seed: Any = 0,
    first_sample: int = 0,
    samples: Any = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    backend: str = "auto",
    progress: bool = False,
    return_info: bool = False,
    path_points: int = 0,
) -> Any:
    r"""Draws samples of the data with the score of an affine SDE, shape (B, D...).

    Karras et al. 2022 (arXiv 2206.00364), Algorithm 2, in u = y / alpha(t), which is data with
    noise of the level l = sigma(t) / alpha(t) under any affine equation; du / dl = -sigma(t) s(t,
    x). On the levels l_0 > ... > l_N = 0 of ``edm_sigmas``, for i = 0..N - 1::

        l^ = (1 + gamma) l_i,  gamma = min(churn / N, sqrt(2) - 1) if churn_min <= l_i <= churn_max
        u^ = u + sqrt(l^^2 - l_i^2) churn_noise z
        d  = -sigma(t^) s(t^, x^),         u  = u^ + (l_{i+1} - l^) d
        d' = -sigma(t_{i+1}) s(t_{i+1}, x),  u = u^ + (l_{i+1} - l^) (d + d') / 2   if l_{i+1} > 0

    Of weak order 2 with churn_noise = 1, with churn and without: the noise added is exactly that of
    the level reached, and each Heun step errs by its third power.

    Args:
        score: any callable (t, x) -> score of x's shape, dtype and device.
        shape: (B, D...).
        steps: N; 2 N - 1 evaluations.
        sigma_min, sigma_max: the smallest and largest level above 0; those at ``sde.t_min`` and
            ``sde.T`` if None.
        rho: shape of the grid.
        churn, churn_min, churn_max, churn_noise: the paper's S_churn, S_tmin, S_tmax and S_noise,
            levels all. churn_max: if None, as far as no level goes above that at T; the paper's
            own, infinity, asks for the score beyond T.
        x_init: the state at the first level, (B, D...). If None, the prior at T; with sigma_max
            given, offset + sigma(t_0) z.
        denoise: take the last step, to level 0; else the result is at sigma_min, after 2 N - 2
            evaluations.
        seed, first_sample, samples, dtype, device, backend, progress, return_info, path_points: as
            for ``sdekit.sample.sample`` (streams PRIOR and CHURN).

    Returns:
        x (B, D...); with ``return_info`` (x, SampleInfo).

    Raises:
        TypeError, ValueError, RuntimeError: as ``sdekit.sample.sample``; ValueError also for an SDE
        with per component parameters, and for levels that it does not reach.
    """
    if not isinstance(sde, AffineSDE):
        raise TypeError(f"edm_heun needs an AffineSDE, got {type(sde).__name__}")
    check_score(score)
    size = check_shape(shape)
    n = check_int_range("steps", steps, 1, 1 << 31)
    course = _course(sde, n, sigma_min, sigma_max, rho, churn, churn_min, churn_max)
    extra = check_positive("churn_noise", churn_noise, allow_zero=True)
    n = n if denoise else n - 1
    path_points = check_path_points(path_points, n, return_info)
    draws = check_draws(seed, first_sample, samples, size[0])
    with torch.no_grad():
        if x_init is None:
            like = {
                "dtype": torch.float32 if dtype is None else dtype,
                "device": "cpu" if device is None else device,
                "backend": backend,
            }
            if sigma_max is None:
                x = draws.prior(sde, size, **like)
            else:
                z = draws.normal(size, stream=keys.PRIOR, **like)
                x = sde.uncentered(course.alphas[0] * course.levels[0] * z)
        else:
            x = check_start(x_init, size, dtype, device)
        choice = resolve_backend(backend, x.device)
        recorder = Recorder(x, float(course.t[0]), n, path_points) if return_info else None
        t, t_hat = as_times(course.t, x), as_times(course.t_hat, x)
        offset = at(sde.offset, x)
        u = sde.centered(x) / course.alphas[0]

        def move(u: Tensor, s: Tensor, b: float, c: float, i: int) -> Tensor:
            whose = {"stream": keys.CHURN, "step": i, "want_mean": False, "backend": backend}
            return draws.step(predictor_step, u, s, 1.0, b, c, **whose)[0]

        for i in progress_bar(range(n if size[0] else 0), progress):
            level, hat, after = course.levels[i], course.hats[i], course.levels[i + 1]
            if hat > level:
                u = move(u, u, 0.0, extra * math.sqrt(hat**2 - level**2), i)
            s = evaluate(score, t_hat[i], shifted(course.alphas_hat[i] * u, offset))
            slope = (hat - after) * course.alphas_hat[i] * hat
            if after == 0.0:
                u = move(u, s, slope, 0.0, i)
            else:
                end = move(u, s, slope, 0.0, i)
                u = move(u, s, 0.5 * slope, 0.0, i)
                s = evaluate(score, t[i + 1], shifted(course.alphas[i + 1] * end, offset))
                u = move(u, s, 0.5 * (hat - after) * course.alphas[i + 1] * after, 0.0, i)
            if recorder is not None:
                recorder.after(i, float(course.t[i + 1]), shifted(course.alphas[i + 1] * u, offset))
        x = shifted(course.alphas[n] * u, offset)
    if recorder is None:
        return x
    evaluations = 2 * n - (1 if denoise else 0)
    return x, recorder.info(evaluations if size[0] else 0, choice, "step by step")


class _Course(NamedTuple):
    """The levels l_0..l_N and l^_0..l^_{N-1}, with their times (float64) and alphas."""

    levels: list[float]
    hats: list[float]
    t: Tensor
    t_hat: Tensor
    alphas: list[float]
    alphas_hat: list[float]


def _course(
    sde: AffineSDE,
    n: int,
    sigma_min: float | None,
    sigma_max: float | None,
    rho: float,
    churn: float,
    churn_min: float,
    churn_max: float | None,
) -> _Course:
    """What is known of the run before it starts; raises TypeError or ValueError for bad numbers."""
    ends = levels_at(sde, torch.tensor([sde.t_min, sde.T], dtype=torch.float64)).tolist()
    low = ends[0] if sigma_min is None else sigma_min
    sigmas = edm_sigmas(
        n, sigma_min=low, sigma_max=ends[1] if sigma_max is None else sigma_max, rho=rho
    )
    gamma = min(check_positive("churn", churn, allow_zero=True) / n, math.sqrt(2.0) - 1.0)
    least = check_positive("churn_min", churn_min, allow_zero=True)
    if churn_max is None:
        most = ends[1] / (1.0 + gamma)
    else:
        most = math.inf if churn_max == math.inf else check_positive("churn_max", churn_max)
    noisy = (sigmas[:-1] >= least) & (sigmas[:-1] <= most)
    hats = torch.where(noisy, (1.0 + gamma) * sigmas[:-1], sigmas[:-1])
    t, t_hat = times_of_levels(sde, sigmas), times_of_levels(sde, hats)
    alphas, alphas_hat = (sde.mean_coefficient(v).expand_as(v).tolist() for v in (t, t_hat))
    return _Course(sigmas.tolist(), hats.tolist(), t, t_hat, alphas, alphas_hat)
