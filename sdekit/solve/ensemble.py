"""Statistics of an ensemble of any size: paths are simulated in pieces and never kept.

A first piece, the pilot, lays the centres around which moments are summed and the bins from which
quantiles are read; where the whole trajectory is one kernel, that kernel then reduces its paths as
it goes. Memory does not grow with the number of paths.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from sdekit_kernels.checks import check_float_tensor, check_int_range
from torch import Tensor

from sdekit.grid import Saves, as_times
from sdekit.solve.functionals import Functional
from sdekit.solve.own_times import has_own_times
from sdekit.solve.plan import Plan, make_plan, run_part
from sdekit.solve.reduction import KernelSums
from sdekit.solve.solution import SolveStats
from sdekit.solve.statistics import Collector
from sdekit.solve.stepwise import Piece

__all__ = ["Ensemble", "ensemble"]

_PIECE = 1 << 21
"""Numbers of a piece that torch reduces: 8 MiB of float32 stay in a CPU's last cache until then."""
_PILOT = 1 << 16
"""Numbers of the pilot, of 1024 paths at least: their standard deviation is good to 2 %."""
_WORTH = 1 << 20
"""Numbers that a kernel reduces at least: torch does so many in 50 ms, compiling takes seconds."""
_PLANNED = 1 << 20
"""Rows of the states on which a plan is made: parameters may have one entry for each of them."""


@dataclass(frozen=True, slots=True)
class Ensemble:
    """Statistics at the times ``t`` (T,), over the paths that are finite then.

    paths: all of them; count: (T,) int64, the finite ones. mean, var: (T, D...), float64, var with
    the divisor count - 1; no numbers where too few paths are finite. cov: (T, D, D) with the event
    flattened, or None. counts: (T, D..., bins + 2) of a histogram with ``edges`` (T, D..., bins +
    1), what lies below and above it at the ends, or None. functionals: by name, an ``Ensemble`` of
    each functional's finite values at the end of the solve. stats: of the first piece; its reason
    says where the statistics were made.
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
            (low, high); without it, 6 standard deviations of the first paths on each side.
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
    if save_at is not None and not isinstance(save_at, Tensor):
        save_at = as_times("save_at", save_at)
    start = x0.expand(min(paths, _PLANNED), *x0.shape)
    given = {"functionals": functionals, "stop": stop, "seed": seed, **options}
    plan = make_plan(sde, start, t0, t1, steps, save_at=save_at, **given)
    if save_at is None:
        at_end = Saves({}, {len(plan.run.grid) - 1})
        plan = plan._replace(run=plan.run._replace(saves=at_end, keep=True))
    run = _Run(plan, x0, paths, first_sample, bins, span, covariance)
    with _bar(paths, progress) as bar:
        while run.done < paths:
            run.advance()
            if bar is not None:
                bar.update(run.done - bar.n)
    return run.result()


class _Run:
    """An ensemble on its way: the pilot and what no kernel can reduce by torch, the rest by it."""

    def __init__(
        self,
        plan: Plan,
        x0: Tensor,
        paths: int,
        first_sample: int,
        bins: int,
        span: tuple[float, float] | None,
        covariance: bool,
    ) -> None:
        self.plan, self.x0, self.paths, self.first_sample = plan, x0, paths, first_sample
        components, times = x0.numel(), plan.run.saved
        share = max(components, 1) * (times + 1)
        self.pilot = max(1024, _PILOT // share) // 2 * 2
        self.piece = max(1, _PIECE // share // self.pilot) * self.pilot
        self.collect = partial(Collector, pilot=self.pilot, bins=bins, device=x0.device)
        self.whole = self.collect(times, components, span=span, covariance=covariance)
        self.parts: dict[str, Collector] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.sums: KernelSums | None = None
        self.by_kernel = plan.program is not None and share * paths >= _WORTH
        self.done, self.where = 0, "by torch"
        self.stats: SolveStats | None = None

    def advance(self) -> None:
        """Reduce some more paths."""
        sums = self.sums if self.whole.ready else None
        rows = self.pilot if self.by_kernel else self.piece
        n = min(rows if sums is None else sums.piece, self.paths - self.done)
        x = self.x0.expand(n, *self.x0.shape)
        part, first = slice(self.done, self.done + n), self.first_sample + self.done
        if sums is None:
            self.add(run_part(self.plan, x, part, first), n)
        else:
            self.where = f"by torch for the first {self.pilot} paths, then in the kernel"
            sums.begin(n)
            sums.merge(run_part(self.plan, x, part, first, kept=sums).follow)
        self.done += n

    def add(self, piece: Piece, n: int) -> None:
        """Reduce a piece by torch."""
        self.whole.add(piece.x.reshape(self.plan.run.saved, n, self.x0.numel()))
        transition = self.plan.run.transition
        skip = 0 if transition.stop is None else 2
        follow = dict(zip(transition.functionals, piece.follow[skip:], strict=False))
        if self.stats is None:
            self.stats = self.plan.stats(piece.bad)
            for name, value in follow.items():
                self.shapes[name] = tuple(value.shape[1:])
                size = value[0].numel()
                self.parts[name] = self.collect(1, size, span=None, covariance=False)
            if self.by_kernel and n < self.paths:
                self.hand_over([self.x0.numel(), *(v[0].numel() for v in piece.follow)])
        for name, value in follow.items():
            self.parts[name].add(value.reshape(1, n, -1))

    def hand_over(self, sizes: list[int]) -> None:
        """Let the kernel reduce what follows, if it can."""
        sums = KernelSums(self.plan, self.whole, list(self.parts.values()), sizes)
        if sums.obstacle:
            self.by_kernel, self.where = False, f"by torch: {sums.obstacle}"
            return
        self.sums = sums

    def result(self) -> Ensemble:
        """The statistics of all paths so far."""
        assert self.stats is not None
        if self.sums is not None:
            self.sums.finish()
        stats = replace(self.stats, reason=f"{self.stats.reason}; statistics {self.where}")
        last = torch.tensor(self.plan.run.grid[-1:], dtype=torch.float64)
        functionals = {
            name: _ensemble(part, last, self.done, self.shapes[name], stats, {})
            for name, part in self.parts.items()
        }
        t = self.plan.t.reshape(-1)
        return _ensemble(self.whole, t, self.done, self.x0.shape, stats, functionals)


def _ensemble(
    c: Collector,
    t: Tensor,
    paths: int,
    event: Sequence[int],
    stats: SolveStats,
    functionals: Mapping[str, Ensemble],
) -> Ensemble:
    """What was collected, in the event's shape."""
    moments, shape = c.moments, (len(t), *event)
    var, cov = moments.variance()
    return Ensemble(
        t=t,
        paths=paths,
        count=moments.count.squeeze(1).long(),
        mean=torch.where(moments.count > 0, moments.mean, math.nan).reshape(shape),
        var=var.reshape(shape),
        cov=cov,
        counts=c.counts[..., :-1].reshape(*shape, c.bins + 2) if c.bins else None,
        edges=c.edges().reshape(*shape, c.bins + 1) if c.bins else None,
        functionals=MappingProxyType(functionals),
        stats=stats,
    )


def _bar(paths: int, progress: bool) -> Any:
    from contextlib import nullcontext

    if not progress:
        return nullcontext()
    from tqdm.auto import tqdm

    return tqdm(total=paths, desc="ensemble", unit="path", unit_scale=True)
