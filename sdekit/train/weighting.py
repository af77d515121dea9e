r"""Weightings lambda(t) of score matching: which noise levels a network learns best.

lambda multiplies the squared error of the score, whatever the network predicts. With s = -eps /
sigma, lambda |s - s_cond|^2 = (lambda / sigma^2) |eps - z|^2, and with the level l = log(sigma /
alpha) and SNR = e^{-2 l}

    lambda          weight of |eps - z|^2    of |x_0-hat - x_0|^2    of |v-hat - v|^2
    sigma^2         1                        SNR                     SNR / (SNR + 1)
    g^2             2 dl/dt                  2 SNR dl/dt             2 SNR / (SNR + 1) dl/dt
    min_snr         min(1, gamma / SNR)      min(SNR, gamma)         min(SNR, gamma) / (SNR + 1).

The rate is dl/dt = g^2 / (2 sigma^2) for every affine SDE: "likelihood" weighs the squared error of
eps evenly in l. "uniform" is the one name whose lambda is another for each target: the plain
squared error of what the network predicts (``sdekit.train.losses.targets``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from sdekit_kernels.checks import check_choice, check_positive
from torch import Tensor

from sdekit.sde import AffineSDE

Weighting = Callable[[AffineSDE, Tensor], Tensor]
"""(sde, t) -> lambda(t), for times t (B,); 0 or more."""


def level(sde: AffineSDE, t: Tensor) -> Tensor:
    """log(sigma(t) / alpha(t)): half the negative log-SNR."""
    return sde.std(t).log() - sde.log_mean_ratio(t.new_zeros(t.shape), t)


def level_rate(sde: AffineSDE, t: Tensor) -> Tensor:
    """Derivative of ``level``, g(t)^2 / (2 sigma(t)^2)."""
    return 0.5 * (sde.diffusion_rate(t) / sde.std(t)).square()


def simple(sde: AffineSDE, t: Tensor) -> Tensor:
    """sigma(t)^2: the plain squared error of eps (Ho et al. 2020)."""
    return sde.std(t).square()


def likelihood(sde: AffineSDE, t: Tensor) -> Tensor:
    """g(t)^2: the loss bounds the negative log-likelihood (Song et al. 2021, arXiv 2101.09258)."""
    return sde.diffusion_rate(t).square()


def uniform(sde: AffineSDE, t: Tensor) -> Tensor:
    """1: the plain squared error of the score; with another target, that of the target."""
    return torch.ones_like(sde.std(t))


@dataclass(frozen=True, slots=True)
class MinSNR:
    """sigma^2 min(1, gamma / SNR), SNR = alpha^2 / sigma^2 (Hang et al. 2023, arXiv 2303.09556).

    The same loss for every target: min(SNR, gamma) |x_0-hat - x_0|^2, or that with the other
    weights of the module's table. Raises TypeError or ValueError unless gamma is above zero.
    """

    gamma: float = 5.0

    def __post_init__(self) -> None:
        check_positive("gamma", self.gamma)

    def __call__(self, sde: AffineSDE, t: Tensor) -> Tensor:
        """lambda(t)."""
        inverse = (2.0 * level(sde, t)).exp()
        return sde.std(t).square() * (self.gamma * inverse).clamp(max=1.0)


@dataclass(frozen=True, slots=True)
class LogNormal:
    r"""Karras et al. 2022 (EDM), table 1: even squared error of a preconditioned network.

    lambda = sigma^2 dl/dt N(l; mean, std^2) (1 + e^{2 l} / data_std^2): the level has a normal
    law, and at each level the error of eps is scaled to that of the network's unit-sized output
    (``sdekit.score.MLP``). The paper has mean -1.2, std 1.2 and data_std 0.5.
    Raises TypeError or ValueError unless std and data_std are above zero.
    """

    mean: float = -1.2
    std: float = 1.2
    data_std: float = 0.5

    def __post_init__(self) -> None:
        check_positive("std", self.std)
        check_positive("data_std", self.data_std)

    def __call__(self, sde: AffineSDE, t: Tensor) -> Tensor:
        """lambda(t)."""
        place = level(sde, t)
        density = (-0.5 * ((place - self.mean) / self.std).square()).exp()
        density = density / (self.std * math.sqrt(2.0 * math.pi))
        scale = 1.0 + (2.0 * place).exp() / self.data_std**2
        return sde.std(t).square() * level_rate(sde, t) * density * scale


WEIGHTINGS: Final[dict[str, Weighting]] = {
    "simple": simple,
    "likelihood": likelihood,
    "uniform": uniform,
    "min_snr": MinSNR(),
    "lognormal": LogNormal(),
}


def get_weighting(weighting: str | Weighting) -> Weighting:
    """The weighting of this name, or the function itself; raises ValueError or TypeError."""
    if isinstance(weighting, str):
        return WEIGHTINGS[check_choice("weighting", weighting, WEIGHTINGS)]
    if not callable(weighting):
        raise TypeError(f"weighting must be a name or a function (sde, t), got {weighting!r}")
    return weighting
