"""The recipe of the feature network: what it is and how it is trained, all in this file.

A change of this file makes new features and thus other Fréchet distances: the weights that are kept
are named after a hash of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import sdekit_kernels
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, max_pool2d, silu
from torch.nn.utils import skip_init

from sdekit.data import Dataset, Jitter, permutation
from sdekit.noise import keys

__all__ = ["Classifier", "FeatureRecipe", "fit_classifier", "predict"]


@dataclass(frozen=True, slots=True)
class FeatureRecipe:
    """Numbers of the training: Adam, lr on half a cosine, images changed by ``Jitter``."""

    channels: tuple[int, int] = (24, 48)
    features: int = 64
    steps: int = 800
    batch: int = 64
    lr: float = 3e-3
    jitter: float = 0.8
    shift: float = 1.0
    seed: int = 0


class Classifier(nn.Module):
    """x (B, D...) in [-1, 1] to logits (B, classes), by way of ``features``, (B, F).

    Two convolutions of 3 x 3, each with SiLU and the maximum over 2 x 2, then two linear maps with
    SiLU between them; the features are what the last map sees. Weights start as He-scaled normals
    of the library's own noise.
    """

    def __init__(self, event_shape: Sequence[int], classes: int, recipe: FeatureRecipe) -> None:
        super().__init__()
        self.event_shape = tuple(event_shape)
        if len(self.event_shape) not in (2, 3) or min(self.event_shape[-2:]) < 4:
            raise ValueError(
                f"features are for images (H, W) or (C, H, W) from 4 x 4 on, got {event_shape}"
            )
        colours = self.event_shape[0] if len(self.event_shape) == 3 else 1
        height, width = self.event_shape[-2:]
        first, second = recipe.channels
        build: Any = skip_init
        self.first = build(nn.Conv2d, colours, first, 3, padding=1)
        self.second = build(nn.Conv2d, first, second, 3, padding=1)
        self.inner = build(nn.Linear, second * (height // 4) * (width // 4), recipe.features)
        self.last = build(nn.Linear, recipe.features, classes)
        with torch.no_grad():
            for i, layer in enumerate((self.first, self.second, self.inner, self.last)):
                shape = tuple(layer.weight.shape)
                z = sdekit_kernels.normal(shape, seed=recipe.seed, stream=keys.INIT + i)
                layer.weight.copy_(z * math.sqrt(2.0 / math.prod(shape[1:])))
                layer.bias.zero_()

    def features(self, x: Tensor) -> Tensor:
        """(B, D...) to (B, F)."""
        h = x.view(len(x), -1, *self.event_shape[-2:])
        h = max_pool2d(silu(self.first(h)), 2)
        h = max_pool2d(silu(self.second(h)), 2)
        return silu(self.inner(h.flatten(1)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, D...) to logits (B, classes)."""
        out: Tensor = self.last(self.features(x))
        return out


def unit(k: Tensor, levels: int) -> Tensor:
    """Grey levels 0..levels - 1 to [-1, 1]."""
    return k.float() * (2.0 / (levels - 1)) - 1.0


def fit_classifier(
    data: Dataset, recipe: FeatureRecipe, *, on_step: Callable[[int, int], None] | None = None
) -> Classifier:
    """Train on the training part of labelled integer data; the same weights for the same seed.

    on_step: called with (steps done, steps) after each. Raises ValueError for data without labels
    or without levels.
    """
    if data.train_labels is None or data.transform is None:
        raise ValueError(f"{data.name}: features need labels and integer grey levels to learn from")
    levels, n = data.transform.levels, len(data.train)
    batch = min(recipe.batch, n)
    net = Classifier(data.event_shape, int(data.train_labels.max()) + 1, recipe)
    jitter = Jitter(levels, recipe.jitter, final=0.5 * recipe.jitter, shift=recipe.shift)
    adam = torch.optim.Adam(net.parameters(), lr=recipe.lr, fused=True)
    for step in range(recipe.steps):
        epoch, place = divmod(step, n // batch)
        if place == 0:
            order = permutation(n, seed=recipe.seed, stream=keys.TRAIN, step=epoch)
        chosen = order[place * batch : (place + 1) * batch]
        way = step / recipe.steps
        for group in adam.param_groups:
            group["lr"] = recipe.lr * min(1.0, 20.0 * way + 0.05) * math.cos(0.5 * math.pi * way)
        moved = jitter(data.train[chosen], seed=recipe.seed, step=step, way=way)
        loss = cross_entropy(net(unit(moved, levels)), data.train_labels[chosen])
        adam.zero_grad(set_to_none=True)
        loss.backward()
        adam.step()
        if on_step is not None:
            on_step(step + 1, recipe.steps)
    return net.eval().requires_grad_(False)


@torch.no_grad()
def predict(net: Classifier, k: Tensor, levels: int) -> tuple[Tensor, Tensor]:
    """Features (N, F) and logits (N, classes) of grey levels (N, D...), 500 at a time."""
    parts = [net.features(unit(part, levels)) for part in k.split(500)]
    features = torch.cat(parts) if parts else torch.zeros((0, net.last.in_features))
    logits: Tensor = net.last(features)
    return features, logits
