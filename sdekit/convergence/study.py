"""What strong and weak errors share: a method's ends on one path, and the ends they are held to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, NamedTuple

import torch
from sdekit_kernels.checks import check_float_tensor, check_int_range
from torch import Tensor

from sdekit.convergence.path import Path, draws_of, record, run
from sdekit.noise.increment import Increment, join
from sdekit.solve.transition import Transition
from sdekit.solvers import Equation, Solver, get_solver

__all__ = ["Ends", "Reference", "transition_of", "walk"]

Reference = str | Solver | Callable[[Increment], Tensor] | None
"""A method, a function of the path that gives the solution at t1, or None: the method itself."""


class Ends(NamedTuple):
    """States at t1: of the method at each number of steps, and of the reference."""

    method: str
    at: tuple[Tensor, ...]
    reference: Tensor


def transition_of(sde: Equation, method: str | Solver, t0: float, x: Tensor) -> Transition:
    """The step of a method by name, or of a method of one's own, checked on x."""
    start = torch.full((), t0, dtype=x.dtype, device=x.device)
    solver = method
    if not isinstance(solver, Solver):
        solver = get_solver(method, sde, (start, x))[0]  # type: ignore[arg-type]
    transition = Transition(sde, solver, {}, None)
    transition.check(start, x)
    return transition


@torch.no_grad()
def walk(
    sde: Any,
    x0: Tensor,
    method: str | Solver,
    t0: float,
    t1: float,
    steps: Sequence[int],
    paths: int,
    seed: int,
    reference: Reference,
    refine: int,
) -> Ends:
    """Run the method at each number of steps, and its reference, on the same Brownian paths."""
    levels = check_levels(steps)
    refine = check_int_range("refine", refine, 1, 1 << 20)
    x = _states(x0, paths)
    equation = Equation(sde)
    transition = transition_of(equation, method, t0, x)
    finest, closed = max(levels), callable(reference) and not isinstance(reference, Solver)
    follow = None
    if not closed:
        given = transition.solver if reference is None else reference
        follow = transition_of(equation, given, t0, x)  # type: ignore[arg-type]
    # A closed form may want whatever the path has.
    beside = ("dw", "h") if follow is None else follow.solver.draws
    if follow is None and equation.noise_type == "general":
        beside = ("dw", "h", "area")
    draws = draws_of(transition.solver.draws, beside)
    path, end = record(transition, x, t0, t1, finest, 1 if closed else refine, draws, seed, follow)
    if closed:
        end = reference(reduce(join, path.steps))  # type: ignore[operator, misc]
    return Ends(transition.solver.name, ends_on(path, transition, x, levels), end)


def ends_on(
    path: Path, transition: Transition, x: Tensor, levels: Sequence[int]
) -> tuple[Tensor, ...]:
    """States at the path's end, of the method at each number of steps."""
    return tuple(run(transition, x, path.coarser(n)) for n in levels)


def check_levels(steps: Sequence[int]) -> tuple[int, ...]:
    """Numbers of steps that all divide the largest; ValueError otherwise, or for one only."""
    levels = tuple(check_int_range("steps", n, 1, 1 << 24) for n in steps)
    if len(set(levels)) < 2 or any(max(levels) % n for n in levels):
        raise ValueError(
            f"steps must be two or more numbers that divide the largest, got {levels}: write "
            "powers of two, (8, 16, 32, 64, 128)"
        )
    return levels


def _states(x0: Tensor, paths: int) -> Tensor:
    x = check_float_tensor("x0", x0)
    if x.ndim == 0 or x.shape[0] not in (1, paths):
        raise ValueError(
            f"x0 must have shape (1, D...) or ({paths}, D...) for {paths} paths, got "
            f"{tuple(x.shape)}"
        )
    return x.expand(paths, *x.shape[1:]).contiguous()


def check_batches(paths: int, batches: int, sde: Any) -> int:
    """How many groups the paths fall into; one where nothing is random."""
    paths = check_int_range("paths", paths, 1, 1 << 31)
    if getattr(sde, "deterministic", False):
        return 1
    batches = check_int_range("batches", batches, 1, paths + 1)
    if paths % batches or batches < 2:
        raise ValueError(
            f"batches must be two or more and divide the number of paths, got {batches} for "
            f"{paths} paths"
        )
    return batches
