r"""Chains of discrete noise levels (DDPM), and the VP equation that passes through all of them.

Ho, Jain & Abbeel 2020 (arXiv 2006.11239): for k = 1..N,

    q(x_k | x_{k-1}) = N(sqrt(1 - beta_k) x_{k-1}, beta_k),
    q(x_k | x_0) = N(sqrt(abar_k) x_0, 1 - abar_k),  abar_k = (1 - beta_1) ... (1 - beta_k).

With t_k = k / N and B(t_k) = -log abar_k, the VP equation with that B has the same law at every
t_k, and its transitions from t_j to t_k are the chain's: what samplers and likelihoods do for
equations they do for chains.
"""

from __future__ import annotations

import math
from typing import Any, final

import torch
from sdekit_kernels.checks import check_int_range, check_positive
from torch import Tensor

from sdekit.sde.diffusion import VP

__all__ = ["DDPM", "ChainBeta"]


@final
class ChainBeta:
    r"""The schedule beta(t) whose integral B passes through B(k / N) = -log abar_k.

    Between the levels B is the monotone cubic of Fritsch & Carlson (1980): beta is continuous and
    positive, so that an adaptive integrator meets no jumps. ``step`` from k / N to (k - 1) / N is
    beta_k, and from k / N to j / N, 1 - abar_k / abar_j, for any subset of the levels.

    betas: (N,) numbers in (0, 1), N >= 2. Raises TypeError or ValueError otherwise.
    """

    def __init__(self, betas: Any) -> None:
        self.betas = _check_betas(betas)
        n = len(self.betas)
        rises = -torch.log1p(-self.betas) * n
        self._values = torch.cat([torch.zeros(1, dtype=torch.float64), rises.cumsum(0) / n])
        # Slopes at the levels: harmonic means of the two neighbours keep a monotone cubic.
        inner = 2.0 / (1.0 / rises[1:] + 1.0 / rises[:-1])
        ends = [_end(rises[0], rises[1]), _end(rises[-1], rises[-2])]
        self._slopes = torch.cat([ends[0].view(1), inner, ends[1].view(1)])

    @property
    def breaks(self) -> tuple[float, ...]:
        """None: beta is continuous."""
        return ()

    def beta(self, t: Tensor) -> Tensor:
        """Slope of B at t; beyond 1 that at 1."""
        cell, u, h = self._place(t)
        low, high = self._rows(self._values, cell, t)
        m0, m1 = self._rows(self._slopes, cell, t)
        slope = 6.0 * u * (1.0 - u) * (high - low) / h
        slope = slope + (1.0 - u) * (1.0 - 3.0 * u) * m0 + u * (3.0 * u - 2.0) * m1
        return slope.to(t.dtype)

    def integral(self, s: Tensor, t: Tensor) -> Tensor:
        """B(t) - B(s), in float64 within."""
        return (self._integral(t) - self._integral(s)).to(torch.result_type(s, t))

    def step(self, t: Tensor, t_next: Tensor) -> Tensor:
        """beta_i = 1 - exp(-(B(t) - B(t_next))): on the chain's own levels its beta_k."""
        return -torch.expm1(-self.integral(t_next, t))

    def check_grid(self, times: Tensor) -> None:
        """Accepts every grid: beta_i is below one by its definition."""

    def _integral(self, t: Tensor) -> Tensor:
        """B(t) in float64."""
        cell, u, h = self._place(t)
        low, high = self._rows(self._values, cell, t)
        m0, m1 = self._rows(self._slopes, cell, t)
        bend = u * (1.0 - u) * h
        return low + u * u * (3.0 - 2.0 * u) * (high - low) + bend * ((1.0 - u) * m0 - u * m1)

    def _place(self, t: Tensor) -> tuple[Tensor, Tensor, float]:
        """The interval of t, the place within it in [0, 1], and its length 1 / N."""
        n = len(self.betas)
        place = t.double() * n
        cell = place.floor().clamp(0, n - 1)
        return cell.long(), (place - cell).clamp(0.0, 1.0), 1.0 / n

    def _rows(self, table: Tensor, cell: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        table = table.to(t.device)
        return table[cell], table[cell + 1]


@final
class DDPM:
    r"""A chain of N noise levels, k = 1..N, and the equation ``sde`` = VP(ChainBeta(betas)).

    betas: (N,) numbers in (0, 1). ``betas``, ``alphas_bar`` are float64, (N,): entry k - 1 is that
    of level k. Models get t = k / N, in the units of ``sde``: the same network serves here and in
    ``sdekit.score.from_eps(net, ddpm.sde)``.
    Raises TypeError or ValueError for betas of another kind.
    """

    def __init__(self, betas: Any) -> None:
        schedule = ChainBeta(betas)
        self.betas = schedule.betas
        self.steps = len(self.betas)
        self.alphas_bar = torch.log1p(-self.betas).cumsum(0).exp()
        self.sde = VP(schedule)

    @classmethod
    def linear(cls, steps: int = 1000, beta_min: float = 1e-4, beta_max: float = 0.02) -> DDPM:
        """beta_k even from beta_min to beta_max (Ho et al. 2020, section 4)."""
        low, high = check_positive("beta_min", beta_min), check_positive("beta_max", beta_max)
        return cls(torch.linspace(low, high, _steps(steps), dtype=torch.float64))

    @classmethod
    def scaled_linear(
        cls, steps: int = 1000, beta_min: float = 0.00085, beta_max: float = 0.012
    ) -> DDPM:
        """sqrt(beta_k) even (Rombach et al. 2022)."""
        low, high = check_positive("beta_min", beta_min), check_positive("beta_max", beta_max)
        roots = torch.linspace(low**0.5, high**0.5, _steps(steps), dtype=torch.float64)
        return cls(roots.square())

    @classmethod
    def cosine(cls, steps: int = 1000, s: float = 0.008, beta_max: float = 0.999) -> DDPM:
        """beta_k = min(1 - f(k / N) / f((k - 1) / N), beta_max), f(t) = cos^2(pi/2 (t+s) / (1+s)).

        Nichol & Dhariwal 2021 (arXiv 2102.09672), eq. 17.
        """
        n, s = _steps(steps), check_positive("s", s)
        t = torch.arange(n + 1, dtype=torch.float64) / n
        f = torch.cos(0.5 * math.pi * (t + s) / (1.0 + s)).square()
        return cls((1.0 - f[1:] / f[:-1]).clamp(max=check_positive("beta_max", beta_max)))

    @property
    def times(self) -> Tensor:
        """t_0 = 1 > ... > t_N = 0, all levels from the noise to the data: (N + 1,) float64."""
        return torch.arange(self.steps, -1, -1, dtype=torch.float64) / self.steps

    def time(self, k: Any) -> Tensor:
        """t = k / N of levels k, float64; k in 0..N, where 0 is the data."""
        return self._levels(k, 0).double() / self.steps

    def coefficients(self, k: Any) -> tuple[Tensor, Tensor]:
        """(sqrt(abar_k), sqrt(1 - abar_k)) of levels k in 0..N, float64."""
        logs = torch.cat([torch.zeros(1, dtype=torch.float64), torch.log1p(-self.betas).cumsum(0)])
        log = logs[self._levels(k, 0)]
        return (0.5 * log).exp(), (-torch.expm1(log)).sqrt()

    def posterior(self, k: Any) -> tuple[Tensor, Tensor, Tensor]:
        """(c_0, c_k, v) of q(x_{k-1} | x_k, x_0) = N(c_0 x_0 + c_k x_k, v), k in 1..N, float64.

        c_0 = sqrt(abar_{k-1}) beta_k / (1 - abar_k),
        c_k = sqrt(1 - beta_k) (1 - abar_{k-1}) / (1 - abar_k),
        v = beta_k (1 - abar_{k-1}) / (1 - abar_k)  (Ho et al. 2020, eqs. 6 and 7); v = 0 at k = 1.
        """
        k = self._levels(k, 1)
        beta = self.betas[k - 1]
        before, sigma_before = self.coefficients(k - 1)
        _, sigma = self.coefficients(k)
        share = (sigma_before / sigma).square()
        return before * beta / sigma.square(), (1.0 - beta).sqrt() * share, beta * share

    def _levels(self, k: Any, least: int) -> Tensor:
        """``k`` as int64 on the host; raises TypeError or ValueError outside least..N."""
        k = torch.as_tensor(k, device="cpu")
        if k.is_floating_point() or k.is_complex() or k.dtype == torch.bool:
            raise TypeError(f"levels k must be integers in {least}..{self.steps}, got {k.dtype}")
        if k.numel() and not (int(k.min()) >= least and int(k.max()) <= self.steps):
            raise ValueError(
                f"levels k must lie in {least}..{self.steps}, got {int(k.min())}..{int(k.max())}"
            )
        return k.long()


def _steps(steps: Any) -> int:
    return check_int_range("steps", steps, 2, 1 << 31)


def _end(near: Tensor, far: Tensor) -> Tensor:
    """Slope at an end of equal intervals: the three-point rule, kept within the monotone region."""
    slope = 0.5 * (3.0 * near - far)
    return slope.clamp(min=0.1 * near, max=3.0 * near)


def _check_betas(betas: Any) -> Tensor:
    """The betas (N,) in float64 on the host."""
    try:
        values = torch.as_tensor(betas).detach().to("cpu", torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"betas must be a sequence of numbers, got {betas!r}") from None
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(f"betas must be (N,) with N of 2 or more, got {tuple(values.shape)}")
    if not bool(((values > 0.0) & (values < 1.0)).all()):
        raise ValueError(
            f"each beta_k must lie in (0, 1), got {float(values.min()):g} to "
            f"{float(values.max()):g}: above 1 the chain would add more noise than its law holds"
        )
    return values
