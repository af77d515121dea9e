"""What ``sdekit bridge`` draws and prints of bridges between images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, final

import torch
from torch import Tensor

from sdekit import viz
from sdekit.bridge.driver import Driver
from sdekit.bridge.recipes import arrivals, fitted, judged
from sdekit.bridge.recipes.images import ImageRecipe
from sdekit.bridge.recipes.judged import moved
from sdekit.cli.bridge_notes import Note
from sdekit.cli.bridge_reports import Finished, Report, Rows, fitted_ways

KEPT: Final = 64
"""Held-out images whose arrivals are kept of each half-step."""
COLUMNS: Final = 14
"""Of these, how many a picture shows."""
SQUARE: Final = 7
"""Rows and columns of a grid of samples."""
FRAMES: Final = 16
"""Images of the film."""
LIMITS: Final = (-1.0, 1.0)


@final
class ImageReport(Report):
    """Images over the half-steps, as the papers' figures have them, and how good the last are."""

    def __init__(self, recipe: ImageRecipe, *, quality: bool) -> None:
        self.recipe, self.quality = recipe, quality

    def note(self, driver: Driver) -> Note:
        """Where held-out images arrive, of each direction that the half-step changed."""
        x0, x1 = self._held(driver)
        changed = driver.direction(driver.half_step)
        ways = fitted_ways(driver, x0, x1)
        return {
            way: arrivals(driver, x, way) for way, x in ways if driver.one_net or way == changed
        }

    def finish(self, driver: Driver, notes: Mapping[int, Note], out: Path) -> Finished:
        """forward.png and backward.png over the half-steps; path.png, film.gif, samples.png."""
        x0, x1 = self._held(driver)
        files: list[Path] = []
        numbers: dict[str, Any] = {}
        rows: Rows = []
        sets: dict[str, Tensor] = {}
        for way, x in fitted_ways(driver, x0, x1):
            arrived = {n: note[way] for n, note in notes.items() if way in note}
            begun, ended = self.recipe.titles[:: 1 if way == "forward" else -1]
            shown = {begun: x.cpu()} | {f"half-step {n}": y for n, y in arrived.items()}
            few = {title: images[:COLUMNS] for title, images in shown.items()}
            files.append(viz.rows_of_images(out / f"{way}.png", few, limits=LIMITS))
            if arrived:
                sets[ended] = x1 if way == "forward" else x0
                sets[f"{ended}, from {begun}"] = arrived[max(arrived)]
            numbers[way] = {"moved": {n: moved(x.cpu(), y) for n, y in arrived.items()}}
        if sets:
            some = {title: images[: SQUARE**2] for title, images in sets.items()}
            files.append(viz.image_grids(out / "samples.png", some, columns=SQUARE, limits=LIMITS))
        files += self._paths(driver, x0, out)
        if self.quality:
            found = judged(self.recipe, driver)
            numbers["quality"] = found
            rows += quality_rows(found)
        return rows, numbers, files

    def _held(self, driver: Driver) -> tuple[Tensor, Tensor]:
        return self.recipe.held_out(KEPT, driver.transport.ends[0].like.device)

    def _paths(self, driver: Driver, x0: Tensor, out: Path) -> list[Path]:
        """Images on their way from source to target."""
        if "forward" not in fitted(driver):
            return []
        states = driver.sample(x0[:FRAMES], paths=True).cpu()
        at = torch.linspace(0, len(states) - 1, 9).round().long()
        times = driver.grid.times
        file = viz.reverse_time(
            out / "path.png", states[at, :6], [float(times[k]) for k in at], limits=LIMITS
        )
        return [file, viz.film(states, out / "film.gif", limits=LIMITS)]


def quality_rows(found: Mapping[str, Any]) -> Rows:
    """Distances and the classifier's view of where each direction arrives."""
    rows: Rows = []
    for way, numbers in found.items():
        rows.append((f"{way}: root mean square way of a pixel", f"{numbers['moved']:.3f}"))
        if "samples" not in numbers:
            continue
        mine, real, alone = (numbers[k] for k in ("samples", "real", "reference"))
        rows += [
            (
                f"  Fréchet distance to {numbers['n']} held-out images",
                f"{mine['frechet']:.2f} (training images: {real['frechet']:.2f}, the reference "
                f"alone: {alone['frechet']:.2f})",
            ),
            (
                "  classifier's confidence",
                f"{mine['confidence']:.3f} (training images: {real['confidence']:.3f}; it names "
                f"{100 * numbers['accuracy']:.1f} % of held-out images rightly)",
            ),
            (
                "  share of the least common class",
                f"{mine['classes']:.3f} (training images: {real['classes']:.3f})",
            ),
        ]
    return rows
