"""The bridges that are timed: Gaussians of the plane with networks of several widths, and MNIST."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import torch
from sdekit_kernels import normal
from torch import Tensor, nn

import sdekit as sk
from sdekit.bridge.unet import DriftUNet
from sdekit.data import load

GRID = 20
"""Steps of a path."""
PLANE_PATHS = 10_000
"""Of a cache, by default."""


class Size(NamedTuple):
    """Cached paths, steps of the regression, samples of each, and paths that are measured."""

    paths: int
    fits: int
    batch: int
    measured: int


@dataclass(frozen=True)
class Case:
    """Ends and a network; the size that is timed, and that of a half-step in earnest."""

    name: str
    ends: Callable[[], tuple[Tensor, Tensor]]
    net: Callable[[int], nn.Module]
    size: Size
    earnest: Size


def image_net(seed: int) -> nn.Module:
    """The library's U-Net for drifts, its output the drift itself."""
    return DriftUNet((28, 28), size="small", seed=seed)


def plane_ends() -> tuple[Tensor, Tensor]:
    """N(0, 1) and N(1, 1/4) in the plane."""
    source, target = (normal((PLANE_PATHS, 2), seed=seed) for seed in (1, 2))
    return source, 1.0 + 0.5 * target


@cache
def image_ends() -> tuple[Tensor, Tensor]:
    """A Gaussian, and real digits."""
    digits = load("mnist5k")
    images = digits.transform.forward(digits.train[:2000]).float().view(-1, 28, 28)
    return normal(tuple(images.shape), seed=3), images


@cache
def plane(width: int, *, trained: bool = True) -> Case:
    """The plane with ``DriftMLP`` of three layers; not trained: only so that it is not zero."""

    def net(seed: int) -> nn.Module:
        return sk.bridge.DriftMLP((2,), width=width, depth=3, seed=seed)

    name = f"2-D, DriftMLP of width {width}"
    timed = Size(PLANE_PATHS, 50, 512, 1_000) if trained else Size(PLANE_PATHS, 20, 512, 0)
    return Case(name, plane_ends, net, timed, Size(PLANE_PATHS, 2_000, 512, 1_000))


@cache
def images() -> Case:
    """28 x 28 digits with a U-Net of 0.3 M weights."""
    name = "MNIST, U-Net of 0.3 M weights"
    return Case(name, image_ends, image_net, Size(8, 5, 8, 4), Size(2_000, 1_000, 64, 100))


def times() -> Tensor:
    """The grid of all cases, on [0, 1]."""
    return torch.linspace(0.0, 1.0, GRID + 1)
