"""Classic equations of finance with state-dependent noise."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor

from sdekit.sde.base import SDE, Marginal, Time, check_batched, expand, law_times
from sdekit.sde.parameters import (
    Parameter,
    at,
    check_event,
    event_sum,
    event_tensors,
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
    elementwise = True

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

    def linear_part(self) -> tuple[Tensor, Tensor]:
        """(mu, sigma): the equation is linear."""
        mu, sigma = event_tensors(self.mu, self.sigma)
        return mu, sigma

    def marginal(self, t: Time, x0: Tensor) -> Marginal:
        """Mean and std of x_t given x_0, both of x0's shape; the law is log-normal, not normal."""
        start, t = law_times(0.0, t, check_batched(x0))
        return self.transition(start, t, x0)

    def transition(self, s: Time, t: Time, x: Tensor) -> Marginal:
        """Mean and std of x_t given x_s = x, for s <= t, both of x's shape."""
        self._check(x)
        tau = self._elapsed(s, t, x)
        mean = x * torch.exp(at(self.mu, x) * tau)
        return Marginal(mean, mean.abs() * torch.expm1(at(self.sigma, x) ** 2 * tau).sqrt())

    def exact(self, s: Time, t: Time, x: Tensor, dW: Tensor) -> Tensor:
        """x_t on the path that is at x at time s, given dW = W_t - W_s, of x's shape."""
        self._check(x)
        tau = self._elapsed(s, t, x)
        sigma = at(self.sigma, x)
        return x * torch.exp((at(self.mu, x) - 0.5 * sigma**2) * tau + sigma * dW)

    def transition_log_prob(self, s: Time, t: Time, x: Tensor, x_next: Tensor) -> Tensor:
        """Log-density of x_t = x_next given x_s = x, in nats, summed over the event: (B,).

        -inf where x_next does not have x's sign: the process never changes it.
        """
        self._check(x)
        tau = self._elapsed(s, t, x)
        sigma = at(self.sigma, x) * torch.ones_like(x)
        ratio = x_next / x
        inside = ratio > 0
        log_ratio = torch.where(inside, ratio, torch.ones_like(ratio)).log()
        residual = log_ratio - (at(self.mu, x) - 0.5 * sigma**2) * tau
        log_prob = log_normal_density(residual, sigma * tau.sqrt()) - x_next.abs().log()
        return event_sum(torch.where(inside, log_prob, -torch.inf))

    def _elapsed(self, s: Time, t: Time, x: Tensor) -> Tensor:
        """``t`` - s, to multiply x."""
        s, t = law_times(s, t, x)
        return expand(t - s, x)

    def _check(self, x: Tensor) -> None:
        check_event("GBM", self.event_shape, check_batched(x))
