"""The stochastic volatility model of Heston, with its characteristic function and option prices."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor

from sdekit.sde.base import SDE, Marginal, Time, as_time, check_batched, law_times
from sdekit.sde.cir import cir_moments, square_root
from sdekit.sde.fourier import half_line_fourier
from sdekit.sde.parameters import Parameter, at, parameter, phi1

__all__ = ["Heston"]


@final
class Heston(SDE):
    r"""Log price and variance, x = (log S, v) of shape (B, 2) (Heston 1993):

        d log S = (rate - v / 2) dt + sqrt(v) (rho dW_1 + sqrt(1 - rho^2) dW_2)
        dv = kappa (theta - v) dt + xi sqrt(v) dW_1

    General noise of two Brownian motions. v is a ``CIR`` process: it stays at zero or above, and
    above zero where 2 kappa theta >= xi^2 (``feller``). A solver's step may leave the domain: the
    diffusion takes sqrt(max(v, 0)).

    rate (per unit of time), kappa > 0 (per unit of time), theta >= 0 (variance per unit of time),
    xi >= 0, rho in [-1, 1]: each a number, a 0-d tensor, or one a path, (B,).
    Raises TypeError for what is no number or tensor; ValueError outside these bounds, or for a
    tensor of more than one axis.
    """

    noise_type = "general"
    nonnegative = (1,)

    def __init__(
        self,
        rate: Any = 0.0,
        kappa: Any = 1.0,
        theta: Any = 0.04,
        xi: Any = 0.5,
        rho: Any = 0.0,
    ) -> None:
        self.rate = _one_a_path("rate", rate)
        self.kappa = _one_a_path("kappa", kappa, minimum=0.0, strict=True)
        self.theta = _one_a_path("theta", theta, minimum=0.0)
        self.xi = _one_a_path("xi", xi, minimum=0.0)
        self.rho = _one_a_path("rho", rho, minimum=-1.0)
        if float(torch.as_tensor(self.rho).detach().max()) > 1.0:
            raise ValueError(f"rho must be between -1 and 1, got {rho!r}")

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """(rate - v / 2, kappa (theta - v)), (B, 2)."""
        v = self._check(x)[:, 1]
        rate, kappa, theta = (at(p, x) for p in (self.rate, self.kappa, self.theta))
        return torch.stack([rate - 0.5 * v, kappa * (theta - v)], 1)

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        """sqrt(v) ((rho, sqrt(1 - rho^2)), (xi, 0)), (B, 2, 2)."""
        root = square_root(self._check(x)[:, 1])
        rho, xi = at(self.rho, x), at(self.xi, x)
        price = torch.stack([rho * root, (1.0 - rho**2) ** 0.5 * root], 1)
        variance = torch.stack([xi * root, torch.zeros_like(root)], 1)
        return torch.stack([price, variance], 1)

    @property
    def feller(self) -> bool:
        """Whether 2 kappa theta >= xi^2 (for every path), so that v never reaches zero."""
        kappa, theta, xi = (
            torch.as_tensor(p, dtype=torch.float64) for p in (self.kappa, self.theta, self.xi)
        )
        return bool((2.0 * kappa * theta >= xi.square()).all())

    # -- its laws ----------------------------------------------------------------------------------

    def marginal(self, t: Time, x0: Tensor) -> Marginal:
        """Mean (B, 2), std (B, 2) and covariance (B, 2, 2) of x_t given x_0."""
        start, t = law_times(0.0, t, check_batched(x0))
        return self.transition(start, t, x0)

    def transition(self, s: Time, t: Time, x: Tensor) -> Marginal:
        r"""Mean (B, 2), std (B, 2) and covariance (B, 2, 2) of x_t given x_s = x, for s <= t.

        With b(u) = (1 - e^{-kappa u}) / kappa, both deviations from the mean are integrals of
        sqrt(v), so that Var log S = \int E v_u (1 - rho xi b + xi^2 b^2 / 4) du and
        Cov(log S, v) = \int E v_u xi e^{-kappa (t - u)} (rho - xi b / 2) du with b = b(t - u).
        """
        self._check(x)
        s, t = law_times(s, t, x)
        tau, v = (t - s).double(), x[:, 1].double()
        rate, kappa, theta, xi, rho = self._doubles(tau)
        mean_v, var_v = cir_moments(kappa, theta, xi, v, tau)
        e, b = torch.exp(-kappa * tau), tau * phi1(-kappa * tau)
        away, rest = v - theta, (tau - b) / kappa
        once = theta * tau + away * b  # of E v
        by_b = theta * rest + away * (b - tau * e) / kappa  # of E v b
        by_square = theta * (rest - 0.5 * b * b) / kappa  # of E v b^2
        by_square = by_square + away * (b - 2.0 * tau * e + e * b) / kappa**2
        mean = torch.stack([x[:, 0].double() + rate * tau - 0.5 * once, mean_v], 1)
        var_price = once - rho * xi * by_b + 0.25 * xi * xi * by_square
        cross = rho * xi * (theta * b + away * tau * e)
        cross = cross - 0.5 * xi * xi * (0.5 * theta * b * b + away * e * rest)
        rows = [torch.stack([var_price, cross], 1), torch.stack([cross, var_v], 1)]
        cov = torch.stack(rows, 1).to(x.dtype)
        std = cov.diagonal(dim1=-2, dim2=-1).clamp(min=0.0).sqrt()
        return Marginal(mean.to(x.dtype), std, cov)

    def characteristic_function(self, u: Any, t: Time, x0: Tensor) -> Tensor:
        """E[exp(i u log S_t)] given x_0, (B, *u.shape), complex128.

        u: a number or a tensor, real or complex; complex where E[S_t^{-Im u}] is finite, which it
        is for -1 <= Im u <= 0. t: a number, or one a path. In the form of Albrecher, Mayer,
        Schoutens & Tistaert 2007, whose logarithm stays on its principal branch for all times.
        """
        self._check(x0)
        u = torch.as_tensor(u, dtype=torch.complex128, device=x0.device)
        t = as_time(t, x0).double()
        i_u = 1j * u.reshape(1, -1)
        rate = torch.as_tensor(at(self.rate, x0.double()) * t)
        start = (x0[:, 0].double() + rate).unsqueeze(-1)
        exponent = i_u * start + self._cumulant(i_u, t, x0)
        return exponent.exp().reshape(x0.shape[0], *u.shape)

    def call_price(self, strike: Any, t: Time, x0: Tensor) -> Tensor:
        r"""Price now of the right to buy S for the strike at time t, (B, *strike.shape), float64.

        With k = log(S_0 / strike) + rate t and \phi the characteristic function of log S_t - log
        S_0 - rate t:

            S_0 - sqrt(S_0 strike) e^{-rate t / 2} / pi
                \int_0^\infty Re[e^{i u k} \phi(u - i / 2)] / (u^2 + 1/4) du

        (Lewis 2000), integrated until 1e-13 of sqrt(S_0 strike). A put is worth strike e^{-rate t}
        - S_0 more. Gradients pass to the parameters, x0 and the strike.

        strike: a number or a tensor, above zero. t: a number, or one a path, above zero. The
        initial state x0 in float64, or the prices are as exact as its float32.
        Raises ValueError for a strike or time that is not above zero.
        """
        self._check(x0)
        strike = torch.as_tensor(strike, dtype=torch.float64, device=x0.device)
        t = as_time(t, x0).double()
        for name, value in (("strike", strike), ("t", t)):
            if not bool((value > 0.0).all()):
                raise ValueError(f"{name} must be above zero, got {value!r}")
        price = x0[:, 0].double().unsqueeze(-1)
        growth = torch.as_tensor(at(self.rate, price) * t).reshape(-1, 1)
        k = price - strike.reshape(1, -1).log() + growth

        def envelope(u: Tensor) -> Tensor:
            i_u = (1j * u + 0.5).unsqueeze(0)
            return self._cumulant(i_u, t, x0).exp() / (u.square() + 0.25)

        integral = half_line_fourier(envelope, k)
        scale = torch.exp(price - 0.5 * k)  # sqrt(S_0 strike) e^{-rate t / 2}
        value = price.exp() - scale / torch.pi * integral
        return value.reshape(x0.shape[0], *strike.shape)

    def _cumulant(self, s: Tensor, t: Tensor, x0: Tensor) -> Tensor:
        r"""log E exp(s (log S_t - log S_0 - rate t)), (B, n), for complex s (1, n).

        Written so that nothing cancels and xi may be zero: with q = s - s^2, beta = kappa - rho xi
        s, d = sqrt(beta^2 + xi^2 q), h = (1 - e^{-d t}) / d, r = q / (beta + d) = (d - beta) / xi^2
        and w = -xi^2 h r / 2, it is -v q h / (2 (1 + w)) + kappa theta r (h log(1 + w) / w - t).
        """
        t = t.reshape(-1, 1)
        columns = (p.reshape(-1, 1) for p in self._doubles(t))
        _, kappa, theta, xi, rho = columns
        v = x0[:, 1:].double()
        q, beta = s - s * s, kappa - rho * xi * s
        d = torch.sqrt(beta * beta + xi * xi * q)
        right = beta.real >= 0.0
        r = torch.where(
            right,
            q / torch.where(right, beta + d, 1.0),
            (d - beta) / torch.where(right, 1.0, xi * xi),
        )
        h = -torch.expm1(-d * t) / d
        w = -0.5 * xi * xi * h * r
        small = w.abs() < 1e-9
        safe = torch.where(small, 1.0, w)
        ratio = torch.where(small, 1.0 - 0.5 * w, torch.log1p(safe) / safe)
        return -0.5 * v * q * h / (1.0 + w) + kappa * theta * r * (h * ratio - t)

    def _doubles(self, like: Tensor) -> tuple[Tensor, ...]:
        """All parameters in float64, 0-d or (B,)."""
        given = (self.rate, self.kappa, self.theta, self.xi, self.rho)
        return tuple(torch.as_tensor(p, dtype=torch.float64, device=like.device) for p in given)

    def check_event(self, x: Tensor) -> None:
        """Raises ValueError unless x has the shape (B, 2)."""
        self._check(x)

    @staticmethod
    def _check(x: Tensor) -> Tensor:
        if check_batched(x).ndim != 2 or x.shape[1] != 2:
            raise ValueError(
                "Heston has the components log price and variance: x must have shape (B, 2), got "
                f"{tuple(x.shape)}"
            )
        return x


def _one_a_path(name: str, given: Any, **bounds: Any) -> Parameter:
    """A parameter as a float, a 0-d tensor, or one entry a path, (B,)."""
    value = parameter(name, given, **bounds)
    if not isinstance(value, Tensor) or value.ndim == 0:
        return value
    if value.ndim > 2:
        raise ValueError(
            f"{name} must be a number or one entry a path, (B,), got {tuple(value.shape[1:])}"
        )
    return value[0]
