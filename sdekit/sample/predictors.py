r"""Predictors: one step of the reversed equation, y_next = A y + B score + C z.

Song et al. 2021, "Score-based generative modeling through stochastic differential equations",
arXiv 2011.13456; "ddpm" of Ho et al. 2020 (2006.11239) and "ddim" of Song, Meng & Ermon 2020
(2010.02502) hold for any affine equation and any two times, so for any subset of a chain's levels.
Notation: y = x - offset, dt = t - t_next > 0, a(t) and g(t) the coefficients of
dy = a y dt + g dW, s the score at time t, z a standard normal; x_mean = A y + B s is the update
without its noise. Each function returns (A, B, C), in the shapes that ``AffineSDE`` describes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import torch
from sdekit_kernels.checks import check_choice, check_positive
from torch import Tensor

from sdekit.sde.affine import AffineSDE, Coefficients

VARIANCES: Final = ("fixed_small", "fixed_large")


class Predictor(NamedTuple):
    """(A, B, C) of a step, and the order at which mean and variance converge as dt goes to 0.

    options: the keywords that ``coefficients`` takes beside (sde, t, t_next).
    """

    coefficients: Callable[..., Coefficients]
    weak_order: int
    options: tuple[str, ...] = ()


def euler_maruyama(sde: AffineSDE, t: Tensor, t_next: Tensor) -> Coefficients:
    """y_next = y - (a y - g^2 s) dt + g sqrt(dt) z: Euler's step of the reverse-time SDE.

    A = 1 - a dt, B = g^2 dt, C = g sqrt(dt), with a and g at t (Song et al. 2021, eq. 6 and
    appendix G).
    """
    # The generic one: VP and VE override ``reverse_diffusion_coefficients`` by their own chains.
    return AffineSDE.reverse_diffusion_coefficients(sde, t, t_next)


def reverse_diffusion(sde: AffineSDE, t: Tensor, t_next: Tensor) -> Coefficients:
    """y_next = y - f_i(y) + G_i^2 s + G_i z: the discretization of the forward SDE, reversed.

    Song et al. 2021, appendix E and Algorithms 2 and 3. With t = t_i, t_next = t_{i-1}:

    - VE: y + (sigma_i^2 - sigma_{i-1}^2) s + sqrt(sigma_i^2 - sigma_{i-1}^2) z;
    - VP: (2 - sqrt(1 - beta_i)) y + beta_i s + sqrt(beta_i) z, beta_i = beta(t) dt for the linear
      schedule, which must be below 1; for the cosine schedule that of Nichol & Dhariwal 2021;
    - all others, subVP among them: their chain is Euler's, so the step is ``euler_maruyama``'s.
    """
    return sde.reverse_diffusion_coefficients(t, t_next)


def ancestral(sde: AffineSDE, t: Tensor, t_next: Tensor) -> Coefficients:
    """y_next from the chain's Gaussian posterior, with the score's estimate for the data.

    - VP: (y + beta_i s) / sqrt(1 - beta_i) + sqrt(beta_i) z (Ho et al. 2020; Song et al. 2021,
      eq. 4), beta_i as in ``reverse_diffusion``;
    - VE: y + v s + sqrt(v) sigma_{i-1} / sigma_i z, v = sigma_i^2 - sigma_{i-1}^2 (Song et al.
      2021, appendix F);
    - all others: the exact posterior of y_next given y and y_0 = (y + sigma(t)^2 s) / alpha(t),
      that is y / r + (v / r) s + sqrt(v) sigma(t_next) / sigma(t) z, where from t_next to t the
      forward equation multiplies the mean by r and adds the variance v.
    """
    return sde.ancestral_coefficients(t, t_next)


def probability_flow(sde: AffineSDE, t: Tensor, t_next: Tensor) -> Coefficients:
    """y_next = y - f_i(y) + G_i^2 s / 2: ``reverse_diffusion`` of the probability-flow ODE.

    Song et al. 2021, appendix D.3: A as there, B half as large, C = 0. VE steps to
    y + (sigma_i^2 - sigma_{i-1}^2) s / 2, VP to (2 - sqrt(1 - beta_i)) y + beta_i s / 2 (beta_i
    must be below 1), and all others take Euler's step of the ODE.
    """
    a, b, c = sde.reverse_diffusion_coefficients(t, t_next)
    return a, 0.5 * b, torch.zeros_like(c)


def ddpm(sde: AffineSDE, t: Tensor, t_next: Tensor, variance: str = "fixed_small") -> Coefficients:
    r"""y_next = y / r + (v / r) s + c z: Ho et al. 2020, Algorithm 2, from any level to any lower.

    From t_next to t the forward equation multiplies the mean by r and adds the variance v (on two
    neighbours of a chain r = sqrt(1 - beta_k) and v = beta_k; on others v is the beta of the jump).
    The mean is that of the posterior q(y_next | y, y_0) at y_0 = (y + sigma(t)^2 s) / alpha(t).

    - "fixed_small": c^2 = v sigma(t_next)^2 / sigma(t)^2, the posterior's variance: exact for data
      that are one point;
    - "fixed_large": c^2 = v, exact under VP for data N(0, 1). At t_next = 0 it is 0, as published.

    Raises ValueError for another variance.
    """
    check_choice("variance", variance, VARIANCES)
    a, b, small = AffineSDE.ancestral_coefficients(sde, t, t_next)
    if variance == "fixed_small":
        return a, b, small
    large = sde.transition_variance(t_next, t).sqrt()
    return a, b, torch.where(sde.std(t_next) > 0.0, large, 0.0)


def ddim(sde: AffineSDE, t: Tensor, t_next: Tensor, eta: float = 0.0) -> Coefficients:
    r"""y_next = alpha' y_0 + sqrt(sigma'^2 - c^2) eps + c z: Song, Meng & Ermon 2020, eq. 12.

    With y_0 = (y + sigma^2 s) / alpha, eps = -sigma s, alpha and sigma at t, alpha' and sigma' at
    t_next, and c = eta sqrt(v) sigma' / sigma, v as in ``ddpm``. eta = 1 is ``ddpm``
    with "fixed_small"; eta = 0 adds no noise and is Euler's step of the probability flow in the
    level sigma / alpha. At t_next = 0 it gives y_0.
    Raises ValueError unless 0 <= eta <= 1.
    """
    eta = check_positive("eta", eta, allow_zero=True)
    if eta > 1.0:
        raise ValueError(f"eta must be in [0, 1], from no noise to DDPM's, got {eta:g}")
    a, _, small = AffineSDE.ancestral_coefficients(sde, t, t_next)
    std, std_next, c = sde.std(t), sde.std(t_next), eta * small
    # a sigma^2 - sigma sqrt(sigma'^2 - c^2), free of cancellation: (a sigma)^2 - sigma'^2 = a^2 v.
    excess = a.square() * sde.transition_variance(t_next, t) + c.square()
    total = a * std + (std_next.square() - c.square()).clamp(min=0.0).sqrt()
    b = std * torch.where(total > 0.0, excess / torch.where(total > 0.0, total, 1.0), 0.0)
    return a, b, c


PREDICTORS: dict[str, Predictor | None] = {
    "euler_maruyama": Predictor(euler_maruyama, 1),
    "reverse_diffusion": Predictor(reverse_diffusion, 1),
    "ancestral": Predictor(ancestral, 1),
    "probability_flow": Predictor(probability_flow, 1),
    "ddpm": Predictor(ddpm, 1, ("variance",)),
    "ddim": Predictor(ddim, 1, ("eta",)),
    "none": None,
}


def check_options(predictor: str, given: dict[str, Any]) -> dict[str, Any]:
    """The options that are not None; raises ValueError for one that the predictor does not have."""
    options = {name: value for name, value in given.items() if value is not None}
    row = PREDICTORS[predictor]
    for name in options:
        if row is None or name not in row.options:
            owners = [repr(k) for k, p in PREDICTORS.items() if p and name in p.options]
            raise ValueError(
                f"{name}= belongs to the predictor {' or '.join(owners)}, not to {predictor!r}: "
                "leave it away"
            )
    return options
