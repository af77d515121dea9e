"""Correctors: steps that hold the law at one time, x + eps s + sqrt(2 eps) z and its like.

Song et al. 2021 (arXiv 2011.13456), Algorithms 4 and 5. A corrector is a rule for the step size
eps; each function returns the keyword of ``sdekit_kernels.langevin_step`` that fixes it, for all
levels of a grid at once, and "noise" with it where the noise is not Langevin's. alpha_i is 1 -
beta_i for VP and subVP and 1 for all others; ``t_next`` is the time to which a chain would step
from the level, see ``grid.following``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sdekit.sde import AffineSDE
from sdekit.sde.parameters import Parameter, parameter

StepRule = Callable[..., dict[str, Tensor]]


def langevin(sde: AffineSDE, t: Tensor, t_next: Tensor, snr: float) -> dict[str, Tensor]:
    """eps = 2 alpha_i (snr |z| / |s|)^2, from the norms of each sample's own noise and score.

    Song et al. 2021, Algorithms 4 (VE, alpha = 1) and 5 (VP). snr itself is handed to the step by
    the caller; the norms of the paper's code, averaged over the batch, are ``norm="batch"``.
    Made for many components D: a step size that knows the sample's own score and noise does not
    keep the law, however small snr is. The law N(m, v) in each component goes over into one of
    variance v (1 + 2 / D)^2, 1.06 v for D = 64 and 1.56 v for D = 8: for few components take
    "annealed", or the batch's norms, which have no such error.
    """
    return {"alpha": sde.langevin_alpha(t, t_next)}


def annealed(sde: AffineSDE, t: Tensor, t_next: Tensor, snr: float) -> dict[str, Tensor]:
    """eps = 2 alpha_i (snr sigma(t))^2, with sigma(t) the std of x_t given x_0.

    ``AnnealedLangevinDynamics`` of Song et al. 2021, after Song & Ermon 2019. sigma(t) is
    ``sde.std``, the exact one for every SDE; for the geometric VE it is sqrt(sigma^2 - sigma_min^2)
    (see ``VE``), where the paper's code takes the level sigma, larger near the data.
    """
    std = sde.std(t)
    alpha = _like(sde.langevin_alpha(t, t_next), std)
    return {"step_size": 2.0 * alpha * (snr * std).square()}


def ou(
    sde: AffineSDE, t: Tensor, t_next: Tensor, snr: float, data_std: Parameter = 0.5
) -> dict[str, Tensor]:
    r"""x + eps s + sqrt(2 eps - eps^2 / v) z: the exact Ornstein-Uhlenbeck transition.

    v = alpha(t)^2 data_std^2 + sigma(t)^2 is the variance of x_t, eps = v (1 - e^{-h}) and h = 2
    (snr sigma(t))^2 / v, so that eps <= 2 (snr sigma(t))^2, the step of "annealed". Langevin's
    step of size eps goes over N(m, V) into one that it holds at V / (1 - eps / (2 V)): its error is
    V (1 + snr^2) to leading order near the data. This one holds, of a component with variance V,

        V (2 - eps / v) / (2 - eps / V) = V (1 + (eps / 2) (1 / V - 1 / v) + O(eps^2)):

    V itself where data_std is the data's, for a step of any length, and else off by a part of
    snr^2 sigma^2 (1 / V - 1 / v), of either sign and within snr^2 for each V >= sigma^2.
    Two modes whose tails overlap are of this kind too: with the data's whole std their second
    moment is held better than by Langevin's step, with that of one mode the width of each.
    Steps are stable for snr <= 1 whatever the data: a score of data with noise sigma has slopes of
    1 / sigma^2 at most. data_std: a number, or (1, D...).
    """
    std = sde.std(t)
    alpha = _like(sde.mean_coefficient(t), std)
    if isinstance(data_std, Tensor):
        ones = [1] * (data_std.ndim - 1)
        alpha, std = (v.view(-1, *ones) if v.ndim < data_std.ndim else v for v in (alpha, std))
    variance = (alpha * data_std).square() + std.square()
    # No noise and one point of data: there is nothing to correct.
    safe = torch.where(variance > 0.0, variance, 1.0)
    h = 2.0 * (snr * std).square() / safe
    eps = -variance * torch.expm1(-h)
    return {"step_size": eps, "noise": (-variance * torch.expm1(-2.0 * h)).sqrt()}


def _like(coefficient: Tensor, std: Tensor) -> Tensor:
    """A coefficient of the levels (N,), viewed to meet a std of (N,) or (N, D...)."""
    if coefficient.ndim >= std.ndim:
        return coefficient
    return coefficient.view(-1, *[1] * (std.ndim - 1))


CORRECTORS: dict[str, StepRule | None] = {
    "langevin": langevin,
    "annealed": annealed,
    "ou": ou,
    "none": None,
}


def check_data_std(corrector: str, data_std: Any) -> Parameter | None:
    """``data_std`` as a number or (1, D...), None if it is; raises TypeError or ValueError."""
    if data_std is None:
        return None
    if corrector != "ou":
        raise ValueError(
            f"data_std= belongs to the corrector 'ou', not to {corrector!r}: leave it away"
        )
    value = parameter("data_std", data_std, minimum=0.0)
    # The plan of a run is made in float64 on the host.
    return value.detach().to("cpu", torch.float64) if isinstance(value, Tensor) else value
