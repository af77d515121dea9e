"""What a solve is asked for, checked, and the way it goes; one piece of the batch on that way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from sdekit_kernels.checks import check_int_range
from sdekit_kernels.dispatch import compute_dtype, resolve_backend
from torch import Tensor

from sdekit.grid import Saves, as_times, locate_saves, make_grid, time_rounding
from sdekit.solve.choice import check_functionals, check_state, choose_path
from sdekit.solve.functionals import Functional
from sdekit.solve.kept import Kept
from sdekit.solve.own_times import has_own_times, make_own_times
from sdekit.solve.solution import SolveStats
from sdekit.solve.stepwise import Piece, Run, run_stepwise
from sdekit.solve.transition import OwnTimes, Transition
from sdekit.solvers import Equation, Solver, get_solver
from sdekit.solvers.stability import warn_if_unstable

__all__ = ["Plan", "make_plan", "run_part"]


class Plan(NamedTuple):
    """How a solve goes, whatever its batch.

    program: of the trajectory kernel; None goes step by step. own: times of samples that have their
    own. start: the first time, 0-d or (B,). t: ``Solution.t``. reason: for this path.
    """

    run: Run
    program: Any
    own: OwnTimes | None
    start: Tensor
    t: Tensor
    reason: str

    def stats(self, bad: Tensor) -> SolveStats:
        """What the solve did. bad: ``nonfinite_step``."""
        run, solver = self.run, self.run.transition.solver
        steps = len(run.grid) - 1
        inside = sum(map(len, run.saves.inside.values()))
        return SolveStats(
            method=solver.name,
            path=run.path,
            backend=run.backend,
            reason=self.reason,
            steps=steps,
            drift_evaluations=solver.drift_evaluations * (steps + inside),
            nonfinite_step=bad,
        )


def _check_alone(t0: Any, t1: Any, steps: Any) -> None:
    """Refuse times= beside another grid; what was left out has these values."""
    for name, given, left_out in (("t0", t0, 0.0), ("t1", t1, 1.0), ("steps", steps, 100)):
        if isinstance(given, Tensor) or given != left_out:
            raise ValueError(
                f"times= is the whole grid, but {name}={given} was given beside it: write "
                "times=... alone, or t0=, t1= and steps="
            )


def make_plan(
    sde: Any,
    x0: Tensor,
    t0: float | Tensor,
    t1: float | Tensor,
    steps: int | Tensor,
    *,
    times: Sequence[float] | Tensor | None = None,
    method: str = "euler_maruyama",
    seed: int = 0,
    save_at: Sequence[float] | Tensor | None = None,
    functionals: Mapping[str, Functional] | None = None,
    stop: Callable[[Tensor, Tensor], Tensor] | None = None,
    antithetic: bool = False,
    refine: int = 1,
    backend: str = "auto",
    fuse: bool | None = None,
) -> Plan:
    """The plan of a solve; arguments and errors are those of ``solve``."""
    equation = Equation(sde)
    if method != "auto":
        get_solver(method, equation)
    check_state(x0)
    resolve_backend(backend, x0.device)
    refine = check_int_range("refine", refine, 1, 1 << 16)
    check_functionals(functionals, stop)
    if times is not None:
        _check_alone(t0, t1, steps)
    own: OwnTimes | None = None
    if times is None and has_own_times(t0, t1, steps):
        if save_at is not None:
            raise ValueError(
                "save_at needs one grid for all samples, but t0, t1 or steps has one entry a "
                "sample: keep running functionals instead, or solve the samples apart"
            )
        own, grid, t = make_own_times(t0, t1, steps, x0, equation.time_direction)
    else:
        grid = make_grid(t0, t1, steps, times, equation.time_direction)
        t = torch.tensor(grid[-1], dtype=torch.float64)
    saves = Saves({}, set())
    if save_at is not None:
        saved = as_times("save_at", save_at)
        saves = locate_saves(saved, grid, time_rounding(save_at, times))
        t = torch.tensor(saved, dtype=torch.float64)
    _check_finite(x0)
    seed = check_int_range("seed", seed, -(1 << 63), 1 << 64)
    start = own.t0 if own is not None else _first_time(grid, x0)
    solver, took = get_solver(method, equation, (start, x0), bool(saves.inside))
    transition = Transition(equation, solver, functionals or {}, stop, own is not None)
    _check_steps(solver, equation, own, saves, refine)
    if x0.numel():
        warn_if_unstable(solver, equation, *_longest_step(own, grid, start, x0))
    path, program = choose_path(transition, x0, start, own, backend, fuse, antithetic, refine)
    run = Run(
        transition,
        path.name,
        path.backend,
        grid,
        saves,
        save_at is not None,
        seed,
        antithetic,
        refine,
    )
    if program is not None:
        transition.check(start, x0)
    return Plan(run, program, own, start, t, took + path.reason)


def run_part(
    plan: Plan,
    x: Tensor,
    part: slice,
    first_sample: int,
    progress: bool = False,
    kept: Kept | None = None,
) -> Piece:
    """Solve from x, which are samples ``part`` of the batch; first_sample: number of the first.

    kept: what becomes of the saved states of a trajectory kernel, if they are not to be returned.
    """
    own = None if plan.own is None else plan.own.rows(part.start, part.stop)
    if x.numel() == 0:
        start = plan.start if own is None else own.t0
        empty = x.new_empty((plan.run.saved, *x.shape)) if plan.run.keep else x.clone()
        follow = plan.run.transition.start(start, x)[1:]
        return Piece(empty, follow, torch.full((len(x),), -1, device=x.device))
    if plan.program is None:
        return run_stepwise(plan.run, x, first_sample, own, progress)
    from sdekit.solve.trajectory import run_trajectories

    with _bar(len(plan.run.grid) - 1, progress) as bar:
        x = x.detach()
        return run_trajectories(plan.run, plan.program, x, first_sample, part, own, bar, kept)


def _check_steps(
    solver: Solver,
    equation: Equation,
    own: OwnTimes | None,
    saves: Saves,
    refine: int,
) -> None:
    """Refuse steps that the method cannot make."""
    if saves.inside and not (solver.bridges or equation.deterministic):
        raise ValueError(
            f"{solver.name!r} makes whole steps only, but save_at asks for states between the "
            "grid's times: save at those, or give a grid that has the saved times, times=..."
        )
    if refine > 1 and own is not None:
        raise ValueError("refine needs one grid for all samples: write numbers for t0, t1, steps")


def _longest_step(
    own: OwnTimes | None, grid: list[float], start: Tensor, x0: Tensor
) -> tuple[float, Tensor, Tensor, int]:
    """(dt of the longest step, a first time, a state (1, D...), the number of steps).

    Of a grid for all samples the state farthest from zero of the first 64: there drifts are
    steepest. Where samples have their own times the one of the longest step.
    """
    if own is None:
        few = x0[:64].detach()
        row = int(few.reshape(len(few), -1).abs().amax(1).argmax())
        dt = max((b - a for a, b in pairwise(grid)), key=abs)
        return dt, start, few[row : row + 1], len(grid) - 1
    row = int(own.dt.abs().argmax())
    rows = slice(row, row + 1)
    return float(own.dt[row]), start[rows], x0[rows].detach(), int(own.steps[row])


def _first_time(grid: list[float], x0: Tensor) -> Tensor:
    return torch.tensor(grid[0], dtype=compute_dtype(x0.dtype), device=x0.device)


def _check_finite(x0: Tensor) -> None:
    finite = torch.isfinite(x0).reshape(x0.shape[0], -1).all(1) if x0.numel() else None
    if finite is not None and not bool(finite.all()):
        row = int((~finite).nonzero()[0, 0])
        raise ValueError(f"x0 must be finite, but sample {row} is not: drop it, or mend the data")


@contextmanager
def _bar(n: int, progress: bool) -> Iterator[Any]:
    """A progress bar over n steps, or None."""
    if not progress:
        yield None
        return
    from tqdm.auto import tqdm

    with tqdm(total=n, desc="solve", unit="step") as bar:
        yield bar
