r"""Predictors: one step of the reversed equation, y_next = A y + B score + C z.

Song et al. 2021, "Score-based generative modeling through stochastic differential equations",
arXiv 2011.13456. Notation: y = x - offset, dt = t - t_next > 0, a(t) and g(t) the coefficients of
dy = a y dt + g dW, s the score at time t, z a standard normal; x_mean = A y + B s is the update
without its noise. Each function returns (A, B, C), in the shapes that ``AffineSDE`` describes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from sdekit.sde.affine import AffineSDE, Coefficients


class Predictor(NamedTuple):
    """(A, B, C) of a step, and the order at which mean and variance converge as dt goes to 0."""

    coefficients: Callable[[AffineSDE, Tensor, Tensor], Coefficients]
    weak_order: int


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


PREDICTORS: dict[str, Predictor | None] = {
    "euler_maruyama": Predictor(euler_maruyama, 1),
    "reverse_diffusion": Predictor(reverse_diffusion, 1),
    "ancestral": Predictor(ancestral, 1),
    "probability_flow": Predictor(probability_flow, 1),
    "none": None,
}
