"""What a bridge carries from one end to the other: paths in the plane, images by half-step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from sdekit.viz.canvas import BLUE, GREY, RED, PathLike, new_figure, open_frame, save, show
from sdekit.viz.images import tile


def plane_paths(path: PathLike, groups: Mapping[str, Tensor]) -> Path:
    """Paths (K, B, 2) in the plane, each set under its title; grey where they begin, blue at the
    end.
    """
    given = {title: states.detach().cpu().double() for title, states in groups.items()}
    together = torch.cat([x.flatten(0, 1) for x in given.values()])
    wide, high = (together.amax(0) - together.amin(0)).clamp(min=1e-6).tolist()
    # As high as the points are for their width: axes of equal scale would leave the rest empty.
    figure = new_figure(3.6 * len(groups), 0.7 + 3.2 * min(2.0, max(0.3, high / wide)))
    axes = figure.subplots(1, len(groups), squeeze=False, sharex=True, sharey=True)[0]
    for axis, (title, x) in zip(axes, given.items(), strict=True):
        axis.plot(x[:, :, 0].numpy(), x[:, :, 1].numpy(), color=GREY, lw=0.4, alpha=0.35)
        for at, colour in ((0, GREY), (-1, BLUE)):
            ends = x[at].numpy()
            axis.scatter(ends[:, 0], ends[:, 1], s=7, color=colour, lw=0, zorder=3)
        axis.set_aspect("equal")
        axis.set_title(title, fontsize=9)
        open_frame(axis)
    return save(figure, path)


def rows_of_images(
    path: PathLike, rows: Mapping[str, Tensor], *, limits: tuple[float, float]
) -> Path:
    """Images (B, H, W) or (B, 1 or 3, H, W), a row for each title, which stands at its left.

    limits: the values of white and black. Raises ValueError for rows of different lengths.
    """
    given = [images.detach().cpu().double() for images in rows.values()]
    sets = [images.unsqueeze(1) if images.ndim == 3 else images for images in given]
    count = len(sets[0])
    if any(len(images) != count for images in sets):
        raise ValueError(f"rows must be of one length, got {[len(images) for images in sets]}")
    figure = new_figure(0.42 * count + 1.3, 0.42 * len(sets) + 0.1)
    axis = figure.subplots()
    show(axis, tile(torch.cat(sets), count, value=limits[0]), limits)
    height = sets[0].shape[-2]
    for k, title in enumerate(rows):
        middle = 1 + k * (height + 1) + height / 2 - 0.5
        axis.text(-0.3 * height, middle, title, ha="right", va="center", fontsize=7)
    return save(figure, path)


def by_half_step(path: PathLike, series: Mapping[str, Sequence[float]], *, y: str) -> Path:
    """Positive numbers of half-steps 1, 2, .., a line for each title, on a logarithmic axis."""
    figure = new_figure(6.4, 3.6)
    axis = figure.subplots()
    styles = ((BLUE, "o", "-"), (RED, ".", "-"), (GREY, "", ":"))
    for (title, values), (colour, marker, line) in zip(series.items(), styles, strict=False):
        steps = range(1, len(values) + 1)
        axis.plot(steps, list(values), color=colour, marker=marker, ls=line, ms=5, label=title)
    axis.set(xlabel="half-step", ylabel=y, yscale="log")
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.legend(frameon=False, fontsize=8)
    open_frame(axis)
    return save(figure, path)
