"""Whole attempts as the step of a trajectory kernel: every sample's ODE lives in registers.

``attempt`` is the same algorithm as in ``attempts.py``, on the tensors of one batch, and is traced
like the step of a solver. What the book holds is carried as numbers of the state's type beside y
and its slope. Samples that are done stand still until they leave, between two launches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from sdekit_kernels.fuse.launch import Launch
from sdekit_kernels.fuse.program import Program
from sdekit_kernels.fuse.refusal import CannotFuse
from sdekit_kernels.fuse.run import kernel_obstacle, run_trajectory
from sdekit_kernels.fuse.trace import trace_step
from sdekit_kernels.fuse.tracer import MAX_COMPONENTS
from sdekit_kernels.philox.normal import check_draw
from sdekit_kernels.steps.runge_kutta import RUNNING, Book, Rule, finish_torch, stage_torch
from torch import Tensor

from sdekit.ode.attempts import Batch, open_book
from sdekit.ode.tableau import Tableau

__all__ = ["run_trajectories", "trace_attempt"]

_ATTEMPTS: Final = 8
"""Of a launch: few enough that samples which are done do not stand idle for long."""


def trace_attempt(
    batch: Batch, tableau: Tableau, rule: Rule, owner: Any
) -> tuple[Program | None, str]:
    """(the program of one attempt, "") or (None, what stands in the way)."""
    if batch.backend == "torch":
        return None, "the torch backend has no kernels of whole paths"
    if batch.watched:
        return None, "accepted steps are wanted one by one"
    n = batch.y.shape[1]
    if 2 * n + len(Book._fields) > MAX_COMPONENTS:
        return None, f"a kernel's registers do not hold {n} components, their slopes and the book"

    def field(t: Tensor, y: Tensor) -> Tensor:
        return batch.field(t, y, batch.rows)

    rule = _as_parameters(rule, batch.y)

    def step(now: Mapping[str, Tensor], z: Any, states: Sequence[Tensor]) -> Sequence[Tensor]:
        y, slope, *book = states
        slopes, before, last = [slope], y, y
        held = Book(*book)
        for c, weights in zip(tableau.c, tableau.a, strict=True):
            before, last = last, stage_torch(y, slopes, weights, held.dt)
            slopes.append(field(held.t + c * held.dt, last))
        y, slope, held, _ = finish_torch(y, last, before, slopes, held, rule)
        return (y, slope, *held)

    y = batch.y
    states = [y, y, *(y[:, 0] for _ in Book._fields)]
    try:
        program = trace_step(step, states, (0,), ("k",), owner=owner)
    except CannotFuse as error:
        return None, str(error)
    obstacle = kernel_obstacle(program, batch.backend)
    return (None, obstacle) if obstacle else (program, "")


def _as_parameters(rule: Rule, y: Tensor) -> Rule:
    """The rule with tensors for numbers: another tolerance is no other kernel."""

    def number(value: float) -> Any:
        return torch.tensor(value, dtype=y.dtype, device=y.device)

    rest = rule.rest or (rule.rtol, rule.atol)
    return rule._replace(
        rtol=number(rule.rtol),
        atol=number(rule.atol),
        rest=(number(rest[0]), number(rest[1])),
        stops=tuple(map(number, rule.stops)),
        floor=number(rule.floor),
        max_steps=number(rule.max_steps),
    )


def run_trajectories(batch: Batch, tableau: Tableau, rule: Rule, program: Program) -> None:
    """Attempt steps until every sample has left; ``batch.status`` may be STIFF then."""
    if batch.rows.numel() == 0:
        return
    n = batch.y.shape[1]
    slope = batch.evaluate(batch.t, batch.y)
    book = open_book(batch, batch.y, slope, tableau, rule)
    dtype, device = batch.y.dtype, batch.y.device
    flat = torch.cat([batch.y.t(), slope.t(), torch.stack([v.to(dtype) for v in book])])
    columns = program.path_table()
    paths = torch.stack(columns) if columns else flat.new_empty((0, flat.shape[1]))
    clock = {"k": torch.zeros(_ATTEMPTS, dtype=dtype, device=device)}
    table, constants = program.table(clock, device)
    while True:
        held = Book(*flat[2 * n :])
        done = held.status != RUNNING
        if bool(done.any()):
            batch.leave(done, flat[:n].t(), held, tableau.stages)
            left = (~done).nonzero().squeeze(1)
            flat, paths = flat[:, left], paths[:, left]
        m = flat.shape[1]
        if m == 0:
            return
        flat, paths = flat.contiguous(), paths.contiguous()
        bad = torch.full((m,), -1, dtype=torch.int64, device=device)
        draw = check_draw(0, 0, 0, 0, m)
        launch = Launch(program, flat, table, constants, paths, bad, None, None, draw)
        run_trajectory(launch, batch.backend)
