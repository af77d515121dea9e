"""The Ornstein-Uhlenbeck process with a matrix of drifts: components pull on each other."""

from __future__ import annotations

import math
from typing import Any, final

import torch
from torch import Tensor

from sdekit.sde.base import SDE, Marginal, Time, check_batched, expand, law_times, time_pair
from sdekit.sde.parameters import parameter


@final
class MatrixOU(SDE):
    r"""dx = -A (x - mu) dt + S dW for x of shape (B, D).

    With tau = t - s and \Phi = e^{-A tau}: mean mu + \Phi (x_s - mu), covariance
    P(tau) = \int_0^tau e^{-A u} S S^T e^{-A^T u} du.
    Both blocks come from one matrix exponential (Van Loan 1978), of a time tau / 2^k short enough
    that nothing overflows, followed by k doublings P(2h) = P(h) + \Phi(h) P(h) \Phi(h)^T. All in
    float64.

    A: (D, D), per unit of time, with any eigenvalues. mu: a number or (D,). sigma: a number or
    (D,), which gives "additive" noise; or a matrix (D, M), which gives "general" noise from M
    Brownian motions. It is no ``AffineSDE``: its mean and std are not elementwise in x, so the
    steps of samplers, which are, do not apply to it; ``solve`` does.
    Raises TypeError or ValueError for shapes that do not fit, or what is not finite.
    """

    def __init__(self, A: Any, mu: Any = 0.0, sigma: Any = 1.0) -> None:
        drift = torch.as_tensor(parameter("A", A))
        if drift.ndim != 3 or drift.shape[1] != drift.shape[2]:
            shape = tuple(drift.shape[1:])
            raise ValueError(f"A must be a square matrix (D, D), got shape {shape}")
        self.A = drift[0]
        d = self.A.shape[0]
        self.mu = self._vector("mu", parameter("mu", mu), d)
        scale = parameter("sigma", sigma)
        matrix = isinstance(scale, Tensor) and scale.ndim == 3
        self.sigma = torch.as_tensor(scale)[0] if matrix else self._vector("sigma", scale, d)
        if self.sigma.shape[0] != d:
            raise ValueError(f"sigma must be (D, M) with D = {d}, got {tuple(self.sigma.shape)}")
        if not matrix:
            parameter("sigma", sigma, minimum=0.0)
        self.noise_type = "general" if matrix else "additive"
        self.event_shape = (d,)

    @staticmethod
    def _vector(name: str, given: Any, d: int) -> Tensor:
        """A parameter as (D,)."""
        value = torch.as_tensor(given, dtype=None if isinstance(given, Tensor) else torch.float64)
        value = value.squeeze(0) if value.ndim > 1 else value
        if value.ndim > 1 or (value.ndim == 1 and value.shape[0] not in (1, d)):
            raise ValueError(
                f"{name} must be a number or have shape ({d},), got shape {tuple(value.shape)}"
            )
        return value.expand(d)

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """-A (x - mu), (B, D)."""
        self._check(x)
        return -(x - self.mu.to(x)) @ self.A.to(x).mT

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        """sigma: (1, D) for additive noise, (B, D, M) for general noise."""
        self._check(x)
        sigma = self.sigma.to(x)
        if self.noise_type == "additive":
            return sigma.unsqueeze(0)
        return sigma.expand(x.shape[0], *sigma.shape)

    def linear_part(self) -> tuple[Tensor, Tensor]:
        """The eigenvalues of -A, (D,) complex, and zeros: the noise does not depend on x."""
        eigenvalues = torch.linalg.eigvals(-self.A.double())
        return eigenvalues, torch.zeros_like(eigenvalues.real)

    def marginal(self, t: Time, x0: Tensor) -> Marginal:
        """Mean (B, D), std (B, D) and covariance (B, D, D) of x_t given x_0."""
        start, t = law_times(0.0, t, check_batched(x0))
        return self.transition(start, t, x0)

    def transition(self, s: Time, t: Time, x: Tensor) -> Marginal:
        """Mean (B, D), std (B, D) and covariance (B, D, D) of x_t given x_s = x, for s <= t."""
        self._check(x)
        s, t = law_times(s, t, x)
        tau = t - s
        expand(tau, x)  # one entry a sample, or one for all
        phi, cov = self._propagate(tau.to(device=x.device, dtype=torch.float64))
        phi, mu = phi.to(x.dtype), self.mu.to(x)
        mean = mu + (phi @ (x - mu).unsqueeze(-1)).squeeze(-1)
        cov = cov.to(x.dtype).expand(x.shape[0], -1, -1)
        return Marginal(mean, cov.diagonal(dim1=-2, dim2=-1).clamp(min=0.0).sqrt(), cov)

    def exact(self, s: Time, t: Time, x: Tensor, dW: Tensor) -> Tensor:
        r"""x_t with its law given x_s = x, for s < t: mean + L dW / sqrt(t - s), (B, D).

        dW = W_t - W_s, (B, D) for additive noise, (B, M) for general noise with M >= D. Of the
        matrices with L L^T = P, the one nearest to the noise S over a short step: P^{1/2} times
        the orthogonal factor of P^{1/2} S (Higham 2008, section 8.1).
        Raises ValueError for M < D: M normals cannot make a law of D components.
        """
        self._check(x)
        s, t = law_times(s, t, x)
        if dW.shape[-1] < x.shape[-1]:
            raise ValueError(
                f"exact needs a normal for each of {x.shape[-1]} components, but this MatrixOU has "
                f"{dW.shape[-1]} Brownian motions: write sigma with columns of zeros, (D, D)"
            )
        phi, cov = self._propagate((t - s).to(device=x.device, dtype=torch.float64))
        values, vectors = torch.linalg.eigh(cov)
        root = vectors * values.clamp(min=0.0).sqrt().unsqueeze(-2) @ vectors.mT
        sigma = self.sigma.to(root)
        u, _, v = torch.linalg.svd(root @ (sigma.diag() if sigma.ndim == 1 else sigma), False)
        noise, z = (root @ u @ v).to(x), dW / expand((t - s).sqrt(), dW)
        mu = self.mu.to(x)
        return mu + (phi.to(x) @ (x - mu).unsqueeze(-1) + noise @ z.unsqueeze(-1)).squeeze(-1)

    def covariance(self, s: Time, t: Time) -> Tensor:
        r"""Cov(x_s, x_t | x_0) = E[(x_s - E x_s)(x_t - E x_t)^T], (D, D), for 0-d times.

        P(s) e^{-A^T (t - s)} for s <= t, and the transpose of that with s and t swapped otherwise.
        """
        s, t = (v.double() for v in time_pair(s, t, self.A.double()))
        if s.ndim or t.ndim:
            raise ValueError("covariance takes one time and another: numbers or 0-d tensors")
        first, last = torch.minimum(s, t), torch.maximum(s, t)
        cov = self._propagate(first)[1] @ self._propagate(last - first)[0].mT
        return cov if bool(s <= t) else cov.mT

    @property
    def stationary_cov(self) -> Tensor:
        """P with A P + P A^T = S S^T, (D, D) in float64: the covariance the process settles to.

        By doubling the time of P until e^{-A tau} has vanished.
        Raises ValueError unless all eigenvalues of A have a positive real part.
        """
        slowest = float(torch.linalg.eigvals(self.A.detach().double()).real.min())
        if slowest <= 0.0:
            raise ValueError(
                "a stationary law needs every eigenvalue of A to have a positive real part, the "
                f"smallest here is {slowest:.3g}"
            )
        # e^{-2 x 40} = 2e-35 is far under float64's rounding, with room for non-normal transients.
        tau = torch.tensor(40.0 / slowest, dtype=torch.float64, device=self.A.device)
        return self._propagate(tau)[1]

    def _propagate(self, tau: Tensor) -> tuple[Tensor, Tensor]:
        """e^{-A tau} and P(tau) in float64, for tau 0-d or (B,)."""
        a, sigma = self.A.to(tau), self.sigma.to(tau)
        root = sigma.diag() if sigma.ndim == 1 else sigma
        d = a.shape[0]
        # An empty batch has no largest time.
        longest = tau.detach().abs().max() if tau.numel() else tau.new_zeros(())
        size = float(torch.linalg.matrix_norm(a.detach(), 1) * longest)
        doublings = max(0, math.ceil(math.log2(size))) if size > 1.0 else 0
        block = torch.cat(
            [
                torch.cat([a, root @ root.mT], 1),
                torch.cat([torch.zeros_like(a), -a.mT], 1),
            ]
        )
        h = (tau / 2.0**doublings).view(*tau.shape, 1, 1)
        exponential = torch.linalg.matrix_exp(block * h)
        phi = exponential[..., d:, d:].mT
        cov = phi @ exponential[..., :d, d:]
        for _ in range(doublings):
            cov = cov + phi @ cov @ phi.mT
            phi = phi @ phi
        return phi, 0.5 * (cov + cov.mT)

    def _check(self, x: Tensor) -> None:
        if check_batched(x).ndim != 2 or x.shape[1:] != self.event_shape:
            raise ValueError(
                f"MatrixOU has {self.event_shape[0]} components: x must have shape "
                f"(B, {self.event_shape[0]}), got {tuple(x.shape)}"
            )
