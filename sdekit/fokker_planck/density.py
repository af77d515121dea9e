"""Densities on a grid: their moments, and how far an ensemble of samples is from them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from sdekit_kernels.checks import check_float_tensor, check_int_range, check_positive
from torch import Tensor

__all__ = ["Density"]


@dataclass(frozen=True, slots=True)
class Density:
    """The density of x at the times ``t`` (T,), float64.

    p: cell averages, (T, n) or (T, n1, n2). edges: of the cells, a tensor (n + 1,) a direction.
    scheme: "linear" or "limited", and the reason why. steps: of time; one for each interval if the
    equation's coefficients do not change with time.
    """

    p: Tensor
    t: Tensor
    edges: tuple[Tensor, ...]
    scheme: str
    reason: str
    steps: int

    @property
    def mass(self) -> Tensor:
        """What is on the grid, (T,): one, less what absorbing boundaries have taken."""
        return self.cell_mass().flatten(1).sum(1)

    @property
    def middles(self) -> tuple[Tensor, ...]:
        """Of the cells, (n,) a direction."""
        return tuple(0.5 * (e[1:] + e[:-1]) for e in self.edges)

    def at(self, index: int) -> Density:
        """The density at one of the times, T = 1."""
        k = range(len(self.t))[index]
        part = slice(k, k + 1)
        return Density(self.p[part], self.t[part], self.edges, self.scheme, self.reason, self.steps)

    def cell_mass(self, bins: int | None = None) -> Tensor:
        """The mass of each cell, (T, n...), or of ``bins`` groups of neighbours in each direction.

        Raises ValueError unless bins lies between 1 and the number of cells.
        """
        m = self.p.clone()
        for axis, edges in enumerate(self.edges):
            m *= edges.diff().view(-1, *(1,) * (len(self.edges) - 1 - axis))
        if bins is None:
            return m
        for axis, group in enumerate(self._groups(bins)):
            shape = list(m.shape)
            shape[axis + 1] = bins
            m = m.new_zeros(shape).index_add_(axis + 1, group, m)
        return m

    def mean(self) -> Tensor:
        """(T, D), of what is left on the grid."""
        return self._moments()[0]

    def var(self) -> Tensor:
        """Of each component, (T, D)."""
        return self.cov().diagonal(dim1=1, dim2=2)

    def cov(self) -> Tensor:
        """Covariance, (T, D, D)."""
        return self._moments()[1]

    def total_variation(self, x: Tensor, bins: int | None = None) -> Tensor:
        """1/2 sum |P(cell) - share of the samples in it|, (T,), at each of the times.

        x: samples, (T, B, D) as ``solve`` with ``save_at`` gives them; (B, D) for one time. Outside
        the grid is one more cell, which has the mass that is lost; a sample that is not finite is
        there. bins: compare groups of cells, so many a direction, rather than cells.

        Raises TypeError for what is no floating-point tensor, ValueError for another shape.
        """
        check_float_tensor("x", x)
        times, dim = len(self.t), len(self.edges)
        samples = x[None] if x.ndim == 2 and times == 1 else x
        if samples.ndim != 3 or samples.shape[0] != times or samples.shape[2] != dim:
            raise ValueError(
                f"x must have shape {(times, 'B', dim)}, samples at each of {times} times, got "
                f"{tuple(x.shape)}: take one time of the density with at(index)"
            )
        if samples.shape[1] == 0:
            raise ValueError("x holds no samples")
        share = self._shares(samples.detach().to(self.p), bins)
        return 0.5 * (share - self._probabilities(bins)).abs().sum(1)

    def expected_total_variation(self, n: int, bins: int | None = None) -> Tensor:
        r"""What chance alone gives n independent samples of this density, (T,).

        The mean of ``total_variation``: 1/2 sum E|N / n - P| with N binomial, by de Moivre's
        formula, n E|N / n - P| = 2 (k + 1) C(n, k + 1) P^{k+1} (1 - P)^{n-k}, k = floor(n P); about
        1/2 sum sqrt(2 P (1 - P) / (pi n)) where n P is large. Raises ValueError for n below 1.
        """
        n = check_int_range("n", n, 1, 1 << 53)
        p = self._probabilities(bins).clamp(0.0, 1.0)
        k = (n * p).floor().clamp(max=n - 1.0)
        log_choose = math.lgamma(n + 1.0) - torch.lgamma(k + 2.0) - torch.lgamma(n - k)
        log_power = torch.xlogy(k + 1.0, p) + torch.special.xlog1py(n - k, -p)
        spread = 2.0 * (k + 1.0) * torch.exp(log_choose + log_power) / n
        return 0.5 * spread.sum(1)

    def total_variation_bound(self, n: int, k: float = 4.0, bins: int | None = None) -> Tensor:
        r"""What ``total_variation`` of n independent samples exceeds with probability e^{-k^2 / 2}.

        Or less: the mean and k / (2 sqrt(n)). One sample moves it by at most 1 / n (McDiarmid
        1989), whatever the density; 1 / (2 sqrt(n)) is no less than its standard deviation.
        """
        k = check_positive("k", k)
        return self.expected_total_variation(n, bins) + k / (2.0 * math.sqrt(n))

    def _groups(self, bins: Any) -> list[Tensor]:
        """The group of each cell, a direction."""
        sizes = [len(e) - 1 for e in self.edges]
        bins = check_int_range("bins", bins, 1, min(sizes) + 1)
        device = self.p.device
        return [torch.arange(n, device=device) * bins // n for n in sizes]

    def _probabilities(self, bins: int | None) -> Tensor:
        """Of each cell, and of being outside: (T, cells + 1)."""
        m = self.cell_mass(bins).flatten(1)
        return torch.cat([m, (1.0 - m.sum(1, keepdim=True)).clamp(min=0.0)], 1)

    def _shares(self, x: Tensor, bins: int | None) -> Tensor:
        """Of the samples (T, B, D) in each cell, and outside: (T, cells + 1)."""
        sizes = [len(e) - 1 for e in self.edges]
        groups = [torch.arange(n, device=x.device) for n in sizes]
        if bins is not None:
            groups, sizes = self._groups(bins), [bins] * len(sizes)
        place = torch.zeros(x.shape[:2], dtype=torch.long, device=x.device)
        inside = torch.ones_like(place, dtype=torch.bool)
        for axis, (edges, group) in enumerate(zip(self.edges, groups, strict=True)):
            value = x[..., axis].contiguous()
            inside &= (value >= edges[0]) & (value <= edges[-1])
            cell = torch.bucketize(value, edges, right=True) - 1
            place = place * sizes[axis] + group[cell.clamp(0, len(group) - 1)]
        cells = math.prod(sizes)
        place = torch.where(inside, place, cells)
        counts = torch.stack([torch.bincount(row, minlength=cells + 1) for row in place])
        return counts / x.shape[1]

    def _moments(self) -> tuple[Tensor, Tensor]:
        m = self.cell_mass()
        m = m.flatten(1) / m.flatten(1).sum(1, keepdim=True)
        x = torch.cartesian_prod(*self.middles).view(-1, len(self.edges))
        mean = m @ x
        centred = x - mean[:, None, :]
        return mean, torch.einsum("tn,tni,tnj->tij", m, centred, centred)
