"""How fast noise is added: beta(t) of variance-preserving, sigma(t) of variance-exploding SDEs."""

from __future__ import annotations

import math
from typing import Any, Protocol, final

import torch
from torch import Tensor

from sdekit.sde.parameters import positive_number


class BetaSchedule(Protocol):
    """beta(t) on [0, 1] and its integral; all take and return tensors in the dtype of t."""

    def beta(self, t: Tensor) -> Tensor:
        """Rate of noise at t."""

    def integral(self, s: Tensor, t: Tensor) -> Tensor:
        r"""\int_s^t beta(u) du, with relative accuracy as t - s goes to 0."""

    @property
    def breaks(self) -> tuple[float, ...]:
        """Times at which beta is not smooth."""

    def step(self, t: Tensor, t_next: Tensor) -> Tensor:
        """beta_i in (0, 1) of the discrete chain's step between t_next and t > t_next."""

    def check_grid(self, times: Tensor) -> None:
        """Raises ValueError if ``step`` is not below one everywhere on the grid."""


@final
class LinearBeta:
    """beta(t) = beta_min + t (beta_max - beta_min) (Ho et al. 2020; Song et al. 2021).

    Raises TypeError or ValueError unless 0 < beta_min <= beta_max, both finite.
    """

    def __init__(self, beta_min: Any = 0.1, beta_max: Any = 20.0) -> None:
        self.beta_min = positive_number("beta_min", beta_min)
        self.beta_max = positive_number("beta_max", beta_max)
        if self.beta_min > self.beta_max:
            raise ValueError(f"beta_min must not be above beta_max, got {beta_min} > {beta_max}")

    @property
    def breaks(self) -> tuple[float, ...]:
        """None."""
        return ()

    def beta(self, t: Tensor) -> Tensor:
        """beta_min + t (beta_max - beta_min)."""
        return self.beta_min + t * (self.beta_max - self.beta_min)

    def integral(self, s: Tensor, t: Tensor) -> Tensor:
        """(t - s) times beta at the middle of s and t."""
        return (t - s) * self.beta(0.5 * (s + t))

    def step(self, t: Tensor, t_next: Tensor) -> Tensor:
        """beta_i = beta(t) dt (Song et al. 2021, appendix B), which needs beta(t) dt < 1."""
        return self.beta(t) * (t - t_next)

    def check_grid(self, times: Tensor) -> None:
        """Raises ValueError, with the number of steps that would do, if some beta(t) dt >= 1."""
        largest = float(self.step(times[:-1], times[1:]).max()) if times.numel() > 1 else 0.0
        if not largest < 1.0:
            span = float(times[0] - times[-1])
            need = math.floor(float(self.beta(times[0])) * span) + 1
            raise ValueError(
                "the discrete VP chain needs beta(t) dt < 1 at every step, but the "
                f"{times.numel() - 1} steps from t = {float(times[0]):g} to "
                f"{float(times[-1]):g} have one of {largest:.3g}: "
                f"write steps={need} or more (equal steps), or take a predictor without "
                "this limit, such as 'euler_maruyama'; the correctors have it too"
            )


