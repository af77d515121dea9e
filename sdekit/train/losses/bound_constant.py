"""What the "likelihood" loss lacks to a bound of the negative log-likelihood."""

from __future__ import annotations

import torch
from torch import Tensor

from sdekit.sde import AffineSDE

__all__ = ["bound_constant"]


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
