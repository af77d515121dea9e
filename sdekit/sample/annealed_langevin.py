"""Annealed Langevin dynamics: the sampler of noise-conditional score networks (NCSN)."""

from __future__ import annotations

from typing import Any

import torch
from sdekit_kernels import langevin_step
from sdekit_kernels.checks import check_int_range, check_positive
from sdekit_kernels.dispatch import resolve_backend
from torch import Tensor

from sdekit.noise import keys
from sdekit.sample.draws import check_draws
from sdekit.sample.info import Recorder
from sdekit.sample.start import (
    Score,
    as_times,
    check_path_points,
    check_score,
    check_shape,
    check_start,
    evaluate,
    progress_bar,
    rows,
)


def annealed_langevin(
    score: Score,
    sigmas: Any,
    shape: Any,
    *,
    steps_each: int = 100,
    eps: float = 2e-5,
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
    r"""Draws samples of the data by Langevin steps at falling levels of noise, shape (B, D...).

    Song & Ermon 2019 (arXiv 1907.05600), Algorithm 1, for sigma_1 > ... > sigma_L, T =
    ``steps_each`` steps at each::

        alpha_i = eps sigma_i^2 / sigma_L^2
        x = x + alpha_i / 2 score(sigma_i, x) + sqrt(alpha_i) z

    and at the end, with ``denoise``, the step x + sigma_L^2 score(sigma_L, x) to the mean of the
    data given x (Jolicoeur-Martineau et al. 2020; Song & Ermon 2020, arXiv 2006.09011). No
    gradients are recorded, and the loop never waits for the device.

    Args:
        score: any callable (sigma, x) -> score of the data with noise of std sigma, of x's shape,
            dtype and device; sigma is 0-d (float32 for bfloat16 and float16), x is (B, D...).
        sigmas: (L,) levels in the data's units, strictly decreasing and above zero.
        shape: (B, D...).
        steps_each: T, steps a level.
        eps: the step size alpha_L at the last level, in the data's units squared, twice the eps of
            Song & Ermon 2020 (``ncsnv2_levels`` computes it and the levels from the data). The
            levels scale it, so that alpha_i / sigma_i^2 is the same at all of them; for data that
            are points the steps diverge unless eps < 4 sigma_L^2.
        x_init: the first state; sigma_1 z if None, the law at level sigma_1 of data that are small
            against it.
        denoise: end with the denoising step.
        seed, first_sample, samples, dtype, device, backend, progress, return_info, path_points: as
            for ``sdekit.sample.sample``; ``SampleInfo.path_t`` holds the levels, and
            ``nonfinite_step`` counts all steps, of which there are L T, and one more for the
            denoising.

    Returns:
        x (B, D...); with ``return_info`` (x, SampleInfo).

    Raises:
        TypeError, ValueError, RuntimeError: as ``sdekit.sample.sample``.
    """
    check_score(score)
    size = check_shape(shape)
    levels = _check_sigmas(sigmas)
    per_level = check_int_range("steps_each", steps_each, 1, 1 << 31)
    eps = check_positive("eps", eps)
    n = len(levels) * per_level
    total = n + (1 if denoise else 0)
    path_points = check_path_points(path_points, total, return_info)
    draws = check_draws(seed, first_sample, samples, size[0])

    with torch.no_grad():
        host_sigmas = levels.tolist()
        if x_init is None:
            x = host_sigmas[0] * draws.normal(
                size,
                stream=keys.PRIOR,
                dtype=torch.float32 if dtype is None else dtype,
                device="cpu" if device is None else device,
                backend=backend,
            )
        else:
            x = check_start(x_init, size, dtype, device)
        choice = resolve_backend(backend, x.device)
        recorder = Recorder(x, host_sigmas[0], total, path_points) if return_info else None
        sigma = as_times(levels, x)
        # The step of the kernel is x + eps s + sqrt(2 eps) z: its eps is alpha_i / 2.
        step_size = rows(0.5 * eps * (levels / levels[-1]).square(), len(levels), x)
        for k in progress_bar(range(n if size[0] else 0), progress):
            i = k // per_level
            x, _ = draws.step(
                langevin_step,
                x,
                evaluate(score, sigma[i], x),
                step_size=step_size[i],
                stream=keys.CORRECTOR,
                step=k,
                want_mean=False,
                backend=backend,
            )
            if recorder is not None:
                recorder.after(k, host_sigmas[i], x)
        if denoise and size[0]:
            x = x + host_sigmas[-1] ** 2 * evaluate(score, sigma[-1], x)
            if recorder is not None:
                recorder.after(n, host_sigmas[-1], x)
    return x if recorder is None else (x, recorder.info(total if size[0] else 0, choice))


def _check_sigmas(sigmas: Any) -> Tensor:
    """The levels as (L,) in float64 on the host; raises TypeError or ValueError."""
    try:
        levels = torch.as_tensor(sigmas).detach().to("cpu", torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"sigmas must be a sequence of numbers, got {sigmas!r}") from None
    if levels.ndim != 1 or levels.numel() < 1:
        raise ValueError(f"sigmas must be one level or more, (L,), got {tuple(levels.shape)}")
    fine = torch.isfinite(levels).all() and (levels > 0).all() and (levels.diff() < 0).all()
    if not bool(fine):
        raise ValueError(
            "sigmas must be finite, above zero and strictly decreasing, from the largest level to "
            f"the smallest, got {levels.tolist()[:6]}{'...' if len(levels) > 6 else ''}"
        )
    return levels
