"""The square-root process of Cox, Ingersoll and Ross: rates and variances, never below zero."""

from __future__ import annotations

import math
from typing import Any, final

import torch
from torch import Tensor

from sdekit.sde.base import SDE, Marginal, Time, check_batched, expand, law_times
from sdekit.sde.bessel import log_bessel
from sdekit.sde.parameters import (
    Parameter,
    at,
    check_event,
    event_sum,
    event_tensors,
    parameter,
    phi1,
    shared_event_shape,
)

__all__ = ["CIR", "cir_moments", "square_root"]


def square_root(x: Tensor) -> Tensor:
    """sqrt(max(x, 0)), with the derivative 0 for x <= 0, where that of torch's is no number."""
    above = x > 0.0
    return torch.where(above, torch.where(above, x, 1.0).sqrt(), 0.0)


def cir_moments(
    kappa: Parameter, theta: Parameter, xi: Parameter, x: Tensor, tau: Tensor
) -> tuple[Tensor, Tensor]:
    r"""Mean and variance of x_t given x_s = x, tau = t - s; right at kappa = 0 too.

    With h = (1 - e^{-kappa tau}) / kappa: mean x e^{-kappa tau} + theta kappa h, variance
    xi^2 h (x e^{-kappa tau} + theta kappa h / 2).
    """
    h = tau * phi1(-kappa * tau)
    kept, pulled = x * torch.exp(-kappa * tau), theta * kappa * h
    return kept + pulled, xi**2 * h * (kept + 0.5 * pulled)


