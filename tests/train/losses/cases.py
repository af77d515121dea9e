"""Correlated Gaussian data, linear models, and what every loss has on average for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import sdekit_kernels
import torch
from torch import Tensor

from sdekit.sde import AffineSDE

DOUBLE = torch.float64
Loss = Callable[[Callable[[Tensor, Tensor], Tensor]], Tensor]


@dataclass(frozen=True)
class Data:
    """N(mean, cov) in d dimensions; all eigenvalues of cov lie in [0.2, 1.5]."""

    mean: Tensor
    cov: Tensor

    @property
    def d(self) -> int:
        return len(self.mean)

    def sample(self, n: int, seed: int = 1) -> Tensor:
        z = sdekit_kernels.normal((n, self.d), seed=seed, stream=5, dtype=DOUBLE)
        return self.mean + z @ torch.linalg.cholesky(self.cov).mT

    def at(self, sde: AffineSDE, t: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (..., d) and covariance (..., d, d) of x_t, for an SDE without offset."""
        alpha, std = sde.mean_coefficient(t), sde.std(t)
        alpha, std = alpha[..., None], std[..., None]
        eye = torch.eye(self.d, dtype=DOUBLE)
        cov = alpha[..., None].square() * self.cov + std[..., None].square() * eye
        return alpha * self.mean, cov


def make_data(d: int) -> Data:
    mean = torch.tensor([0.7, -0.4, 0.2, 1.1], dtype=DOUBLE)[:d]
    z = sdekit_kernels.normal((d, d), seed=3, stream=5, dtype=DOUBLE)
    q = torch.linalg.qr(z)[0]
    return Data(mean, q @ torch.diag(torch.linspace(0.2, 1.5, d, dtype=DOUBLE)) @ q.mT)


class At:
    """One time for all samples."""

    def __init__(self, t: float) -> None:
        self.t = t

    def __call__(self, n: int, *, seed: int, step: int = 0) -> tuple[Tensor, Tensor]:
        return torch.full((n,), self.t, dtype=DOUBLE), torch.ones(n, dtype=DOUBLE)


def gradient_law(
    loss: Callable[[Tensor], Tensor], theta: Tensor, n: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean gradient (p,), its covariance (p, p), and the gradients (n, p), of a loss (n,).

    loss: rows of parameters (n, p), one for each sample -> (n,). A sample's loss depends on its own
    row alone, so that one backward pass gives every sample's gradient.
    """
    rows = theta.expand(n, -1).clone().requires_grad_()
    (each,) = torch.autograd.grad(loss(rows).sum(), rows)
    away = each - each.mean(0)
    return each.mean(0), away.mT @ away / (n * (n - 1)), each


def newton(loss: Callable[[Tensor], Tensor], p: int, n: int) -> tuple[Tensor, Tensor]:
    """The minimizer (p,) of the mean of a quadratic loss, and the loss's Hessian (p, p)."""

    def mean(theta: Tensor) -> Tensor:
        return loss(theta.expand(n, -1)).mean()

    zero = torch.zeros(p, dtype=DOUBLE)
    slope = torch.func.grad(mean)(zero)
    basis = torch.eye(p, dtype=DOUBLE)
    # Of a quadratic, differences of gradients are its Hessian, without a second derivative.
    hessian = torch.stack([torch.func.grad(mean)(row) - slope for row in basis])
    return -torch.linalg.solve(hessian, slope), hessian


def assert_minimizer(
    loss: Callable[[Tensor], Tensor], want: Tensor, n: int, *, most: float, sigmas: float = 5.0
) -> None:
    """The fit on n samples is within ``sigmas`` standard errors of ``want``, each below ``most``.

    For a quadratic loss the fit is want - H^{-1} g with g the mean gradient at want: its covariance
    is H^{-1} Cov(g) H^{-1}.
    """
    found, hessian = newton(loss, len(want), n)
    _, cov, _ = gradient_law(loss, want, n)
    inverse = torch.linalg.inv(hessian)
    error = (inverse @ cov @ inverse.mT).diagonal().sqrt()
    assert float(error.max()) < most
    assert bool(((found - want).abs() <= sigmas * error).all()), (found, want, error)


def assert_mean(each: Tensor, want: float | Tensor, *, most: float) -> None:
    """The mean over rows is within 5 standard errors of ``want``, each error below ``most``."""
    error = each.std(0) / len(each) ** 0.5
    assert float(error.max()) < most
    assert bool(((each.mean(0) - want).abs() <= 5.0 * error).all()), (each.mean(0), want, error)
