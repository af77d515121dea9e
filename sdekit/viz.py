"""Pictures: grids of samples, samples along the reverse time, paths over their law, histograms.

matplotlib is imported when the first picture is drawn, and drawn without a display (Agg). Each
function writes one PNG file, whole or not at all, and returns its path. Images are (N, H, W),
(N, 1, H, W) or, in colours, (N, 3, H, W), on the CPU.
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

from sdekit.files import write_atomically
from sdekit.likelihood.variational import RateDistortion
from sdekit.sde import OU
from sdekit.solve import solve

PathLike = str | os.PathLike[str]

_BLUE, _RED, _GREY = "#2563a8", "#c2410c", "#6b7280"


def tile(images: Tensor, columns: int, *, pad: int = 1, value: float = 0.0) -> Tensor:
    """Images side by side, row by row, with ``pad`` pixels of ``value`` around each.

    Returns (H, W), or (H, W, 3) for colours. Raises ValueError for images of another number of axes
    or channels.
    """
    images = _flat(images)
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
        height, width = images.shape[-2:]
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
    height, width = states.shape[-2:]
    axis = figure.subplots()
    _show(axis, tile(columns, count, value=limits[0]), limits)
    for k, t in enumerate(times):
        centre = 1 + k * (width + 1) + width / 2 - 0.5
        axis.text(centre, -0.15 * height, f"t = {t:.2g}", ha="center", va="bottom", fontsize=8)
    return _save(figure, path)


def columns_of_images(
    path: PathLike, columns: Mapping[str, Tensor], *, limits: tuple[float, float]
) -> Path:
    """Images under titles, a column for each title and a row for each sample.

    columns: title to images (B, H, W) or (B, 1 or 3, H, W). limits: the values of white and
    black.
    """
    sets = [images.detach().cpu().double() for images in columns.values()]
    count, rows = len(sets), len(sets[0])
    figure = _figure(max(0.62 * count, 1.6), 0.62 * rows + 0.3)
    states = torch.stack(sets, 1).flatten(0, 1)
    height, width = states.shape[-2:]
    axis = figure.subplots()
    _show(axis, tile(states, count, value=limits[0]), limits)
    for k, title in enumerate(columns):
        centre = 1 + k * (width + 1) + width / 2 - 0.5
        axis.text(centre, -0.1 * height, title, ha="center", va="bottom", fontsize=7)
    return _save(figure, path)


def rate_distortion(path: PathLike, curve: RateDistortion, *, unit: str = "") -> Path:
    """Distortion and rate by reverse step, and distortion against rate (Ho et al. 2020, fig. 5).

    unit: what the distortion is measured in, for its axis.
    """
    figure = _figure(9.0, 2.8)
    left, middle, right = figure.subplots(1, 3)
    levels = curve.levels.cpu()
    step = levels[0].item() - levels.numpy() + 1
    rate, distortion = curve.rate.cpu().numpy(), curve.distortion.cpu().numpy()
    name = f"distortion, RMSE{f' ({unit})' if unit else ''}"
    rate_name = "rate, bits per dimension"
    left.plot(step, distortion, color=_BLUE, lw=1.6)
    left.set(xlabel="reverse steps", ylabel=name)
    middle.plot(step, rate, color=_BLUE, lw=1.6)
    middle.set(xlabel="reverse steps", ylabel=rate_name)
    right.plot(rate, distortion, color=_BLUE, lw=1.6)
    right.set(xlabel=rate_name, ylabel=name)
    if curve.lossless is not None:
        # The last stretch is the decoder's: from x_1 to the integers themselves.
        ends = [float(rate[-1]), curve.lossless], [float(distortion[-1]), 0.0]
        right.plot(
            *ends, color=_GREY, lw=1.0, ls=":", marker="o", markevery=[1], ms=4, clip_on=False
        )
        right.set_title(f"lossless: {curve.lossless:.3g} bits per dimension", fontsize=9)
    for axis in (left, middle, right):
        axis.set_ylim(bottom=0.0)
        _open_frame(axis)
    return _save(figure, path)


def clouds(path: PathLike, groups: Mapping[str, Tensor]) -> Path:
    """Points of the plane (N, 2) side by side, each set under its title, on the same axes."""
    figure = _figure(3.2 * len(groups), 3.4)
    axes = figure.subplots(1, len(groups), squeeze=False)[0]
    points = {title: x.detach().cpu().double() for title, x in groups.items()}
    together = torch.cat(list(points.values()))
    low, high = together.amin(0), together.amax(0)
    room = 0.05 * (high - low).clamp(min=1e-6)
    limits = torch.stack([low - room, high + room]).T.tolist()
    for axis, (title, x) in zip(axes, points.items(), strict=True):
        axis.scatter(x[:, 0].numpy(), x[:, 1].numpy(), s=2, color=_BLUE, alpha=0.5, lw=0)
        axis.set(xlim=limits[0], ylim=limits[1], aspect="equal")
        axis.set_title(title, fontsize=9)
        _open_frame(axis)
    return _save(figure, path)


def curve(path: PathLike, values: Sequence[float], *, x: str, y: str) -> Path:
    """A noisy series and its running mean over a fiftieth of it."""
    figure = _figure(6.4, 3.2)
    axis = figure.subplots()
    width = max(1, len(values) // 50)
    series = torch.tensor(list(values), dtype=torch.float64)
    means = series.unfold(0, width, 1).mean(1)
    axis.plot(range(1, len(series) + 1), series.numpy(), color=_BLUE, lw=0.4, alpha=0.4)
    # Each mean over the middle of its steps, or the curve would lag behind.
    middle = torch.arange(len(means)) + 0.5 * (width + 1)
    axis.plot(middle.numpy(), means.numpy(), color=_BLUE, lw=1.6)
    axis.set(xlabel=x, ylabel=y)
    _open_frame(axis)
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


def likelihood_histogram(
    path: PathLike, groups: Mapping[str, Tensor], *, what: str = "image"
) -> Path:
    """Histograms of log-likelihoods (N,), a colour for each group; coarser for few of one group.

    what: one of them, for the axes.
    """
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
    article = "an" if what[0] in "aeiou" else "a"
    axis.set(xlabel=f"log-likelihood of {article} {what}, nats", ylabel=f"{what}s")
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
    if picture.ndim == 3:
        axis.imshow(
            ((picture - low) / (high - low)).clamp(0.0, 1.0).numpy(), interpolation="nearest"
        )
    else:
        axis.imshow(picture.numpy(), cmap="gray_r", vmin=low, vmax=high, interpolation="nearest")
    axis.set_axis_off()


def _flat(images: Tensor) -> Tensor:
    """Images as (N, H, W), or (N, H, W, 3) if they have colours; raises ValueError for others."""
    images = images.detach().cpu()
    if images.ndim == 4 and images.shape[1] == 1:
        return images[:, 0]
    if images.ndim == 4 and images.shape[1] == 3:
        return images.permute(0, 2, 3, 1)
    if images.ndim != 3:
        raise ValueError(
            f"images must be (N, H, W), (N, 1, H, W) or (N, 3, H, W), got {tuple(images.shape)}"
        )
    return images


def _open_frame(axis: Any) -> None:
    axis.spines[["top", "right"]].set_visible(False)


def _save(figure: Any, path: PathLike) -> Path:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    write_atomically(Path(path), buffer.getvalue())
    return Path(path)
