"""Classic equations of finance with state-dependent noise."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor

from sdekit.sde.base import SDE, Marginal, Time, as_time, check_batched, expand
from sdekit.sde.parameters import (
    Parameter,
    at,
    log_normal_density,
    parameter,
    shared_event_shape,
)


@final
class GBM(SDE):
    r"""Geometric Brownian motion dx = mu x dt + sigma x dW (Ito; each component its own noise).

    Exact: x_t = x_s exp((mu - sigma^2 / 2) (t - s) + sigma (W_t - W_s)), so that x_t / x_s is
    log-normal with mean e^{mu tau} and standard deviation e^{mu tau} sqrt(e^{sigma^2 tau} - 1).

    mu (per unit of time), sigma (per square root of one): each a number, a 0-d tensor, or one entry
    a component. Raises TypeError for what is no number or tensor; ValueError if not finite or sigma
    < 0.
    """

    noise_type = "diagonal"

    def __init__(self, mu: Any = 0.0, sigma: Any = 1.0) -> None:
        self.mu: Parameter = parameter("mu", mu)
        self.sigma: Parameter = parameter("sigma", sigma, minimum=0.0)
        self.event_shape = shared_event_shape(mu=self.mu, sigma=self.sigma)

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """``mu * x``."""
        self._check(x)
        return at(self.mu, x) * x

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        """``sigma * x``."""
        self._check(x)
        return at(self.sigma, x) * x

    def marginal(self, t: Time, x0: Tensor) -> Marginal:
        """Mean and std of x_t given x_0, both of x0's shape; the law is log-normal, not normal."""
        t = as_time(t, check_batched(x0))
        return self.transition(torch.zeros_like(t), t, x0)

    def transition(self, s: Time, t: Time, x: Tensor) -> Marginal:
        """Mean and std of x_t given x_s = x, for s <= t, both of x's shape."""
        self._check(x)
        tau = expand(as_time(t, x) - as_time(s, x), x)
        mean = x * torch.exp(at(self.mu, x) * tau)
        return Marginal(mean, mean.abs() * torch.expm1(at(self.sigma, x) ** 2 * tau).sqrt())

    def exact(self, s: Time, t: Time, x: Tensor, dW: Tensor) -> Tensor:
        """x_t on the path that is at x at time s, given dW = W_t - W_s, of x's shape."""
        self._check(x)
        tau = expand(as_time(t, x) - as_time(s, x), x)
        sigma = at(self.sigma, x)
        return x * torch.exp((at(self.mu, x) - 0.5 * sigma**2) * tau + sigma * dW)

    def transition_log_prob(self, s: Time, t: Time, x: Tensor, x_next: Tensor) -> Tensor:
        """Log-density of x_t = x_next given x_s = x, in nats, summed over the event: (B,).

        -inf where x_next does not have x's sign: the process never changes it.
        """
        self._check(x)
        tau = expand(as_time(t, x) - as_time(s, x), x)
        sigma = at(self.sigma, x) * torch.ones_like(x)
        ratio = x_next / x
        inside = ratio > 0
        log_ratio = torch.where(inside, ratio, torch.ones_like(ratio)).log()
        residual = log_ratio - (at(self.mu, x) - 0.5 * sigma**2) * tau
        log_prob = log_normal_density(residual, sigma * tau.sqrt()) - x_next.abs().log()
        return torch.where(inside, log_prob, -torch.inf).flatten(1).sum(1)

    def _check(self, x: Tensor) -> None:
        own, event = self.event_shape, tuple(x.shape[1:])
        if own is not None and (
            len(own) != len(event) or any(p not in (1, d) for p, d in zip(own, event, strict=True))
        ):
            raise ValueError(
                f"GBM has parameters for events of shape {own}, but x has shape {tuple(x.shape)}, "
                f"that is events of shape {event}: they must agree"
            )
