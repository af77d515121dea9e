"""Samples that fit a measurement: the missing part of an image, or any linear inverse problem."""

from __future__ import annotations

from typing import Any

import torch
from sdekit_kernels.checks import check_float_tensor, check_int_range
from torch import Tensor

from sdekit.sample.conditional import conditional_score
from sdekit.sample.plan import make_grid
from sdekit.sample.sample import sample
from sdekit.sample.start import Score
from sdekit.sde import AffineSDE

__all__ = ["inpaint"]


def inpaint(
    sde: AffineSDE,
    score: Score,
    measurement: Tensor,
    operator: Any,
    shape: tuple[int, ...],
    *,
    noise_std: float = 0.0,
    covariance: str = "moment",
    data_std: float = 1.0,
    iterations: int | None = None,
    predictor: str = "ddpm",
    denoise: bool = True,
    return_info: bool = False,
    **options: Any,
) -> Any:
    r"""Draws of x_0 given m = A x_0 + noise_std n, (B, D...): ``sample`` with the score given m.

    The law is that of the data given m where they are Gaussian (tested), and close to it where the
    law of x_0 given x_t is nearly so; ``sdekit.sample.conditional`` has the formulas. Tweedie's
    E[x_0 | x_t, m] ends it, so that for noise_std = 0 the result meets the measurement, A x = m, up
    to the rounding of as many ``iterations`` as there are measured values. Putting the known values
    in place after each step (Song et al. 2021, appendix I) is cheaper and has another law: the free
    part hears of them through the score alone.

    Args:
        measurement: (B, M...), one a sample, or (1, M...) for all.
        operator: a boolean mask (D...), True where x is known, or a linear function x -> A x.
        shape: (B, D...).
        noise_std, covariance, data_std, iterations: see ``conditional_score``.
        predictor, options: see ``sample``; ``denoise=False`` gives the state at t_min instead.
            "ddpm" takes any number of steps, where "ancestral" needs beta(t) dt < 1 at each.

    Raises TypeError, ValueError, RuntimeError: as ``conditional_score`` and ``sample``.
    """
    m = check_float_tensor("measurement", measurement)
    size = tuple(check_int_range("an entry of shape", n, 0, 1 << 63) for n in shape)
    if m.ndim and len(m) not in (1, size[0] if size else 0):
        raise ValueError(
            f"there are {len(m)} measurements for {size[0]} samples: give one, or one a sample"
        )
    given = conditional_score(
        sde,
        score,
        m,
        operator,
        size[1:],
        noise_std=noise_std,
        covariance=covariance,
        data_std=data_std,
        iterations=iterations,
    )
    like = {"dtype": m.dtype, "device": m.device}
    grid = make_grid(sde, *(options.pop(name, None) for name in ("steps", "t_min", "times")))
    # A score that differentiates within cannot be traced into a kernel.
    x, info = sample(
        sde,
        given,
        size,
        predictor=predictor,
        times=grid,
        denoise=False,
        fuse=False,
        return_info=True,
        **{**like, **options},
    )
    if denoise and len(x):
        end = torch.tensor(float(grid[-1]), dtype=torch.float64, device=x.device)
        x = sde.tweedie(end, x, given(end.to(x.dtype), x))
    return (x, info) if return_info else x
