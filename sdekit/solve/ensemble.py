"""Statistics of an ensemble of any size: paths are simulated in pieces and never kept.

Mean, variance and covariance of the pieces are merged by the pairwise formulas of Chan, Golub &
LeVeque 1983 in float64; quantiles are read from a histogram. Memory does not grow with the number
of paths.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from sdekit_kernels.checks import check_float_tensor, check_int_range
from torch import Tensor

from sdekit.grid import as_times
from sdekit.solve.functionals import Functional
from sdekit.solve.own_times import has_own_times
from sdekit.solve.solution import SolveStats
from sdekit.solve.solve import solve

__all__ = ["Ensemble", "ensemble"]

_PIECE = 1 << 21
"""Numbers of a piece: 8 MiB of float32 stay in a CPU's last cache until they are reduced."""
_SPREAD = 6.0
"""Standard deviations of the first piece on each side that a histogram covers by itself."""


@dataclass(frozen=True, slots=True)
class Ensemble:
    """Statistics at the times ``t`` (T,), over the paths that are finite then.

    paths: all of them; count: (T,) int64, the finite ones. mean, var: (T, D...), float64, var with
    the divisor count - 1; no numbers where too few paths are finite. cov: (T, D, D) with the event
    flattened, or None. counts: (T, D..., bins + 2) of a histogram with ``edges`` (T, D..., bins +
    1), what lies below and above it at the ends, or None. functionals: by name, an ``Ensemble`` of
    each functional's finite values at the end of the solve. stats: of the first piece.
    """

    t: Tensor
    paths: int
    count: Tensor
    mean: Tensor
    var: Tensor
    cov: Tensor | None
    counts: Tensor | None
    edges: Tensor | None
    functionals: Mapping[str, Ensemble]
    stats: SolveStats

    @property
    def std_error(self) -> Tensor:
        """Standard error of the mean, (T, D...); of independent paths, so not with antithetic."""
        n = self.count.view(-1, *(1,) * (self.mean.ndim - 1))
        return (self.var / n).sqrt()

    def quantile(self, q: float) -> Tensor:
        """The q-quantile of each component, (T, D...), linear inside a bin of the histogram.

        Infinite where it lies outside the histogram, no number where no path is finite. Raises
        ValueError without a histogram, or for q outside (0, 1).
        """
        if self.counts is None or self.edges is None:
            raise ValueError("quantiles need a histogram: write ensemble(..., bins=1000)")
        if not 0.0 < q < 1.0:
            raise ValueError(f"q must lie between 0 and 1, got {q}")
        below = self.counts.cumsum(-1).double()
        rank = q * below[..., -1:]
        k = (below < rank).sum(-1, keepdim=True)  # the bin in which the rank falls
        before = torch.where(k > 0, below.gather(-1, (k - 1).clamp(min=0)), 0.0)
        inside = self.counts.gather(-1, k).double()
        bins = self.edges.shape[-1] - 1
        left = self.edges.gather(-1, (k - 1).clamp(0, bins - 1))
        right = self.edges.gather(-1, k.clamp(1, bins))
        value = left + (right - left) * (rank - before) / inside
        value = torch.where(k == 0, -math.inf, value)
        value = torch.where(k == bins + 1, math.inf, value)
        return torch.where(below[..., -1:] == 0, math.nan, value).squeeze(-1)


