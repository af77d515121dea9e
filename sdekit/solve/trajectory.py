"""The solve as one kernel: each path in registers or cache from the first time to the last."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

import torch
from sdekit_kernels.fuse.launch import MAX_LAUNCH_STEPS, Launch
from sdekit_kernels.fuse.program import Program
from sdekit_kernels.fuse.run import run_trajectory
from sdekit_kernels.fuse.trace import trace_step
from sdekit_kernels.philox.normal import check_draw
from torch import Tensor

from sdekit.noise.increment import STREAMS
from sdekit.solve.kept import Kept, Saved
from sdekit.solve.stepwise import Piece, Run, between, brownian_of
from sdekit.solve.transition import OwnTimes, Transition

__all__ = ["run_trajectories", "slots_of", "trace_transition"]


def trace_transition(
    transition: Transition, states: tuple[Tensor, ...], t: Tensor, own: OwnTimes | None
) -> Program:
    """One step of the transition as a kernel's body, for states like these.

    Raises ``CannotFuse`` with what stands in the way.
    """
    x = states[0]
    first, *more = transition.channels(t, x)
    per_path = {} if own is None else own._asdict()
    owner = transition.sde.sde
    return trace_step(transition, states, first, transition.clock, per_path, more, owner)


def run_trajectories(
    run: Run,
    program: Program,
    x: Tensor,
    first_sample: int,
    rows: slice,
    own: OwnTimes | None,
    bar: Any,
    kept: Kept | None = None,
) -> Piece:
    """Take the samples x, which are ``rows`` of the whole batch, over the grid.

    bar: gets ``update(steps)`` after each launch, or None. kept: what becomes of the states at the
    saved times; without it they are the piece's x.
    """
    n, grid, batch = len(run.grid) - 1, run.grid, x.shape[0]
    times = torch.tensor(grid, dtype=program.dtype, device=x.device)
    start = times[0] if own is None else own.t0
    states = run.transition.start(start, x)
    flat = torch.cat([s.reshape(batch, -1).t() for s in states]).contiguous()
    bad = torch.full((batch,), -1, dtype=torch.int64, device=x.device)
    paths = [column[rows] for column in program.path_table()]
    columns = torch.stack(paths) if paths else flat.new_empty((0, batch))
    saved = Saved(run.saved if kept is None else 0, flat)
    kept = saved if kept is None else kept
    slot_of, inside = slots_of(run)
    if 0 in run.saves.at_grid:
        kept.put_first(x)
    work = flat.numel() + batch * len(program.body) // 8
    pace = _pace(n, work, bar is not None)
    halts = [*sorted(inside), n]  # the steps before which states between grid times are drawn
    k = 0
    while k < n:
        if k in inside:
            now = _unflatten(flat, states)
            path = brownian_of(run, start, x, first_sample)
            for j, state in enumerate(between(run, k, times, now, path)):
                kept.put(inside[k] + j, state)
        end = min(k + pace, halts[bisect_right(halts, k)])
        table, constants = program.table(_clock(run, times, k, end, own is not None), x.device)
        wanted = [slot_of.get(i, -1) for i in range(k, end)]
        slots, target, statistics = kept.of_launch(wanted, end == n)
        draw, *more = (
            check_draw(run.seed, STREAMS[name], k, first_sample, batch)
            for name in run.transition.solver.draws
        )
        run_trajectory(
            Launch(
                program,
                flat,
                table,
                constants,
                columns,
                bad,
                slots,
                target,
                draw,
                run.antithetic,
                tuple(more),
                statistics,
            ),
            run.backend,
        )
        if bar is not None:
            bar.update(end - k)
        k = end
    last = _unflatten(flat, states)
    if kept is not saved or not run.keep:
        return Piece(last[0], last[1:], bad)
    return Piece(saved.x(x), last[1:], bad)


def _pace(n: int, work: int, bar: bool) -> int:
    """Steps of one launch: whole groups of four, which share their noise.

    work: of one step, in numbers moved; eight operations count as one. Some 2^30 are a second or
    so on one core, after which Ctrl-C is heard; a bar moves more often.
    """
    return max(4, min(MAX_LAUNCH_STEPS, (1 << 30) // work, n // 64 if bar else n + 3) // 4 * 4)


def slots_of(run: Run) -> tuple[dict[int, int], dict[int, int]]:
    """The row of the saved states that step k fills, and the first that is filled inside it."""
    after: dict[int, int] = {}
    inside: dict[int, int] = {}
    row = 1 if 0 in run.saves.at_grid else 0
    for k in sorted({i - 1 for i in run.saves.at_grid if i > 0} | set(run.saves.inside)):
        if k in run.saves.inside:
            inside[k] = row
            row += len(run.saves.inside[k])
        if k + 1 in run.saves.at_grid:
            after[k] = row
            row += 1
    return after, inside


def _clock(run: Run, times: Tensor, k: int, end: int, own: bool) -> dict[str, Tensor]:
    """The numbers that change from step to step, of steps k .. end - 1."""
    if own:
        return {"k": torch.arange(k, end, dtype=times.dtype, device=times.device)}
    exact = torch.tensor(run.grid[k : end + 1], dtype=torch.float64)
    dt = exact.diff()
    return {
        "t": times[k:end],
        "t_next": times[k + 1 : end + 1],
        "dt": dt.to(times),
        "root_dt": dt.abs().sqrt().to(times),
    }


def _unflatten(flat: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """States as they were before they were laid out for the kernel."""
    sizes = [s[:1].numel() for s in states]
    return tuple(
        part.t().reshape(s.shape) for part, s in zip(flat.split(sizes), states, strict=True)
    )
