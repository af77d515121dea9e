"""Solve an SDE: what is asked for, which way it goes, and the pieces in which it is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import torch
from sdekit_kernels.checks import check_int_range
from sdekit_kernels.dispatch import compute_dtype, resolve_backend
from torch import Tensor

from sdekit.grid import Saves, as_times, locate_saves, make_grid, time_rounding
from sdekit.solve.choice import check_functionals, check_state, choose_path
from sdekit.solve.functionals import Functional
from sdekit.solve.own_times import has_own_times, make_own_times
from sdekit.solve.solution import FINISHED, NONFINITE, STOPPED, Solution, SolveStats
from sdekit.solve.stepwise import Piece, Run, run_stepwise
from sdekit.solve.transition import OwnTimes, Transition
from sdekit.solvers import Equation, get_solver

__all__ = ["solve"]

_WORKING_COPIES = 8
"""States that a step holds at once, at the most: what ``max_memory`` is divided by."""


def solve(
    sde: Any,
    x0: Tensor,
    t0: float | Tensor = 0.0,
    t1: float | Tensor = 1.0,
    steps: int | Tensor = 100,
    *,
    times: Sequence[float] | Tensor | None = None,
    method: str = "euler_maruyama",
    seed: int = 0,
    first_sample: int = 0,
    save_at: Sequence[float] | Tensor | None = None,
    functionals: Mapping[str, Functional] | None = None,
    stop: Callable[[Tensor, Tensor], Tensor] | None = None,
    antithetic: bool = False,
    backend: str = "auto",
    fuse: bool | None = None,
    max_memory: int | None = None,
    progress: bool = False,
) -> Solution:
    """Simulate dx = f(t, x) dt + G(t, x) dW from x0 at t0 to t1.

    The noise of a sample is a pure function of (seed, first_sample + its row, step, component): a
    batch solved in pieces, on another device or with another ``save_at`` has the same paths at the
    grid's times.

    Where the equation's drift and diffusion can be traced, each path runs in one kernel from the
    first time to the last; else step by step, with the same noise and the same answer up to
    rounding. ``Solution.stats`` says which, and why; ``explain`` says it beforehand.

    Args:
        sde: anything with ``drift(t, x)`` and ``diffusion(t, x)``; t is a 0-d tensor, or (B,) where
            each sample has its own times. Parameters may be one a sample, (B, 1...) or (B, D...).
        x0: initial states, shape (B, D...), floating point.
        t0, t1, steps: ``steps`` equal steps from t0 to t1, in the equation's own units. t1 < t0
            only for time reversals and ODEs. Each may be a tensor with one entry a sample.
        times: a grid of N + 1 strictly monotonic times in place of t0, t1, steps.
        method: a name in ``sdekit.solvers.SOLVERS``.
        seed: 64-bit. first_sample: number of the first row, below 2^63.
        save_at: times to keep, running the grid's way; one that equals a grid time up to rounding
            (of its dtype, if it is a tensor) is that grid time. Between grid times the Brownian
            path is drawn from its bridge given the step's ends, and the method steps to it from
            the left.
        functionals: running functionals of each path by name, ``TimeIntegral``, ``Maximum``,
            ``Minimum``, ``FirstPassage`` or your own ``Functional``.
        stop: a function of (t, x) that gives one boolean a path, (B,); a path stays where it is
            from the first grid time at which it is true.
        antithetic: samples 2i and 2i + 1 are a pair that shares its noise with opposite signs.
        backend: "auto", "numba", "triton" or "torch".
        fuse: None lets conditions decide; True raises where the trajectory cannot be one kernel;
            False goes step by step.
        max_memory: bytes of working memory (the result apart); a larger batch is solved in pieces,
            with the same bits for an equation that treats each sample by itself. Step by step,
            equations with one parameter a sample cannot be cut.
        progress: show a bar.

    Returns:
        A ``Solution``. A sample that leaves the finite numbers has status NONFINITE and its step in
        ``stats.nonfinite_step``; the others are not touched by it.

    Raises:
        TypeError: x0 no floating tensor, an equation without the two methods, times no numbers.
        ValueError: x0 not finite or 0-d, an impossible grid or ``save_at``, an unknown method or
            backend, a method that does not take this equation, and what ``Equation`` refuses.
        RuntimeError: a backend asked for by name that cannot run on x0's device; ``fuse=True``
            where a step cannot be traced.
    """
    equation = Equation(sde)
    solver = get_solver(method, equation)
    check_state(x0)
    resolve_backend(backend, x0.device)
    check_functionals(functionals, stop)
    own: OwnTimes | None = None
    if times is None and has_own_times(t0, t1, steps):
        if save_at is not None:
            raise ValueError(
                "save_at needs one grid for all samples, but t0, t1 or steps has one entry a "
                "sample: keep running functionals instead, or solve the samples apart"
            )
        own, grid, ends = make_own_times(t0, t1, steps, x0, equation.time_direction)
    else:
        grid = make_grid(t0, t1, steps, times, equation.time_direction)
    saved = None if save_at is None else as_times("save_at", save_at)
    saves = Saves({}, set())
    if saved is not None:
        saves = locate_saves(saved, grid, time_rounding(save_at, times))
    _check_finite(x0)
    first_sample = check_int_range("first_sample", first_sample, 0, (1 << 63) - x0.shape[0] + 1)
    seed = check_int_range("seed", seed, -(1 << 63), 1 << 64)
    rows = _rows_in(max_memory, x0)
    transition = Transition(equation, solver, functionals or {}, stop, own is not None)
    start = own.t0 if own is not None else _first_time(grid, x0)
    path, program = choose_path(transition, x0, start, own, backend, fuse, antithetic)
    run = Run(transition, path.name, path.backend, grid, saves, saved is not None, seed, antithetic)
    if program is not None:
        equation.check_additive(start, x0)
    pieces = _pieces(run, program, x0, first_sample, own, rows, progress)
    x = torch.cat([p.x for p in pieces], dim=0 if saved is None else 1)
    bad = torch.cat([p.bad for p in pieces])
    follow = [torch.cat(parts) for parts in zip(*(p.follow for p in pieces), strict=True)]
    status = torch.where(bad >= 0, NONFINITE, FINISHED).to(torch.int8)
    stop_time: Tensor | None = None
    if stop is not None:
        met, stop_time, *follow = follow
        status = torch.where((met != 0) & (bad < 0), STOPPED, status).to(torch.int8)
    n = len(grid) - 1
    stats = SolveStats(
        method=solver.name,
        path=path.name,
        backend=path.backend,
        reason=path.reason,
        steps=n,
        drift_evaluations=solver.drift_evaluations
        * (n + sum(len(inside) for inside in saves.inside.values())),
        nonfinite_step=bad,
    )
    if own is not None:
        t = ends
    else:
        t = torch.tensor([grid[-1]] if saved is None else saved, dtype=torch.float64)
        t = t if saved is not None else t[0]
    values = MappingProxyType(dict(zip(transition.functionals, follow, strict=True)))
    return Solution(x, t, status, stats, values, stop_time)


def _pieces(
    run: Run,
    program: Any,
    x0: Tensor,
    first_sample: int,
    own: OwnTimes | None,
    rows: int,
    progress: bool,
) -> list[Piece]:
    """The batch in pieces of ``rows`` samples."""
    batch = x0.shape[0]
    if batch == 0 or x0.numel() == 0:
        start = _first_time(run.grid, x0) if own is None else own.t0
        empty = x0.new_empty((run.saved, *x0.shape)) if run.keep else x0.clone()
        follow = run.transition.start(start, x0)[1:]
        return [Piece(empty, follow, torch.full((batch,), -1, device=x0.device))]
    parts = [slice(r0, min(r0 + rows, batch)) for r0 in range(0, batch, rows)]
    if program is None:
        return [
            run_stepwise(
                run,
                x0[part],
                first_sample + part.start,
                None if own is None else own.rows(part.start, part.stop),
                progress,
            )
            for part in parts
        ]
    from sdekit.solve.trajectory import run_trajectories

    pieces = []
    for part in parts:
        piece_times = None if own is None else own.rows(part.start, part.stop)
        first = first_sample + part.start
        with _bar(len(run.grid) - 1, progress) as bar:
            x = x0[part].detach()
            pieces.append(run_trajectories(run, program, x, first, part, piece_times, bar))
    return pieces


@contextmanager
def _bar(n: int, progress: bool) -> Iterator[Any]:
    """A progress bar over n steps, or None."""
    if not progress:
        yield None
        return
    from tqdm.auto import tqdm

    with tqdm(total=n, desc="solve", unit="step") as bar:
        yield bar


def _first_time(grid: list[float], x0: Tensor) -> Tensor:
    return torch.tensor(grid[0], dtype=compute_dtype(x0.dtype), device=x0.device)


def _check_finite(x0: Tensor) -> None:
    finite = torch.isfinite(x0).reshape(x0.shape[0], -1).all(1) if x0.numel() else None
    if finite is not None and not bool(finite.all()):
        row = int((~finite).nonzero()[0, 0])
        raise ValueError(f"x0 must be finite, but sample {row} is not: drop it, or mend the data")


def _rows_in(max_memory: int | None, x0: Tensor) -> int:
    """Samples that a piece of the batch may have."""
    batch = max(x0.shape[0], 1)
    if max_memory is None:
        return batch
    budget = check_int_range("max_memory", max_memory, 1, 1 << 63)
    sample = _WORKING_COPIES * x0.element_size() * max(x0[:1].numel(), 1)
    if budget < sample:
        raise ValueError(
            f"max_memory = {budget} bytes is too small: one sample needs about {sample} bytes"
        )
    return min(batch, budget // sample)
