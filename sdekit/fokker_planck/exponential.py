r"""e^{\tau Q} m, to rounding, from positive numbers only.

Uniformization (Jensen 1953): with L the largest rate of a cell, P = 1 + Q / L is a matrix of
probabilities, and e^{\tau Q} = \sum_k Poisson(k; L \tau) P^k. Nothing is ever subtracted, so that
masses far below the rounding of the largest keep their digits. Where that takes too many jumps,
and the cells are few, the matrix e^{\tau Q / 2^s} is made so and squared s times.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sdekit.fokker_planck.generator import Generator

__all__ = ["Exponential"]

_DEVIATIONS = 8.5
"""Of the Poisson law, on each side: what is left out is below 1e-16."""
_MOST_JUMPS = 1e7
"""Beyond, an hour would pass on 200 x 200 cells."""
_DENSE = 4096
"""Cells above which no matrix is made: 128 MiB."""
_TINY = 1e-100
"""Squares of what is kept are no denormals, which are a hundred times as slow."""
_CHECK = 128
"""Jumps after which it is seen whether the density still changes."""


class Exponential:
    """m -> e^{tau Q} m for one Q; the last matrix is kept, for intervals of one length."""

    def __init__(self, q: Generator) -> None:
        self.q = q
        self.rate = q.rate
        self.stay = 1.0 - q.loss / self.rate if self.rate > 0 else torch.ones_like(q.loss)
        self.known: tuple[float, Tensor] | None = None

    def __call__(self, m: Tensor, tau: float) -> Tensor:
        """Masses (n1, n2) after tau. Raises ValueError where that would take too long."""
        if self.rate * tau == 0.0:
            return m.clone()
        if self.known is not None and abs(self.known[0] / tau - 1.0) < 1e-12:
            return self._closed(self.known[1] @ m.flatten(), m)
        squarings = max(0, math.ceil(math.log2(self.rate * tau)))
        if self._prefers_matrix(tau, squarings):
            matrix = self._matrix(tau, squarings)
            self.known = (tau, matrix)
            return self._closed(matrix @ m.flatten(), m)
        if self.rate * tau > _MOST_JUMPS:
            raise ValueError(
                f"the fastest cell is left {self.rate:.3g} times a unit of time, "
                f"{self.rate * tau:.3g} times in all: take wider cells where diffusion is strong "
                "(the rate grows with 1 / width^2), or a shorter time"
            )
        return self._closed(self._series(m, self.rate * tau), m)

    def _prefers_matrix(self, tau: float, squarings: int) -> bool:
        """By counts that hold to a factor of two.

        4 us and 0.5 ns a cell for an operation of torch, 2e10 a second in a product of matrices.
        """
        n = self.q.loss.numel()
        if n > _DENSE:
            return False
        jump = (1 + 2 * len(self.q.jumps)) * (4e-6 + 0.5e-9 * n)
        start = 22 * (1 + 2 * len(self.q.jumps)) * 1e-9 * n * n
        return start + squarings * 2 * n**3 / 2e10 < self.rate * tau * jump

    def _series(self, m: Tensor, mean: float) -> Tensor:
        """The sum over the Poisson law of ``mean``; m (..., n1, n2)."""
        reach = _DEVIATIONS * math.sqrt(mean) + 20.0
        first, last = max(0, math.floor(mean - reach)), math.ceil(mean + reach)
        count = torch.arange(first, last + 1, dtype=torch.float64)
        log_weight = count * math.log(mean) - mean - torch.lgamma(count + 1.0)
        weight: list[float] = torch.softmax(log_weight, 0).tolist()
        now, after = m.clone(), torch.empty_like(m)
        out = torch.zeros_like(m)
        for k in range(last + 1):
            if k >= first:
                out.add_(now, alpha=weight[k - first])
            if k == last:
                break
            self.q.step(now, self.rate, self.stay, after)
            now, after = after, now
            # Each further jump changes the density by no more than this one.
            if k % _CHECK == 0 and m.ndim == 2:
                change = float((now - after).abs().sum())
                if change * (last - k) < 1e-15 * float(now.sum()):
                    return out.add_(now, alpha=sum(weight[max(0, k + 1 - first) :]))
        return out

    def _matrix(self, tau: float, squarings: int) -> Tensor:
        """e^{tau Q}, (N, N): column j is where the mass of cell j goes."""
        n, shape = self.q.loss.numel(), self.q.loss.shape
        unit = torch.eye(n, dtype=torch.float64, device=self.q.loss.device).view(n, *shape)
        matrix = self._series(unit, self.rate * tau / 2.0**squarings).view(n, n)
        for _ in range(squarings):
            matrix = matrix @ matrix
            matrix[matrix < _TINY] = 0.0
            if self.q.closed:
                matrix /= matrix.sum(1, keepdim=True)
        return matrix.T

    def _closed(self, out: Tensor, m: Tensor) -> Tensor:
        """In a closed grid the mass is what it was: rounding would move it by 1e-16 a jump."""
        out = out.view_as(m)
        return out * (m.sum() / out.sum()) if self.q.closed else out
