"""``sdekit bridge``: a recipe's fit in a folder, its pictures and its numbers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from sdekit_kernels.checks import check_int_range, check_positive

from sdekit import viz
from sdekit.bridge.driver import Driver
from sdekit.bridge.recipes import RECIPES, Recipe, recipe
from sdekit.bridge.recipes.gaussian import Gaussians
from sdekit.bridge.recipes.images import ImageRecipe
from sdekit.bridge.state import BridgeState
from sdekit.cli.bridge_images import ImageReport
from sdekit.cli.bridge_notes import Notes
from sdekit.cli.bridge_reports import (
    GaussianReport,
    PlaneReport,
    Report,
    measure_rows,
    plain_states,
)
from sdekit.cli.commands import check_device, check_seed, first_process
from sdekit.cli.errors import output_folder
from sdekit.cli.report import table, write_json
from sdekit.viz.bridges import plot_measures

RECIPE_HELP: Final = f"{', '.join(RECIPES)}."
ALGORITHM_HELP: Final = "dsb or dsbm; the recipe's own."


@dataclass(frozen=True, slots=True)
class BridgeOptions:
    """The options of the command, see ``sdekit bridge --help``."""

    recipe: str
    out: Path
    algorithm: str | None = None
    half_steps: int | None = None
    steps: int | None = None
    quality: bool = True
    save_seconds: float = 60.0
    device: str = "cpu"
    seed: int = 0


def bridge_command(options: BridgeOptions) -> None:
    """Fit; write pictures, numbers.json and the checkpoint. Wrong values are refused first.

    The same command goes on from its folder, and more half-steps continue a fit that is done.
    """
    device = check_device(options.device)
    chosen = recipe_of(options)
    check_positive("--save-seconds", options.save_seconds, allow_zero=True)
    viz.require_matplotlib()
    output_folder(options.out)
    report, notes = _report(chosen, options), Notes(options.out)
    driver = chosen.driver(device)

    def keep(state: BridgeState) -> None:
        if first_process():
            notes.write(state.half_step, report.note(driver))

    # Adam's averages decay into subnormal numbers, which the processor handles in microcode.
    torch.set_flush_denormal(True)
    try:
        driver.fit(
            folder=options.out,
            save_seconds=options.save_seconds,
            progress=first_process(),
            callbacks=[keep],
        )
    finally:
        torch.set_flush_denormal(False)
    if not first_process():
        return
    if driver.half_step and not notes.has(driver.half_step):
        # It was stopped between its checkpoint and its note.
        keep(driver.states[-1])
    _write(driver, chosen, report, notes, options.out)


def recipe_of(options: BridgeOptions) -> Recipe:
    """The recipe with what the options change; raises TypeError or ValueError for bad values."""
    numbers: dict[str, Any] = {"seed": check_seed(options.seed)}
    if options.half_steps is not None:
        numbers["half_steps"] = check_int_range("--half-steps", options.half_steps, 1, 1 << 13)
    chosen = recipe(options.recipe, options.algorithm, **numbers)
    if options.steps is None:
        return chosen
    return chosen.shortened(check_int_range("--steps", options.steps, 1, 1 << 31))


def _report(chosen: Recipe, options: BridgeOptions) -> Report:
    if isinstance(chosen, ImageRecipe):
        return ImageReport(chosen, quality=options.quality)
    if isinstance(chosen, Gaussians):
        return GaussianReport(chosen)
    return PlaneReport(chosen)


def _write(driver: Driver, chosen: Recipe, report: Report, notes: Notes, out: Path) -> None:
    """Pictures, numbers, tables."""
    known = notes.read(driver.half_step)
    rows, numbers, files = report.finish(driver, known, out)
    if any(state.measures.change is not None for state in driver.states):
        files.append(Path(plot_measures(driver.states, out / "measures.png")))
    seconds = sum(sum(state.seconds.values()) for state in driver.states)
    write_json(
        out / "numbers.json",
        {
            "recipe": chosen.numbers(),
            "seconds": seconds,
            "half_steps": plain_states(driver.states),
            **numbers,
        },
    )
    names = ", ".join(path.name for path in [*files, out / "numbers.json"])
    table(
        f"bridge: {chosen.name}, {chosen.algorithm}",
        [
            ("half-steps", f"{driver.half_step}"),
            ("seconds", f"{seconds:.1f}"),
            *measure_rows(driver.states),
            *rows,
            ("checkpoint, pictures, numbers", str(out)),
            ("", names),
        ],
    )
