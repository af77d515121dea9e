r"""The numbers of a chain's levels that the variational bound needs, in float64, by level.

Notation of Ho, Jain & Abbeel 2020 (arXiv 2006.11239): a_k = sqrt(abar_k), s_k = sqrt(1 - abar_k),
x_k = a_k x_0 + s_k eps, the posterior q(x_{k-1} | x_k, x_0) = N(c_0 x_0 + c_k x_k, v~_k), and the
network's p(x_{k-1} | x_k) = N(c_0 x0_hat + c_k x_k, v_k). The means differ by c_0 (x_0 - x0_hat):

    KL = 1/2 sum_d [v~_k / v_k - 1 - log(v~_k / v_k)] + c_0^2 / (2 v_k) |x_0 - x0_hat|^2,
    x_0 - x0_hat = (s_k / a_k) (eps_hat - eps).

Nothing of the size of x_k is subtracted.

Near the data eps cannot be known from x_k, and c_0^2 / (2 v_k) (s_k / a_k)^2 |eps|^2 is most of the
noise in a term. So a control of mean zero is taken from it, c (|eps|^2 - D) with

    c = c_0^2 / (2 v_k) (s_k / a_k)^2 (a_k^2 u / (a_k^2 u + s_k^2))^2,    u = data_std^2,

the factor of |eps|^2 for Gaussian data of variance u and the best linear network (for L_0 of a
discretized decoder see ``decoder.noise_share``).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from sdekit_kernels.checks import check_choice, check_positive
from torch import Tensor

from sdekit.sde import DDPM

__all__ = ["VARIANCES", "Coefficients", "coefficients"]

VARIANCES = ("fixedlarge", "fixedsmall", "learned")


@dataclass(frozen=True, slots=True)
class Coefficients:
    """Entry k - 1 is level k's; float64, on the host. For "learned" log_variance, excess and
    weight are those of the smallest variance.

    log_variance: log v_k. log_beta: log beta_k. log_posterior: log v~_k, with v~_2 in place of
    v~_1 = 0. excess: v~/v - 1 - log(v~/v), of one component; 0 at level 1, which has no KL.
    weight: c_0^2 / v_k. scale: s_k / a_k. control: c. residual: (s / a)
    a^2 u / (a^2 u + s^2), how many times eps enters x_0 - x0_hat for such data.
    """

    time: Tensor
    mean: Tensor
    std: Tensor
    scale: Tensor
    shift: Tensor
    log_variance: Tensor
    log_beta: Tensor
    log_posterior: Tensor
    excess: Tensor
    weight: Tensor
    control: Tensor
    residual: Tensor


def coefficients(
    process: DDPM,
    variance: str,
    decoder_variance: float | None = None,
    data_std: float = 0.5,
) -> Coefficients:
    r"""The table for a fixed variance, or for the range of the learned one.

    variance: "fixedsmall", v_k = v~_k; "fixedlarge", v_k = beta_k; "learned", log v_k =
    u log beta_k + (1 - u) log v~_k (Nichol & Dhariwal 2021, arXiv 2102.09672, eq. 15).
    decoder_variance: v_1, that of p(x_0 | x_1); None takes v~_2 for all three, as the code of Ho et
    al. 2020 does: v~_1 is 0, and beta_1 is a worse decoder. Their paper's sigma_1^2 = beta_1 is
    ``decoder_variance=process.betas[0]``.
    Raises ValueError for another variance, TypeError or ValueError for a decoder_variance <= 0, or
    one beside "learned".
    """
    check_choice("variance", variance, VARIANCES)
    k = torch.arange(1, process.steps + 1)
    mean, std = process.coefficients(k)
    shift, _, posterior = process.posterior(k)
    beta = process.betas
    small = torch.cat([posterior[1:2], posterior[1:]])
    chosen = (beta if variance == "fixedlarge" else small).clone()
    chosen[0] = small[0]
    if decoder_variance is not None:
        if variance == "learned":
            raise ValueError('decoder_variance is for a fixed variance: "learned" learns v_1')
        chosen[0] = check_positive("decoder_variance", decoder_variance)
    excess = torch.zeros_like(beta)
    if variance == "fixedlarge":
        # v~ / beta = 1 - gap; the gap itself has no cancellation, 8e-7 at the noisy end.
        before, _ = process.coefficients(k - 1)
        gap = before.square() * beta / std.square()
        excess[1:] = (-gap - torch.log1p(-gap))[1:]
    signal = mean.square() * check_positive("data_std", data_std) ** 2
    # The learned variance itself depends on the noise: the middle of its range does not.
    usual = (beta * small).sqrt() if variance == "learned" else chosen
    residual = std / mean * signal / (signal + std.square())
    return Coefficients(
        time=process.time(k),
        mean=mean,
        std=std,
        scale=std / mean,
        shift=shift,
        log_variance=chosen.log(),
        log_beta=beta.log(),
        log_posterior=small.log(),
        excess=excess,
        weight=shift.square() / chosen,
        control=0.5 * shift.square() / usual * residual.square(),
        residual=residual,
    )
