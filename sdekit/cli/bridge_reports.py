"""What ``sdekit bridge`` draws and prints of bridges in the plane, and of all of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, final

import torch
from torch import Tensor

from sdekit import viz
from sdekit.bridge.driver import Driver
from sdekit.bridge.recipes import Recipe, fitted
from sdekit.bridge.recipes.gaussian import Gaussians
from sdekit.bridge.state import BridgeState
from sdekit.cli.bridge_notes import Note
from sdekit.cli.report import table

Rows = list[tuple[str, str]]
Finished = tuple[Rows, dict[str, Any], list[Path]]
"""Rows of the table, numbers for the JSON, and pictures that were written."""

POINTS: Final = 2_000
PATHS: Final = 60
SHOWN: Final = 5
"""Half-steps of which a picture shows something, besides the first and the last."""


class Report(ABC):
    """What a kind of recipe keeps after each half-step, and makes of it in the end."""

    @abstractmethod
    def note(self, driver: Driver) -> Note:
        """What the half-step that was done last leaves, by name."""

    @abstractmethod
    def finish(self, driver: Driver, notes: Mapping[int, Note], out: Path) -> Finished:
        """Pictures in ``out``, numbers, rows."""


@final
class PlaneReport(Report):
    """Points: where both directions arrive, their paths, and where each half-step arrived."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe

    def note(self, driver: Driver) -> Note:
        """Where held-out points arrive."""
        way = driver.direction(driver.half_step)
        device = driver.transport.ends[0].like.device
        x0, x1 = self.recipe.held_out(POINTS, device)
        return {way: driver.sample(x0 if way == "forward" else x1, direction=way)}

    def finish(self, driver: Driver, notes: Mapping[int, Note], out: Path) -> Finished:
        """samples.png, trajectories.png and half_steps.png."""
        device = driver.transport.ends[0].like.device
        x0, x1 = self.recipe.held_out(POINTS, device)
        names, arrived, paths = self.recipe.titles, {}, {}
        for way, x in fitted_ways(driver, x0, x1):
            states = driver.sample(x, direction=way, paths=True)
            begun, ended = names if way == "forward" else names[::-1]
            arrived[f"{ended}, from {begun}"] = states[-1]
            paths[f"{begun} to {ended}"] = states[:, :PATHS]
        sets = {names[0]: x0, names[1]: x1, **arrived}
        files = [
            viz.clouds(out / "samples.png", sets),
            viz.plane_paths(out / "trajectories.png", paths),
        ]
        by_n = {f"half-step {n}": x["forward"] for n, x in notes.items() if "forward" in x}
        if by_n:
            some = {title: by_n[title] for title in _some(list(by_n))}
            files.append(viz.clouds(out / "half_steps.png", {**some, names[1]: x1}))
        return [], {}, files


@final
class GaussianReport(Report):
    """Divergences of the fitted half-bridges, beside those of the exact iterates."""

    def __init__(self, recipe: Gaussians) -> None:
        self.recipe = recipe

    def note(self, driver: Driver) -> Note:
        """KL of the fitted half-bridge from the bridge, in nats."""
        return {"kl": torch.tensor(self.recipe.fitted_kl(driver), dtype=torch.float64)}

    def finish(self, driver: Driver, notes: Mapping[int, Note], out: Path) -> Finished:
        """divergence.png, and the table of all half-steps."""
        count = driver.half_step
        exact, limit = self.recipe.exact_kl(driver, count)
        nothing = torch.tensor(float("nan"))
        fitted = [float(notes.get(n, {"kl": nothing})["kl"]) for n in range(1, count + 1)]
        names = ("fitted", f"exact, {driver.grid.N} steps", "exact, continuous time")
        found = dict(zip(names, (fitted, exact, limit), strict=True))
        title = "KL(half-bridge | Schrödinger bridge) of both ends, nats"
        rows: list[tuple[str, ...]] = [("half-step", "direction", *names)]
        for n, values in enumerate(zip(fitted, exact, limit, strict=True), 1):
            rows.append((f"{n}", driver.direction(n), *(f"{v:.3e}" for v in values)))
        table(title, rows)
        print()
        file = viz.by_half_step(out / "divergence.png", found, y="KL from the bridge, nats")
        kl = dict(zip(("fitted", "exact", "continuous"), found.values(), strict=True))
        return [], {"kl": kl}, [file]


def fitted_ways(driver: Driver, x0: Tensor, x1: Tensor) -> list[tuple[str, Tensor]]:
    """The directions that have a fitted drift, each with the points from which it starts."""
    return [(way, x0 if way == "forward" else x1) for way in fitted(driver)]


def measure_rows(states: Sequence[BridgeState]) -> Rows:
    """How far from a bridge, after the last half-step."""
    if not states:
        return []
    last, rows = states[-1].measures, []
    for name in ("source", "target"):
        error = getattr(last, name)
        if error is not None:
            rows.append(
                (
                    f"sliced Wasserstein distance at the {name}",
                    f"{error.sliced:.4f} (two sets of its own draws: {error.floor:.4f})",
                )
            )
    if last.change is not None:
        told = f"{last.change.value:.4f} ± {last.change.std_error:.4f} nats"
        rows.append(("KL from the half-bridge before", told))
    if last.reversibility is not None:
        told = f"{last.reversibility.value:.3f} ± {last.reversibility.std_error:.3f} nats"
        rows.append(("forward from backward, both divergences", told))
    return rows


def plain_states(states: Sequence[BridgeState]) -> list[dict[str, Any]]:
    """States as plain values, the losses by their mean."""
    return [
        {
            "half_step": state.half_step,
            "direction": state.direction,
            "loss": state.loss,
            "measures": asdict(state.measures),
            "seconds": state.seconds,
        }
        for state in states
    ]


def _some(titles: list[str]) -> list[str]:
    """The first, the last, and some evenly between them."""
    if len(titles) <= SHOWN:
        return titles
    at = torch.linspace(0, len(titles) - 1, SHOWN).round().long().tolist()
    return [titles[k] for k in at]
