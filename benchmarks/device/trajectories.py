"""Whole trajectories in one kernel: the goal's ensemble, and six equations up to 10^8 paths."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from benchmarks.checks import STANDARD_ERRORS, Reference, distance, ensemble_reference
from benchmarks.contenders import (
    EAGER,
    FUSED,
    STEPS,
    TORCHSDE,
    Missing,
    expected_seconds,
    prepare,
    same_noise,
    solve,
)
from benchmarks.device.context import Context
from benchmarks.device.record import Record
from benchmarks.rivals import eager_loop
from benchmarks.systems import GBM, OU, System
from benchmarks.systems import SYSTEMS as KINDS

GOAL, SYSTEMS = "trajectories, the goal", "trajectories, six equations"
COLUMNS = (
    "path: which one ran. error: mean and variance of the ensemble in standard errors. rounding: "
    "relative error of the first paths against float64 on the same noise; plain: that of plain "
    "torch in float32."
)
GOAL_TEXT = (
    "From the initial states to the last ones, on the host's clock, everything on the device, "
    "float32. aim_ms: at most. MiB: device memory at the peak beyond the initial states. " + COLUMNS
)
SYSTEMS_TEXT = (
    "The same for the equations of `benchmarks/systems.py` as the number of paths grows; "
    "Gsteps_s: 10^9 path-steps a second. steps_ms: sdekit step by step. eager_ms: a loop of plain "
    "torch. torchsde_ms: its `euler`, told the step. What would take longer than 2 s, or more "
    "memory than there is, is left out. " + COLUMNS
)
PATHS = tuple(10**k for k in (2, 3, 4, 5, 6, 7, 8))
RIVALS = {"steps": STEPS, "eager": EAGER, "torchsde": TORCHSDE}
PATIENCE = 2.0
CHECKED_PATHS, REFERENCE_PATHS = 1024, 100_000


def goal(context: Context, record: Record) -> None:
    """8,388,608 paths of the GBM in three components over 256 steps, and 10^7 paths of the OU."""
    for kind, paths, aim in ((GBM, 1 << 23, 15.0), (OU, 10**7, None)):
        system, paths = _system(context, kind), 5 if context.dry_run else paths
        run = prepare(FUSED, system, paths, context.backend)
        row, ok = _answer(context, system, run)
        ms = context.wall(run, 15)
        normals = paths * system.channels * system.steps
        record.row(
            GOAL,
            system=kind.name,
            paths=paths,
            steps=system.steps,
            **row,
            ok=ok,
            ms=ms.ms,
            aim_ms=aim,
            spread=ms.spread,
            Gnormals_s=normals / ms.ms / 1e6,
            MiB=context.peak_memory(run),
        )


def systems(context: Context, record: Record) -> None:
    """Every equation, every number of paths, every contender that can."""
    for kind in KINDS:
        system = _system(context, kind)
        done: dict[str, list[tuple[int, float]]] = {name: [] for name in (FUSED, *RIVALS)}
        for paths in (5,) if context.dry_run else PATHS:
            if not _fits(context, 4 * paths * (3 * system.dim + 4)):
                continue
            run = prepare(FUSED, system, paths, context.backend)
            row, ok = _answer(context, system, run)
            ms = context.wall(run, 5)
            done[FUSED].append((paths, ms.ms * 1e-3))
            record.row(
                SYSTEMS,
                system=kind.name,
                paths=paths,
                **row,
                ok=ok,
                ms=ms.ms,
                spread=ms.spread,
                Gsteps_s=paths * system.steps / ms.ms / 1e6,
                MiB=context.peak_memory(run),
                **{f"{n}_ms": _rival(context, system, paths, n, done[n]) for n in RIVALS},
            )


def _system(context: Context, kind: type[System]) -> System:
    """On the device; in a dry run a few steps of the same length."""
    system = kind(device=context.device)
    if context.dry_run:
        system.span, system.steps = 2 * system.span / system.steps, 2
    return system


def _fits(context: Context, size: float) -> bool:
    if context.dry_run:
        return True
    free, _ = torch.cuda.mem_get_info(context.device)
    return size < 0.8 * free


def _answer(
    context: Context, system: System, run: Callable[[], Any]
) -> tuple[dict[str, Any], bool]:
    """(columns about it, whether it is right)."""
    paths = 4 if context.dry_run else CHECKED_PATHS
    solution = solve(system, system.x0(paths), backend=context.backend)
    same = same_noise(system, solution.x, context.backend)
    error = distance(run(), _reference(context, system), system.steps)
    columns = {
        "path": solution.stats.path,
        "error": error,
        "rounding": same.error,
        "plain": same.plain,
    }
    return columns, error <= STANDARD_ERRORS and same.error <= same.limit


_references: dict[str, Reference] = {}


def _reference(context: Context, system: System) -> Reference:
    """Exact moments, or those of other paths of plain torch in float64."""
    exact = system.exact()
    if exact is None and system.name not in _references:
        torch.manual_seed(1)
        wide = system.to(torch.float64)
        paths = 2000 if context.dry_run else REFERENCE_PATHS
        _references[system.name] = ensemble_reference(eager_loop(wide, wide.x0(paths)))
    return exact if exact is not None else _references[system.name]


def _rival(
    context: Context, system: System, paths: int, name: str, done: list[tuple[int, float]]
) -> float | str:
    """Milliseconds, or why there are none."""
    expected = expected_seconds(done, paths)
    if expected > PATIENCE:
        return f"~{expected:.2g} s"
    # What its largest tensors need: noise, diffusion and products of both.
    if not _fits(context, 4.0 * paths * (6 * system.dim + 4 * system.dim * system.channels)):
        return "memory"
    try:
        run = prepare(RIVALS[name], system, paths, context.backend)
    except Missing:
        return "not installed"
    torch.manual_seed(0)
    error = distance(run(), _reference(context, system), system.steps)
    if not error <= STANDARD_ERRORS:
        return f"wrong: {error:.3g} s.e."
    ms = context.wall(partial(run), 3).ms
    done.append((paths, ms * 1e-3))
    return ms