class _Merged:
    """Moments of what has been seen so far, shape (T, K)."""

    def __init__(self, covariance: bool) -> None:
        self.covariance = covariance
        self.count: Any = None
        self.mean: Any = None
        self.square: Any = None

    def add(self, x: Tensor, finite: Tensor | None) -> None:
        """Merge the rows of x (T, N, K), or those that are ``finite`` (T, N, 1)."""
        n, mean, square = self._of(x, finite)
        if self.count is None:
            self.count, self.mean, self.square = n, mean, square
            return
        total = self.count + n
        shift = mean - self.mean
        share = n / total.clamp(min=1)
        weight = self.count * share
        if self.covariance:
            spread = shift[:, :, None] * shift[:, None, :] * weight[:, :, None]
        else:
            spread = shift.square() * weight
        self.mean = self.mean + shift * share
        self.square = self.square + square + spread
        self.count = total

    def _of(self, x: Tensor, finite: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Number of rows (T, 1), their mean, and sums of squares or products around it."""
        t, rows = x.shape[:2]
        if finite is None:
            n = torch.full((t, 1), float(rows), dtype=torch.float64, device=x.device)
            if not self.covariance:
                var, mean = torch.var_mean(x, 1, correction=0)
                return n, mean, var * rows
            mean = x.mean(1)
            away = x - mean[:, None]
            return n, mean, away.mT @ away
        n = finite.sum(1).double()
        mean = torch.where(finite, x, 0.0).sum(1) / n.clamp(min=1)
        away = torch.where(finite, x - mean[:, None], 0.0)
        return n, mean, away.mT @ away if self.covariance else away.square().sum(1)

    def variance(self) -> tuple[Tensor, Tensor | None]:
        """(variances (T, K), covariances (T, K, K) or None), of two paths at least."""
        divisor = torch.where(self.count > 1, self.count - 1, math.nan)
        if not self.covariance:
            return self.square / divisor, None
        cov = self.square / divisor[:, :, None]
        return cov.diagonal(dim1=-2, dim2=-1), cov


class _Histogram:
    """Counts in equal bins of each component, (T, K, bins + 2)."""

    def __init__(self, bins: int, span: tuple[float, float] | None) -> None:
        self.bins, self.span = bins, span
        self.counts: Any = None
        self.edges: Any = None

    def add(self, x: Tensor, merged: _Merged) -> None:
        """Count x (T, N, K); what is no number is left out."""
        if self.edges is None:
            if not bool(merged.count.any()):
                return  # a rare functional: the first piece with a value lays the bins
            self.lay(merged)
        low, high = self.edges[..., 0], self.edges[..., -1]
        scale = (self.bins / (high - low))[:, None]
        place = ((x - low[:, None]) * scale).floor_().clamp_(-1, self.bins).add_(1.0)
        width = self.bins + 2
        place = torch.where(place.isnan(), width, place)  # counted apart, and dropped
        t, _, k = x.shape
        offset = torch.arange(t * k, device=x.device).view(t, 1, k) * (width + 1)
        flat = (place.long() + offset).reshape(-1)
        counts = torch.bincount(flat, minlength=t * k * (width + 1))
        self.counts += counts.view(t, k, width + 1)[..., :width]

    def lay(self, merged: _Merged) -> None:
        """Empty bins around what has been seen so far."""
        low, high = self._limits(merged)
        at = torch.linspace(0.0, 1.0, self.bins + 1, dtype=torch.float64, device=low.device)
        self.edges = low[..., None] + (high - low)[..., None] * at
        shape = (*low.shape, self.bins + 2)
        self.counts = torch.zeros(shape, dtype=torch.int64, device=low.device)

    def _limits(self, merged: _Merged) -> tuple[Tensor, Tensor]:
        if self.span is not None:
            low = torch.full_like(merged.mean, self.span[0])
            return low, torch.full_like(merged.mean, self.span[1])
        reach = _SPREAD * merged.variance()[0].sqrt()
        reach = torch.where(reach > 0, reach, merged.mean.abs().clamp(min=1.0) * 1e-6)
        return merged.mean - reach, merged.mean + reach


class _Collector:
    """What is kept of one quantity: moments, and a histogram if asked for."""

    def __init__(self, bins: int, span: tuple[float, float] | None, covariance: bool) -> None:
        self.moments = _Merged(covariance)
        self.histogram = _Histogram(bins, span) if bins else None

    def add(self, x: Tensor) -> None:
        """x (T, N, K); a row with an entry that is not finite is left out of everything."""
        x, finite = x.double(), None
        # One pass, where the rest of it would take four.
        if len(x) == 0 or not math.isfinite(float(x.sum())):
            finite = torch.isfinite(x).all(-1, keepdim=True)
            x = torch.where(finite, x, math.nan)
        self.moments.add(x, finite)
        if self.histogram is not None:
            self.histogram.add(x, self.moments)

    def result(self, t: Tensor, paths: int, event: Sequence[int], stats: SolveStats) -> Ensemble:
        """The statistics, in the event's shape."""
        var, cov = self.moments.variance()
        shape = (len(t), *event)
        h = self.histogram
        if h is not None and h.edges is None:
            h.lay(self.moments)
        count = self.moments.count
        return Ensemble(
            t=t,
            paths=paths,
            count=count.squeeze(1).long(),
            mean=torch.where(count > 0, self.moments.mean, math.nan).reshape(shape),
            var=var.reshape(shape),
            cov=cov,
            counts=None if h is None else h.counts.reshape(*shape, h.bins + 2),
            edges=None if h is None else h.edges.reshape(*shape, h.bins + 1),
            functionals={},
            stats=stats,
        )


def ensemble(
    sde: Any,
    x0: Tensor,
    paths: int,
    t0: float = 0.0,
    t1: float = 1.0,
    steps: int = 100,
    *,
    save_at: Sequence[float] | Tensor | None = None,
    covariance: bool = False,
    bins: int = 0,
    span: tuple[float, float] | None = None,
    functionals: Mapping[str, Functional] | None = None,
    stop: Callable[[Tensor, Tensor], Tensor] | None = None,
    seed: int = 0,
    first_sample: int = 0,
    progress: bool = False,
    **options: Any,
) -> Ensemble:
    """Simulate ``paths`` paths from one state and return statistics only.

    Path i is the path that ``solve`` gives sample first_sample + i of this seed.

    Args:
        sde, t0, t1, steps, seed, first_sample, functionals, stop: as for ``solve``; times are one
            grid for all paths.
        x0: the state that all start from, shape (D...), floating point.
        paths: how many, at least 1; memory does not grow with it.
        save_at: times at which statistics are wanted; the last one if None.
        covariance: between all components of the event.
        bins: of a histogram of each component, for ``Ensemble.quantile``; 0 for none. span: its
            (low, high); without it, 6 standard deviations of the first piece on each side.
        options: ``times``, ``method``, ``antithetic``, ``backend``, ``fuse`` of ``solve``.

    Raises TypeError and ValueError as ``solve``, and for paths < 1, bins < 0, a span that is
    empty, or times that differ between samples.
    """
    check_float_tensor("x0", x0)
    first_sample = check_int_range("first_sample", first_sample, 0, 1 << 63)
    paths = check_int_range("paths", paths, 1, (1 << 63) - first_sample + 1)
    check_int_range("bins", bins, 0, 1 << 20)
    if span is not None and not (math.isfinite(span[0]) and span[0] < span[1] < math.inf):
        raise ValueError(f"span must be (low, high) with low < high, got {span!r}")
    if has_own_times(t0, t1, steps):
        raise ValueError(
            "an ensemble has one grid for all paths, but t0, t1 or steps has one entry a sample: "
            "write numbers"
        )
    event = tuple(x0.shape)
    if save_at is not None and not isinstance(save_at, Tensor):
        save_at = as_times("save_at", save_at)
    times = 1 if save_at is None else max(len(as_times("save_at", save_at)), 1)
    grid = options.get("times")
    end = as_times("t1", [t1] if grid is None else grid)[-1:]
    rows = max(1024, _PIECE // (max(x0.numel(), 1) * (times + 1))) // 2 * 2
    whole = _Collector(bins, span, covariance)
    parts = {name: _Collector(bins, None, False) for name in functionals or {}}
    shapes: dict[str, tuple[int, ...]] = {}
    first: Any = None
    with _bar(paths, progress) as bar:
        for r0 in range(0, paths, rows):
            n = min(rows, paths - r0)
            sol = solve(
                sde,
                x0.expand(n, *event),
                t0,
                t1,
                steps,
                save_at=save_at,
                functionals=functionals,
                stop=stop,
                seed=seed,
                first_sample=first_sample + r0,
                **options,
            )
            first = sol if first is None else first
            saved = sol.x if save_at is not None else sol.x[None]
            whole.add(saved.reshape(len(saved), n, x0.numel()))
            for name, value in sol.functionals.items():
                shapes[name] = tuple(value.shape[1:])
                parts[name].add(value.reshape(1, n, -1))
            if bar is not None:
                bar.update(n)
    t = first.t.reshape(-1)
    result = whole.result(t, paths, event, first.stats)
    last = torch.tensor(end, dtype=torch.float64)
    result.functionals.update(  # type: ignore[attr-defined]
        {name: c.result(last, paths, shapes[name], first.stats) for name, c in parts.items()}
    )
    return result


def _bar(paths: int, progress: bool) -> Any:
    from contextlib import nullcontext

    if not progress:
        return nullcontext()
    from tqdm.auto import tqdm

    return tqdm(total=paths, desc="ensemble", unit="path", unit_scale=True)
