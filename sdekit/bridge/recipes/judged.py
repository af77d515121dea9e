"""How good the images are that a bridge makes of held-out ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sdekit.bridge.driver import Driver
from sdekit.bridge.grid import DIRECTIONS, Direction
from sdekit.bridge.recipes.images import ImageRecipe, arrivals
from sdekit.bridge.recipes.law import StandardNormal
from sdekit.quality import FeatureRecipe, digit_features, image_quality

BATCH = 100
"""Images that go through a bridge at a time."""


def judged(
    recipe: ImageRecipe,
    bridge: Driver,
    *,
    n: int = 500,
    features: FeatureRecipe | None = None,
    folder: Path | None = None,
) -> dict[str, Any]:
    """Numbers of the arrivals from n held-out images (or draws), for each direction by name.

    Of a direction that arrives at a labelled data set: ``image_quality`` of the arrivals against
    the held-out images there, "samples" beside "real", as many training images, and "reference",
    what the reference alone makes of the same images. moved: root mean square over pixels of the
    way from an image to its arrival.
    features, folder: another recipe of the network whose features are compared, and another place
    for its weights.
    """
    device = bridge.transport.ends[0].like.device
    held = recipe.held_out(n, device)
    out: dict[str, Any] = {}
    for way in fitted(bridge):
        k = DIRECTIONS.index(way)
        data, x = recipe.data()[1 - k], held[k]
        arrived = torch.cat([arrivals(bridge, some, way) for some in x.split(BATCH)])
        numbers: dict[str, Any] = {"moved": moved(x, arrived)}
        if data is not None and data.train_labels is not None:
            made = digit_features(data, features, folder=folder)
            numbers |= image_quality(arrived.cpu(), data, features=made)
            alone = image_quality(_reference(recipe, x).cpu(), data, features=made)
            numbers["reference"] = alone["samples"]
        out[way] = numbers
    return out


def fitted(bridge: Driver) -> list[Direction]:
    """The directions that have been fitted so far."""
    done = {bridge.direction(n) for n in range(1, bridge.half_step + 1)}
    ways: list[Direction] = ["forward", "backward"]
    return [way for way in ways if way in done or (done and bridge.one_net)]


def moved(x: Tensor, arrived: Tensor) -> float:
    """Root mean square over samples and components of what lies between."""
    return float((arrived - x).double().square().mean().sqrt())


def _reference(recipe: ImageRecipe, x: Tensor) -> Tensor:
    """x after sigma W_1."""
    noise = StandardNormal(tuple(x.shape[1:])).sample(len(x), seed=recipe.seed + 1)
    return x + recipe.sigma * noise.to(x)
