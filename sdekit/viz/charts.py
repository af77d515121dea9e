"""Charts: points, series, paths over their law, histograms."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from sdekit.likelihood.variational import RateDistortion
from sdekit.sde import OU
from sdekit.solve import solve
from sdekit.viz.canvas import BLUE, GREY, RED, PathLike, new_figure, open_frame, save


def rate_distortion(path: PathLike, curve: RateDistortion, *, unit: str = "") -> Path:
    """Distortion and rate by reverse step, and distortion against rate (Ho et al. 2020, fig. 5).

    unit: what the distortion is measured in, for its axis.
    """
    figure = new_figure(9.0, 2.8)
    left, middle, right = figure.subplots(1, 3)
    levels = curve.levels.cpu()
    step = levels[0].item() - levels.numpy() + 1
    rate, distortion = curve.rate.cpu().numpy(), curve.distortion.cpu().numpy()
    name = f"distortion, RMSE{f' ({unit})' if unit else ''}"
    rate_name = "rate, bits per dimension"
    left.plot(step, distortion, color=BLUE, lw=1.6)
    left.set(xlabel="reverse steps", ylabel=name)
    middle.plot(step, rate, color=BLUE, lw=1.6)
    middle.set(xlabel="reverse steps", ylabel=rate_name)
    right.plot(rate, distortion, color=BLUE, lw=1.6)
    right.set(xlabel=rate_name, ylabel=name)
    if curve.lossless is not None:
        # The last stretch is the decoder's: from x_1 to the integers themselves.
        ends = [float(rate[-1]), curve.lossless], [float(distortion[-1]), 0.0]
        right.plot(
            *ends, color=GREY, lw=1.0, ls=":", marker="o", markevery=[1], ms=4, clip_on=False
        )
        right.set_title(f"lossless: {curve.lossless:.3g} bits per dimension", fontsize=9)
    for axis in (left, middle, right):
        axis.set_ylim(bottom=0.0)
        open_frame(axis)
    return save(figure, path)


def clouds(path: PathLike, groups: Mapping[str, Tensor]) -> Path:
    """Points of the plane (N, 2) side by side, each set under its title, on the same axes."""
    figure = new_figure(3.2 * len(groups), 3.4)
    axes = figure.subplots(1, len(groups), squeeze=False)[0]
    points = {title: x.detach().cpu().double() for title, x in groups.items()}
    together = torch.cat(list(points.values()))
    low, high = together.amin(0), together.amax(0)
    room = 0.05 * (high - low).clamp(min=1e-6)
    limits = torch.stack([low - room, high + room]).T.tolist()
    for axis, (title, x) in zip(axes, points.items(), strict=True):
        axis.scatter(x[:, 0].numpy(), x[:, 1].numpy(), s=2, color=BLUE, alpha=0.5, lw=0)
        axis.set(xlim=limits[0], ylim=limits[1], aspect="equal")
        axis.set_title(title, fontsize=9)
        open_frame(axis)
    return save(figure, path)


def curve(path: PathLike, values: Sequence[float], *, x: str, y: str) -> Path:
    """A noisy series and its running mean over a fiftieth of it."""
    figure = new_figure(6.4, 3.2)
    axis = figure.subplots()
    width = max(1, len(values) // 50)
    series = torch.tensor(list(values), dtype=torch.float64)
    means = series.unfold(0, width, 1).mean(1)
    axis.plot(range(1, len(series) + 1), series.numpy(), color=BLUE, lw=0.4, alpha=0.4)
    # Each mean over the middle of its steps, or the curve would lag behind.
    middle = torch.arange(len(means)) + 0.5 * (width + 1)
    axis.plot(middle.numpy(), means.numpy(), color=BLUE, lw=1.6)
    axis.set(xlabel=x, ylabel=y)
    open_frame(axis)
    return save(figure, path)


def ou_band(path: PathLike, *, paths: int = 24, steps: int = 400, seed: int = 0) -> Path:
    """Ornstein-Uhlenbeck paths from two starts over the analytic mean and its band of two stds."""
    sde = OU(theta=1.0, mu=0.0, sigma=0.8)
    horizon = 4.0
    grid = torch.linspace(0.0, horizon, steps + 1, dtype=torch.float64)
    starts = torch.tensor([2.0, -1.5], dtype=torch.float64)
    x0 = starts.repeat_interleave(paths // 2).view(-1, 1)
    sol = solve(sde, x0, t0=0.0, t1=horizon, steps=steps, seed=seed, save_at=grid)
    figure = new_figure(6.4, 3.6)
    axis = figure.subplots()
    for start, colour in zip(starts, (BLUE, RED), strict=True):
        law = sde.marginal(grid, start.expand(len(grid), 1))
        mean, std = law.mean[:, 0].numpy(), law.std[:, 0].numpy()
        t, mine = grid.numpy(), sol.x[:, (x0 == start)[:, 0], 0].numpy()
        axis.fill_between(t, mean - 2 * std, mean + 2 * std, color=colour, alpha=0.15, lw=0)
        axis.plot(t, mean, color=colour, lw=1.6)
        axis.plot(t, mine, color=colour, lw=0.5, alpha=0.6)
    axis.set(xlabel="t", ylabel="x", xlim=(0.0, horizon))
    axis.set_title("Ornstein-Uhlenbeck paths, analytic mean and ±2 standard deviations", fontsize=9)
    open_frame(axis)
    return save(figure, path)


def likelihood_histogram(
    path: PathLike, groups: Mapping[str, Tensor], *, what: str = "image"
) -> Path:
    """Histograms of log-likelihoods (N,), a colour for each group; coarser for few of one group.

    what: one of them, for the axes.
    """
    figure = new_figure(6.4, 3.6)
    axis = figure.subplots()
    values = {k: v[torch.isfinite(v)].double().numpy() for k, v in groups.items()}
    # Bins of one width for all groups, or the heights could not be compared.
    together = [v for group in values.values() for v in group]
    limits = (min(together), max(together)) if together else None
    # Groups may lie far apart, each in a small part of the axis.
    bins = 60 if len(groups) > 1 else min(60, max(8, math.ceil(2.0 * math.sqrt(len(together)))))
    for (name, group), colour in zip(values.items(), (BLUE, RED, GREY), strict=False):
        label = f"{name} ({len(group)})"
        axis.hist(group, bins=bins, range=limits, color=colour, alpha=0.65, label=label)
    article = "an" if what[0] in "aeiou" else "a"
    axis.set(xlabel=f"log-likelihood of {article} {what}, nats", ylabel=f"{what}s")
    axis.yaxis.get_major_locator().set_params(integer=True)
    axis.legend(frameon=False, fontsize=8)
    open_frame(axis)
    return save(figure, path)