@final
class CosineBeta:
    r"""The cosine schedule (Nichol & Dhariwal 2021), in continuous time.

    \bar\alpha(t) = cos^2(u(t)) / cos^2(u(0)), u(t) = pi/2 (t + s) / (1 + s), so that
    beta(t) = -d/dt log \bar\alpha = pi / (1 + s) tan(u(t)), which grows without bound as t goes to
    1. Therefore beta(t) = min(pi / (1 + s) tan(u(t)), beta_clip): constant from the time t_clip at
    which it reaches beta_clip. The integral is that of the clipped rate, so that the SDE and its
    marginals agree exactly. beta_clip = 999 is the paper's limit beta_i <= 0.999 for a thousand
    steps; it sets in at t = 0.998 and leaves alpha(1) = 1.1e-3 of the signal.

    Raises TypeError or ValueError unless s > 0 and beta_clip > beta(0).
    """

    def __init__(self, s: Any = 0.008, beta_clip: Any = 999.0) -> None:
        self.s = positive_number("s", s)
        self.beta_clip = positive_number("beta_clip", beta_clip)
        self._rate = math.pi / (1.0 + self.s)
        self._start = 0.5 * self._rate * self.s
        if self.beta_clip <= self._rate * math.tan(self._start):
            raise ValueError(f"beta_clip must be above beta(0), got {beta_clip}")
        self.t_clip = math.atan(self.beta_clip / self._rate) / (0.5 * self._rate) - self.s

    @property
    def breaks(self) -> tuple[float, ...]:
        """t_clip, where beta stops growing."""
        return (self.t_clip,)

    def beta(self, t: Tensor) -> Tensor:
        """min(pi / (1 + s) tan(u(t)), beta_clip)."""
        # Times beyond t_clip are held there before tan, which turns negative past u = pi/2.
        angle = self._start + 0.5 * self._rate * t.clamp(max=self.t_clip)
        return (self._rate * torch.tan(angle)).clamp(max=self.beta_clip)

    def integral(self, s: Tensor, t: Tensor) -> Tensor:
        r"""``log`` \bar\alpha(s) - log \bar\alpha(t), plus beta_clip times what lies beyond t_clip.

        With d = u(t) - u(s): cos u(t) / cos u(s) = 1 - (2 sin^2(d/2) + tan u(s) sin d), so that
        log1p keeps the relative accuracy that a difference of logarithms would lose near t = s.
        """
        low, high = s.clamp(max=self.t_clip), t.clamp(max=self.t_clip)
        angle, d = self._start + 0.5 * self._rate * low, 0.5 * self._rate * (high - low)
        lost = 2.0 * torch.sin(0.5 * d).square() + torch.tan(angle) * torch.sin(d)
        beyond = t.clamp(min=self.t_clip) - s.clamp(min=self.t_clip)
        return -2.0 * torch.log1p(-lost) + self.beta_clip * beyond

    def step(self, t: Tensor, t_next: Tensor) -> Tensor:
        r"""beta_i = min(1 - \bar\alpha(t) / \bar\alpha(t_next), 0.999), as the paper defines it."""
        return (-torch.expm1(-self.integral(t_next, t))).clamp(max=0.999)

    def check_grid(self, times: Tensor) -> None:
        """Accepts every grid: beta_i is below one by its definition."""


class SigmaSchedule(Protocol):
    """sigma(t) of a variance-exploding SDE on [0, T]; tensors in the dtype of t."""

    sigma_max: float
    T: float
    t_min: float

    def sigma(self, t: Tensor) -> Tensor:
        """Level of noise at t."""

    def diffusion(self, t: Tensor) -> Tensor:
        """g(t) = sqrt(d sigma^2 / dt)."""

    def added_variance(self, s: Tensor, t: Tensor) -> Tensor:
        """sigma(t)^2 - sigma(s)^2, with relative accuracy as t - s goes to 0."""


@final
class GeometricSigma:
    """sigma(t) = sigma_min (sigma_max / sigma_min)^t on [0, 1] (Song et al. 2021).

    Raises TypeError or ValueError unless 0 < sigma_min < sigma_max, both finite.
    """

    T = 1.0
    t_min = 1e-5

    def __init__(self, sigma_min: Any = 0.01, sigma_max: Any = 50.0) -> None:
        self.sigma_min = positive_number("sigma_min", sigma_min)
        self.sigma_max = positive_number("sigma_max", sigma_max)
        if self.sigma_min >= self.sigma_max:
            raise ValueError(f"sigma_min must be below sigma_max, got {sigma_min} >= {sigma_max}")
        self._rate = math.log(self.sigma_max / self.sigma_min)

    def sigma(self, t: Tensor) -> Tensor:
        """sigma_min (sigma_max / sigma_min)^t."""
        return self.sigma_min * torch.exp(self._rate * t)

    def diffusion(self, t: Tensor) -> Tensor:
        """sigma(t) sqrt(2 log(sigma_max / sigma_min))."""
        return math.sqrt(2.0 * self._rate) * self.sigma(t)

    def added_variance(self, s: Tensor, t: Tensor) -> Tensor:
        """sigma(s)^2 (exp(2 (t - s) log(sigma_max / sigma_min)) - 1)."""
        return self.sigma(s).square() * torch.expm1(2.0 * self._rate * (t - s))


@final
class IdentitySigma:
    """sigma(t) = t on [0, sigma_max] (Karras et al. 2022, "EDM"); samplers stop at sigma_min.

    Raises TypeError or ValueError unless 0 < sigma_min < sigma_max, both finite.
    """

    def __init__(self, sigma_min: Any = 0.002, sigma_max: Any = 80.0) -> None:
        self.sigma_min = self.t_min = positive_number("sigma_min", sigma_min)
        self.sigma_max = self.T = positive_number("sigma_max", sigma_max)
        if self.sigma_min >= self.sigma_max:
            raise ValueError(f"sigma_min must be below sigma_max, got {sigma_min} >= {sigma_max}")

    def sigma(self, t: Tensor) -> Tensor:
        """``t``."""
        return t

    def diffusion(self, t: Tensor) -> Tensor:
        """sqrt(2 t)."""
        return (2.0 * t).sqrt()

    def added_variance(self, s: Tensor, t: Tensor) -> Tensor:
        """(t - s) (t + s)."""
        return (t - s) * (t + s)
