"""The solve step by step: one pass through memory for each operation, any equation."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from sdekit_kernels.dispatch import compute_dtype
from torch import Tensor

from sdekit.grid import Saves
from sdekit.noise.brownian import Brownian
from sdekit.solve.transition import OwnTimes, Transition

__all__ = ["Piece", "Run", "between", "brownian_of", "run_stepwise"]


class Run(NamedTuple):
    """Everything that a run over one piece of the batch needs to know.

    grid: t_0 .. t_N, or the numbers 0 .. N of the steps where each sample has its own times.
    keep: whether saved states are wanted rather than the last. path, backend: see ``Path``.
    refine: steps of the Brownian path for each step of the grid.
    """

    transition: Transition
    path: str
    backend: str
    grid: list[float]
    saves: Saves
    keep: bool
    seed: int
    antithetic: bool
    refine: int = 1

    @property
    def saved(self) -> int:
        """States to keep."""
        return len(self.saves.at_grid) + sum(map(len, self.saves.inside.values()))


class Piece(NamedTuple):
    """What a run gives: x (saved or last), what follows x at the end, first non-finite steps."""

    x: Tensor
    follow: tuple[Tensor, ...]
    bad: Tensor


def run_stepwise(
    run: Run, x: Tensor, first_sample: int, own: OwnTimes | None, progress: bool
) -> Piece:
    """Take the samples x, the first of which has this number, over the grid."""
    kept: list[Tensor] = []
    n = len(run.grid) - 1
    bad = torch.full((x.shape[0],), -1, dtype=torch.int64, device=x.device)
    # Times keep float32 at least: bfloat16 tells 256 times apart.
    times = torch.tensor(run.grid, dtype=compute_dtype(x.dtype), device=x.device)
    start = times[0] if own is None else own.t0
    run.transition.check(start, x)
    states = run.transition.start(start, x)
    path = brownian_of(run, start, x, first_sample)
    if 0 in run.saves.at_grid:
        kept.append(x)
    for k in _steps_with_bar(n, progress):
        if k in run.saves.inside:
            kept.extend(between(run, k, times, states, path))
        states = _step(run, k, times, states, path, own)
        bad = _mark_nonfinite(bad, k, states[0].detach())
        if k + 1 in run.saves.at_grid:
            kept.append(states[0])
    if not run.keep:
        return Piece(states[0], states[1:], bad)
    saved = torch.stack(kept) if kept else x.new_empty((0, *x.shape))
    return Piece(saved, states[1:], bad)


def brownian_of(run: Run, start: Tensor, x: Tensor, first_sample: int) -> Brownian:
    """The Brownian motion of the samples x, the first of which has this number."""
    return Brownian(
        run.transition.sde.channels(start, x),
        seed=run.seed,
        first_sample=first_sample,
        dtype=x.dtype,
        device=x.device,
        backend=run.backend,
        antithetic=run.antithetic,
    )


def _step(
    run: Run,
    k: int,
    times: Tensor,
    states: tuple[Tensor, ...],
    path: Brownian,
    own: OwnTimes | None,
) -> tuple[Tensor, ...]:
    transition = run.transition
    if run.path == "step_kernel":
        x = transition.solver.kernel_step(
            transition.sde,
            times[k],
            run.grid[k + 1] - run.grid[k],
            states[0],
            seed=run.seed,
            step=k,
            first_sample=path.first_sample,
            backend=run.backend,
        )
        return (x,)
    now: Mapping[str, Any]
    if own is not None:
        now = {"k": float(k), **own._asdict()}
    else:
        dt = run.grid[k + 1] - run.grid[k]
        now = {"t": times[k], "t_next": times[k + 1], "dt": dt, "root_dt": abs(dt) ** 0.5}
    draws = transition.solver.draws
    if transition.sde.deterministic:
        return transition(now, tuple(states[0].new_zeros(()) for _ in draws), states)
    if run.refine > 1:
        whole = run.grid[k + 1] - run.grid[k]
        return transition(now, path.over(k, whole, draws, run.refine), states)
    return transition(now, path.normals(k, draws), states)


def between(
    run: Run, k: int, times: Tensor, states: tuple[Tensor, ...], path: Brownian
) -> Iterator[Tensor]:
    """x at the saved times inside step k, from the step's left end."""
    t = run.saves.inside[k]
    transition, x = run.transition, states[0]
    left, dt = run.grid[k], run.grid[k + 1] - run.grid[k]
    elapsed, draws = [abs(s - left) for s in t], transition.solver.draws
    zeros = tuple(x.new_zeros(()) for _ in draws)
    still = transition.sde.deterministic
    parts: Iterator[Any] = path.parts(k, dt, elapsed, draws)
    for s, part in zip(t, [zeros] * len(t) if still else parts, strict=True):
        now = {"t": times[k], "t_next": torch.full_like(times[0], s), "dt": s - left}
        yield transition({**now, "root_dt": abs(s - left) ** 0.5}, part, states)[0]


def _mark_nonfinite(bad: Tensor, k: int, x: Tensor) -> Tensor:
    """``bad`` with k where a sample is not finite for the first time."""
    if x.device.type == "cpu" and math.isfinite(float(x.sum(dtype=compute_dtype(x.dtype)))):
        return bad  # one pass; a GPU would have to wait for the answer, so it looks at each sample
    finite = torch.isfinite(x).reshape(x.shape[0], -1).all(1)
    return torch.where(finite | (bad >= 0), bad, k)


def _steps_with_bar(n: int, progress: bool) -> Iterator[int]:
    """0, ..., n - 1, with a bar if asked for."""
    if not progress:
        yield from range(n)
        return
    from tqdm.auto import tqdm

    yield from tqdm(range(n), desc="solve", unit="step")
