"""Correctors: Langevin steps that hold the law at one time, x + eps s + sqrt(2 eps) z.

Song et al. 2021 (arXiv 2011.13456), Algorithms 4 and 5. A corrector is a rule for the step size
eps; each function returns the keyword of ``sdekit_kernels.langevin_step`` that fixes it, for all
levels of a grid at once. alpha_i is 1 - beta_i for VP and subVP and 1 for all others; ``t_next`` is
the time to which a chain would step from the level, see ``grid.following``.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from sdekit.sde import AffineSDE

StepRule = Callable[[AffineSDE, Tensor, Tensor, float], dict[str, Tensor]]


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
    alpha = sde.langevin_alpha(t, t_next)
    alpha = alpha.view(-1, *[1] * (std.ndim - 1)) if alpha.ndim < std.ndim else alpha
    return {"step_size": 2.0 * alpha * (snr * std).square()}


CORRECTORS: dict[str, StepRule | None] = {
    "langevin": langevin,
    "annealed": annealed,
    "none": None,
}
