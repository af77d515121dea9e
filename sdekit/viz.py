"""Pictures: grids of samples, samples along the reverse time, paths over their law, histograms.

matplotlib is imported when the first picture is drawn, and drawn without a display (Agg). Each
function writes one PNG file, whole or not at all, and returns its path. Images are (N, H, W) on the
CPU.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sdekit.sde import OU
from sdekit.solve import solve
from sdekit.train.checkpoint import write_atomically

PathLike = str | os.PathLike[str]

_BLUE, _RED, _GREY = "#2563a8", "#c2410c", "#6b7280"


def tile(images: Tensor, columns: int, *, pad: int = 1, value: float = 0.0) -> Tensor:
    """Images (N, H, W) side by side, row by row, ``pad`` pixels of ``value`` around each."""
    n, height, width = images.shape
    rows = math.ceil(n / columns)
    out = torch.full(
        (rows * (height + pad) + pad, columns * (width + pad) + pad), value, dtype=torch.float64
    )
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
    figure = _figure(0.31 * columns * len(grids), 0.31 * rows + 0.3)
    axes = figure.subplots(1, len(grids), squeeze=False)[0]
    for axis, (title, images) in zip(axes, grids.items(), strict=True):
        _show(axis, tile(images.double(), columns, value=limits[0]), limits)
        axis.set_title(title, fontsize=9)
    return _save(figure, path)


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
    figure = _figure(max(0.62 * columns, 1.6), 1.15 * len(groups))
    axes = figure.subplots(len(groups), 1, squeeze=False)[:, 0]
    for axis, (title, (images, texts)) in zip(axes, groups.items(), strict=True):
        height, width = images.shape[1:]
        _show(axis, tile(images.double(), columns, value=limits[0]), limits)
        axis.set_title(title, fontsize=9)
        for k, text in enumerate(texts):
            centre = 1 + k * (width + 1) + width / 2 - 0.5
            axis.text(centre, height + 2.0, text, ha="center", va="top", fontsize=7)
    return _save(figure, path)


def reverse_time(
    path: PathLike, states: Tensor, times: Sequence[float], *, limits: tuple[float, float]
) -> Path:
    """Samples (rows) from noise to data (columns): states (K, B, H, W) at K times."""
    count, rows = states.shape[:2]
    figure = _figure(0.75 * count, 0.75 * rows + 0.4)
    columns = states.transpose(0, 1).flatten(0, 1).double()
    height, width = states.shape[2:]
    axis = figure.subplots()
    _show(axis, tile(columns, count, value=limits[0]), limits)
    for k, t in enumerate(times):
        centre = 1 + k * (width + 1) + width / 2 - 0.5
        axis.text(centre, -0.15 * height, f"t = {t:.2g}", ha="center", va="bottom", fontsize=8)
    return _save(figure, path)


def ou_band(path: PathLike, *, paths: int = 24, steps: int = 400, seed: int = 0) -> Path:
    """Ornstein-Uhlenbeck paths from two starts over the analytic mean and its band of two stds."""
    sde = OU(theta=1.0, mu=0.0, sigma=0.8)
    horizon = 4.0
    grid = torch.linspace(0.0, horizon, steps + 1, dtype=torch.float64)
    starts = torch.tensor([2.0, -1.5], dtype=torch.float64)
    x0 = starts.repeat_interleave(paths // 2).view(-1, 1)
    sol = solve(sde, x0, t0=0.0, t1=horizon, steps=steps, seed=seed, save_at=grid)
    figure = _figure(6.4, 3.6)
    axis = figure.subplots()
    for start, colour in zip(starts, (_BLUE, _RED), strict=True):
        law = sde.marginal(grid, start.expand(len(grid), 1))
        mean, std = law.mean[:, 0].numpy(), law.std[:, 0].numpy()
        t, mine = grid.numpy(), sol.x[:, (x0 == start)[:, 0], 0].numpy()
        axis.fill_between(t, mean - 2 * std, mean + 2 * std, color=colour, alpha=0.15, lw=0)
        axis.plot(t, mean, color=colour, lw=1.6)
        axis.plot(t, mine, color=colour, lw=0.5, alpha=0.6)
    axis.set(xlabel="t", ylabel="x", xlim=(0.0, horizon))
    axis.set_title("Ornstein-Uhlenbeck paths, analytic mean and ±2 standard deviations", fontsize=9)
    _open_frame(axis)
    return _save(figure, path)


def likelihood_histogram(path: PathLike, groups: Mapping[str, Tensor]) -> Path:
    """Histograms of log-likelihoods (N,), a colour for each group; coarser for few of one group."""
    figure = _figure(6.4, 3.6)
    axis = figure.subplots()
    values = {k: v[torch.isfinite(v)].double().numpy() for k, v in groups.items()}
    # Bins of one width for all groups, or the heights could not be compared.
    together = [v for group in values.values() for v in group]
    limits = (min(together), max(together)) if together else None
    # Groups may lie far apart, each in a small part of the axis.
    bins = 60 if len(groups) > 1 else min(60, max(8, math.ceil(2.0 * math.sqrt(len(together)))))
    for (name, group), colour in zip(values.items(), (_BLUE, _RED, _GREY), strict=False):
        label = f"{name} ({len(group)})"
        axis.hist(group, bins=bins, range=limits, color=colour, alpha=0.65, label=label)
    axis.set(xlabel="log-likelihood of an image, nats", ylabel="images")
    axis.yaxis.get_major_locator().set_params(integer=True)
    axis.legend(frameon=False, fontsize=8)
    _open_frame(axis)
    return _save(figure, path)


def require_matplotlib() -> None:
    """Raises ModuleNotFoundError, with what to install, if matplotlib is missing."""
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'pictures need matplotlib, which is not installed: write pip install "sdekit[demo]"'
        ) from error


def _figure(width: float, height: float) -> Any:
    # A figure of its own, without pyplot: no global state, no window, no display needed.
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _show(axis: Any, picture: Tensor, limits: tuple[float, float]) -> None:
    low, high = limits
    axis.imshow(picture.numpy(), cmap="gray_r", vmin=low, vmax=high, interpolation="nearest")
    axis.set_axis_off()


def _open_frame(axis: Any) -> None:
    axis.spines[["top", "right"]].set_visible(False)


def _save(figure: Any, path: PathLike) -> Path:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    write_atomically(Path(path), buffer.getvalue())
    return Path(path)
