"""Moments and histograms of one quantity at several times, from pieces of an ensemble.

A piece gives, for each time, the number of its paths and the sums of their deviations from a
centre and of the products of those (``sdekit_kernels.fuse.statistics``), made in the trajectory
kernel or in torch. Pieces are merged by the pairwise formulas of Chan, Golub & LeVeque 1983, in
float64,

    n = n_a + n_b,   d = m_b - m_a,   m = m_a + d n_b / n,   S = S_a + S_b + d d' n_a n_b / n.

No sum depends on the number of threads.
"""

from __future__ import annotations

import torch
from sdekit_kernels.fuse.statistics import reduce_torch, sum_halves
from torch import Tensor

__all__ = ["Collector", "Moments"]

Rows = slice | Tensor
"""Some of the times, each once."""
_ALL = slice(None)
_SPREAD = 6.0
"""Standard deviations of the first paths on each side that a histogram covers by itself."""


class Moments:
    """Moments of K components at T times.

    count: (T, 1) float64; mean: (T, K); square: sums of products of deviations from the mean, (T,
    K) of each component with itself or (T, K (K + 1) / 2) of all pairs.
    """

    def __init__(self, times: int, components: int, covariance: bool, device: torch.device) -> None:
        here = range(components)
        pairs = [(i, j) for i in here for j in here if i == j or (covariance and i < j)]
        self.covariance, self.components = covariance, components
        self.left = torch.tensor([i for i, _ in pairs], dtype=torch.int64, device=device)
        self.right = torch.tensor([j for _, j in pairs], dtype=torch.int64, device=device)
        self.count, self.mean, self.square = (
            torch.zeros((times, size), dtype=torch.float64, device=device)
            for size in (1, components, len(pairs))
        )

    def merge(self, entries: Tensor, centre: Tensor, rows: Rows) -> None:
        """Merge sums (t, 1 + K + pairs) around a centre (t, K) into these rows."""
        sizes = [1, self.components, len(self.left)]
        n, away, square = entries.split(sizes, 1)
        left, right = self.left, self.right
        count, mean = self.count[rows], self.mean[rows]
        away = away / n.clamp(min=1.0)
        within = square - n * away[:, left] * away[:, right]
        within = torch.where(left == right, within.clamp(min=0.0), within)
        total = count + n
        shift = centre + away - mean
        share = n / total.clamp(min=1.0)
        between = shift[:, left] * shift[:, right] * (count * share)
        self.square[rows] += within + between
        self.mean[rows] = mean + shift * share
        self.count[rows] = total

    def variance(self) -> tuple[Tensor, Tensor | None]:
        """(variances (T, K), covariances (T, K, K) or None), of two paths at least."""
        divided = self.square / torch.where(self.count > 1, self.count - 1, torch.nan)
        if not self.covariance:
            return divided, None
        k = self.components
        cov = divided.new_empty((len(divided), k, k))
        cov[:, self.left, self.right] = divided
        cov[:, self.right, self.left] = divided
        return cov.diagonal(dim1=-2, dim2=-1), cov


class Collector:
    """Moments, and counts in equal bins if ``bins`` > 0, of K components at T times.

    pilot: how many paths in a row lay the bins: the first that have a finite value among them.
    """

    def __init__(
        self,
        times: int,
        components: int,
        pilot: int,
        bins: int,
        span: tuple[float, float] | None,
        covariance: bool,
        device: torch.device,
    ) -> None:
        self.pilot, self.bins, self.span, self.covariance = pilot, bins, span, covariance
        self.moments = Moments(times, components, covariance, device)
        self.counts = torch.zeros(
            (times, components, bins + 3 if bins else 0), dtype=torch.int64, device=device
        )
        self.ends: tuple[Tensor, Tensor] | None = None
        if times == 0:
            self._lay()

    @property
    def ready(self) -> bool:
        """Whether there are centres and bins, so that a kernel can take over."""
        return self.ends is not None

    def add(self, x: Tensor, rows: Rows = _ALL, times: int = 1) -> None:
        """Reduce x (t, N, K) into these rows; a path that is not finite in all K is left out.

        times: how often each path counts.
        """
        while not self.ready and x.shape[1] > 0:
            self._pilot(x[:, : self.pilot], rows, times)
            x = x[:, self.pilot :]
        if x.shape[1] > 0:
            at = self.at[:, rows]
            entries, counts = reduce_torch(x, at, self.covariance, self.bins)
            self.moments.merge(entries * times, at[0], rows)
            if self.bins:
                self.counts[rows] += counts * times

    def _pilot(self, x: Tensor, rows: Rows, times: int) -> None:
        """Merge the moments; if there are any, lay the bins and count."""
        finite = torch.isfinite(x).all(-1, keepdim=True)
        if not bool(finite.any()):
            return
        number = sum_halves(finite.double())
        centre = sum_halves(torch.where(finite, x.double(), 0.0)) / number.clamp(min=1.0)
        at = torch.stack([centre, centre, centre])
        entries, _ = reduce_torch(x, at, self.covariance, 0)
        self.moments.merge(entries * times, centre, rows)
        self._lay()
        if self.bins:
            _, counts = reduce_torch(x, self.at[:, rows], False, self.bins)
            self.counts[rows] += counts * times

    @property
    def at(self) -> Tensor:
        """Centres, lower ends and bins per unit (3, T, K); no bins where none are laid yet."""
        mean = self.moments.mean
        if self.ends is None:
            nowhere = torch.full_like(mean, torch.nan)
            return torch.stack([mean, nowhere, nowhere])
        low, high = self.ends
        return torch.stack([mean, low, self.bins / (high - low)])

    def _lay(self) -> None:
        """Bins around what has been seen so far."""
        mean = self.moments.mean
        if self.span is not None:
            low, high = self.span
            self.ends = torch.full_like(mean, low), torch.full_like(mean, high)
            return
        reach = _SPREAD * self.moments.variance()[0].sqrt()
        same = ~(reach > mean.abs() * 2.0**-40)  # all paths in one place, up to rounding
        reach = torch.where(same, mean.abs().clamp(min=1.0) * 1e-6, reach)
        self.ends = mean - reach, mean + reach

    def edges(self) -> Tensor:
        """(T, K, bins + 1), around nothing in particular if no path was finite."""
        if self.ends is None:
            self._lay()
        assert self.ends is not None
        low, high = self.ends
        at = torch.linspace(0.0, 1.0, self.bins + 1, dtype=torch.float64, device=low.device)
        return low[..., None] + (high - low)[..., None] * at