@final
class CIR(SDE):
    r"""dx = kappa (theta - x) dt + xi sqrt(x) dW (Feller 1951; Cox, Ingersoll & Ross 1985).

    Each component its own noise. x stays at zero or above, and above zero where 2 kappa theta >=
    xi^2 (``feller``). A solver's step may leave the domain: the diffusion takes sqrt(max(x, 0)).

    With h = (1 - e^{-kappa tau}) / kappa, c = 2 / (xi^2 h): 2 c x_t has the noncentral chi-square
    law with 4 kappa theta / xi^2 degrees of freedom and noncentrality 2 c x_s e^{-kappa tau}.

    kappa (per unit of time), theta (x's unit), xi (root of x's unit, per root of time): each a
    number, a 0-d tensor, or one entry a component.
    Raises TypeError for what is no number or tensor; ValueError if one is not finite or below 0.
    """

    noise_type = "diagonal"
    elementwise = True
    nonnegative = ...

    def __init__(self, kappa: Any = 1.0, theta: Any = 1.0, xi: Any = 1.0) -> None:
        self.kappa: Parameter = parameter("kappa", kappa, minimum=0.0)
        self.theta: Parameter = parameter("theta", theta, minimum=0.0)
        self.xi: Parameter = parameter("xi", xi, minimum=0.0)
        self.event_shape = shared_event_shape(kappa=self.kappa, theta=self.theta, xi=self.xi)

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """``kappa`` (theta - x)."""
        self.check_event(x)
        return at(self.kappa, x) * (at(self.theta, x) - x)

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        """``xi`` sqrt(max(x, 0))."""
        self.check_event(x)
        return at(self.xi, x) * square_root(x)

    def linear_part(self) -> tuple[Tensor, Tensor]:
        """(-kappa, 0): the noise is not linear in x."""
        kappa, _ = event_tensors(self.kappa, self.theta * self.xi)
        return -kappa, torch.zeros_like(kappa)

    @property
    def feller(self) -> bool:
        """Whether 2 kappa theta >= xi^2 in each component, so that x never reaches zero."""
        kappa, theta, xi = event_tensors(self.kappa, self.theta, self.xi)
        return bool((2.0 * kappa * theta >= xi.square()).all())

    # -- its laws ----------------------------------------------------------------------------------

    def marginal(self, t: Time, x0: Tensor) -> Marginal:
        """Mean and std of x_t given x_0, both of x0's shape; the law is not normal."""
        start, t = law_times(0.0, t, check_batched(x0))
        return self.transition(start, t, x0)

    def transition(self, s: Time, t: Time, x: Tensor) -> Marginal:
        """Mean and std of x_t given x_s = x >= 0, for s <= t, both of x's shape."""
        self.check_event(x)
        s, t = law_times(s, t, x)
        tau = expand(t - s, x)
        mean, var = cir_moments(at(self.kappa, x), at(self.theta, x), at(self.xi, x), x, tau)
        return Marginal(mean, var.clamp(min=0.0).sqrt())

    def transition_log_prob(self, s: Time, t: Time, x: Tensor, x_next: Tensor) -> Tensor:
        r"""Log-density of x_t = x_next given x_s = x >= 0, in nats, summed over the event: (B,).

        c e^{-u-v} (v / u)^{q/2} I_q(2 sqrt(u v)) with u = c x e^{-kappa tau}, v = c x_next, q = 2
        kappa theta / xi^2 - 1; computed in float64. -inf where x_next < 0. Needs s < t and xi > 0.
        Raises ValueError for theta kappa = 0: then part of the law sits at zero, without a density.
        """
        self.check_event(x)
        s, t = law_times(s, t, x)
        tau = expand((t - s).double(), x.double())
        kappa, theta, xi = (at(p, tau) for p in (self.kappa, self.theta, self.xi))
        pull = torch.as_tensor(kappa * theta, dtype=torch.float64)
        if not bool((pull > 0.0).all()):
            raise ValueError("the law of CIR has a density only where kappa and theta are above 0")
        c = 2.0 / (xi**2 * tau * phi1(-kappa * tau))
        inside = x_next >= 0.0
        u = c * x.double() * torch.exp(-kappa * tau)
        v = c * torch.where(inside, x_next, 0.0).double()
        q = 2.0 * pull / xi**2 - 1.0
        apart = square_root(u) - square_root(v)
        z = 2.0 * square_root(u) * square_root(v)
        log_prob = c.log() - apart.square() + torch.xlogy(q, v) + log_bessel(q, z)
        return event_sum(torch.where(inside, log_prob, -torch.inf)).to(x.dtype)

    @property
    def stationary_std(self) -> Parameter:
        """Std of the law that the process settles to, xi sqrt(theta / (2 kappa)); mean theta.

        Raises ValueError unless every kappa is above zero: otherwise there is no such law.
        """
        self._check_settles()
        std: Parameter = self.xi * (self.theta / (2.0 * self.kappa)) ** 0.5
        return std.squeeze(0) if isinstance(std, Tensor) and std.ndim > 0 else std

    def stationary_log_prob(self, x: Tensor) -> Tensor:
        """Log-density of the stationary law, in nats, summed over the event: (B,).

        The gamma law of shape 2 kappa theta / xi^2 and rate 2 kappa / xi^2; -inf where x < 0.
        Needs theta and xi above zero. Raises ValueError unless every kappa is above zero.
        """
        self.check_event(x)
        self._check_settles()
        inside = x >= 0.0
        y = torch.where(inside, x, 1.0)
        kappa, theta, xi = (at(p, x) for p in (self.kappa, self.theta, self.xi))
        rate = torch.as_tensor(2.0 * kappa / xi**2, dtype=x.dtype, device=x.device)
        shape = rate * theta
        log_prob = shape * rate.log() - torch.lgamma(shape) + torch.xlogy(shape - 1.0, y) - rate * y
        return event_sum(torch.where(inside, log_prob, -math.inf))

    def _check_settles(self) -> None:
        lowest = self.kappa.min() if isinstance(self.kappa, Tensor) else self.kappa
        if float(lowest) <= 0.0:
            raise ValueError(f"a stationary law needs kappa above zero, got {self.kappa!r}")

    def check_event(self, x: Tensor) -> None:
        """Raises ValueError if x (B, D...) does not fit the per component parameters."""
        check_event("CIR", self.event_shape, check_batched(x))
