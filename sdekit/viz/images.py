"""Grids of images: (N, H, W), (N, 1, H, W) or, in colours, (N, 3, H, W)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from sdekit.viz.canvas import PathLike, flat, new_figure, save, show


def tile(images: Tensor, columns: int, *, pad: int = 1, value: float = 0.0) -> Tensor:
    """Images side by side, row by row, with ``pad`` pixels of ``value`` around each.

    Returns (H, W), or (H, W, 3) for colours. Raises ValueError for images of another number of axes
    or channels.
    """
    images = flat(images)
    n, height, width = images.shape[:3]
    rows = math.ceil(n / columns)
    size = (rows * (height + pad) + pad, columns * (width + pad) + pad)
    out = torch.full((*size, *images.shape[3:]), value, dtype=torch.float64)
    for i, image in enumerate(images):
        top = pad + (i // columns) * (height + pad)
        left = pad + (i % columns) * (width + pad)
        out[top : top + height, left : left + width] = image
    return out


def image_grids(
    path: PathLike, grids: Mapping[str, Tensor], *, columns: int = 10, limits: tuple[float, float]
) -> Path:
    """Sets of images side by side, each under its title; dark strokes on light paper.

    limits: the values of white and black. An image is 0.31 inches wide and high, however many there
    are: 46 dots for the 9 pixels of a digit and its frame.
    """
    most = max(len(images) for images in grids.values())
    columns = min(columns, most)
    rows = math.ceil(most / columns)
    figure = new_figure(0.31 * columns * len(grids), 0.31 * rows + 0.3)
    axes = figure.subplots(1, len(grids), squeeze=False)[0]
    for axis, (title, images) in zip(axes, grids.items(), strict=True):
        show(axis, tile(images.double(), columns, value=limits[0]), limits)
        axis.set_title(title, fontsize=9)
    return save(figure, path)


def ranked_images(
    path: PathLike,
    groups: Mapping[str, tuple[Tensor, Sequence[str]]],
    *,
    limits: tuple[float, float],
) -> Path:
    """A row of images for each group under its title, and under each image what is said of it.

    groups: title to (images, their texts). limits: the values of white and black.
    """
    columns = max(len(images) for images, _ in groups.values())
    # Not narrower than the longest title in its 9 points.
    figure = new_figure(max(0.62 * columns, 1.6), 1.15 * len(groups))
    axes = figure.subplots(len(groups), 1, squeeze=False)[:, 0]
    for axis, (title, (images, texts)) in zip(axes, groups.items(), strict=True):
        height, width = images.shape[-2:]
        show(axis, tile(images.double(), columns, value=limits[0]), limits)
        axis.set_title(title, fontsize=9)
        for k, text in enumerate(texts):
            centre = 1 + k * (width + 1) + width / 2 - 0.5
            axis.text(centre, height + 2.0, text, ha="center", va="top", fontsize=7)
    return save(figure, path)


def reverse_time(
    path: PathLike, states: Tensor, times: Sequence[float], *, limits: tuple[float, float]
) -> Path:
    """Samples (rows) from noise to data (columns): states (K, B, H, W) at K times."""
    count, rows = states.shape[:2]
    figure = new_figure(0.75 * count, 0.75 * rows + 0.4)
    columns = states.transpose(0, 1).flatten(0, 1).double()
    height, width = states.shape[-2:]
    axis = figure.subplots()
    show(axis, tile(columns, count, value=limits[0]), limits)
    for k, t in enumerate(times):
        centre = 1 + k * (width + 1) + width / 2 - 0.5
        axis.text(centre, -0.15 * height, f"t = {t:.2g}", ha="center", va="bottom", fontsize=8)
    return save(figure, path)


def columns_of_images(
    path: PathLike, columns: Mapping[str, Tensor], *, limits: tuple[float, float]
) -> Path:
    """Images under titles, a column for each title and a row for each sample.

    columns: title to images (B, H, W) or (B, 1 or 3, H, W). limits: the values of white and
    black.
    """
    sets = [images.detach().cpu().double() for images in columns.values()]
    count, rows = len(sets), len(sets[0])
    figure = new_figure(max(0.62 * count, 1.6), 0.62 * rows + 0.3)
    states = torch.stack(sets, 1).flatten(0, 1)
    height, width = states.shape[-2:]
    axis = figure.subplots()
    show(axis, tile(states, count, value=limits[0]), limits)
    for k, title in enumerate(columns):
        centre = 1 + k * (width + 1) + width / 2 - 0.5
        axis.text(centre, -0.1 * height, title, ha="center", va="bottom", fontsize=7)
    return save(figure, path)
