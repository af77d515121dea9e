"""Equations with constant coefficients: Ornstein-Uhlenbeck and Brownian motion."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor

from sdekit.sde.affine import AffineSDE
from sdekit.sde.base import Time, as_time
from sdekit.sde.parameters import (
    Parameter,
    at,
    event_tensors,
    parameter,
    phi1,
    positive_number,
    shared_event_shape,
)


@final
class OU(AffineSDE):
    r"""Ornstein-Uhlenbeck process dx = -theta (x - mu) dt + sigma dW (Uhlenbeck & Ornstein 1930).

    With tau = t - s:  mean  mu + e^{-theta tau} (x_s - mu),
    variance  sigma^2 (1 - e^{-2 theta tau}) / (2 theta) = sigma^2 tau \phi_1(-2 theta tau),
    where \phi_1(u) = (e^u - 1) / u, so that theta = 0 (Brownian motion) and any tiny or negative
    theta (an unstable process) are exact too.

    theta, mu, sigma: each a number, a 0-d tensor, or one entry a component (the event's shape);
    theta per unit of time, sigma per square root of a unit of time. T: time of noise, for samplers.
    Raises TypeError for what is no number or tensor; ValueError if one is not finite, sigma < 0, or
    the event shapes differ (here), or differ from x's (when called).
    """

    def __init__(self, theta: Any = 1.0, mu: Any = 0.0, sigma: Any = 1.0, *, T: Any = 1.0) -> None:
        self.theta: Parameter = parameter("theta", theta)
        self.mu: Parameter = parameter("mu", mu)
        self.sigma: Parameter = parameter("sigma", sigma, minimum=0.0)
        self.event_shape = shared_event_shape(theta=self.theta, mu=self.mu, sigma=self.sigma)
        self.offset = self.mu
        self.T = positive_number("T", T)
        self.t_min, self.t_min_likelihood = 1e-3 * self.T, 1e-5 * self.T

    def drift_rate(self, t: Time) -> Tensor:
        """-theta."""
        (t,) = self._aligned(as_time(t))
        return torch.zeros_like(t) - at(self.theta, t)

    def diffusion_rate(self, t: Time) -> Tensor:
        """``sigma``."""
        (t,) = self._aligned(as_time(t))
        return torch.zeros_like(t) + at(self.sigma, t)

    def log_mean_ratio(self, s: Time, t: Time) -> Tensor:
        """-theta (t - s)."""
        tau = self._elapsed(s, t)
        return -at(self.theta, tau) * tau

    def transition_variance(self, s: Time, t: Time) -> Tensor:
        r"""sigma^2 tau \phi_1(-2 theta tau)."""
        tau = self._elapsed(s, t)
        return at(self.sigma, tau) ** 2 * tau * phi1(-2.0 * at(self.theta, tau) * tau)

    def linear_part(self) -> tuple[Tensor, Tensor]:
        """(-theta, 0)."""
        theta, _ = event_tensors(self.theta, self.mu * self.sigma)
        return -theta, torch.zeros_like(theta)

    @property
    def stationary_std(self) -> Parameter:
        """``sigma`` / sqrt(2 theta), the std of the law that the process settles to (mean mu).

        Raises ValueError unless every theta is above zero: otherwise there is no such law.
        """
        lowest = self.theta.min() if isinstance(self.theta, Tensor) else self.theta
        if float(lowest) <= 0.0:
            raise ValueError(f"a stationary law needs theta above zero, got {self.theta!r}")
        std: Parameter = self.sigma / (2.0 * self.theta) ** 0.5
        return std.squeeze(0) if isinstance(std, Tensor) and std.ndim > 0 else std


@final
class Brownian(AffineSDE):
    """Brownian motion dx = sigma dW: mean x_s, variance sigma^2 (t - s).

    sigma: a number, a 0-d tensor or one entry a component, per square root of a unit of time.
    Raises as ``OU`` does.
    """

    def __init__(self, sigma: Any = 1.0, *, T: Any = 1.0) -> None:
        self.sigma: Parameter = parameter("sigma", sigma, minimum=0.0)
        self.event_shape = shared_event_shape(sigma=self.sigma)
        self.T = positive_number("T", T)
        self.t_min, self.t_min_likelihood = 1e-3 * self.T, 1e-5 * self.T

    def drift_rate(self, t: Time) -> Tensor:
        """0."""
        (t,) = self._aligned(as_time(t))
        return torch.zeros_like(t)

    def diffusion_rate(self, t: Time) -> Tensor:
        """``sigma``."""
        (t,) = self._aligned(as_time(t))
        return torch.zeros_like(t) + at(self.sigma, t)

    def log_mean_ratio(self, s: Time, t: Time) -> Tensor:
        """0."""
        return torch.zeros_like(self._elapsed(s, t))

    def transition_variance(self, s: Time, t: Time) -> Tensor:
        """sigma^2 (t - s)."""
        tau = self._elapsed(s, t)
        return at(self.sigma, tau) ** 2 * tau
