"""The picture of ``docs/fokker_planck.md``: densities over ensembles of paths, in 1-D and 2-D.

Run ``python docs/pictures/fokker_planck.py``; it writes docs/images/fokker_planck.png.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import sdekit as sk

PATHS = 200_000
COLOURS = ("#2563a8", "#0f8a6d", "#c2410c", "#7c3aed")
INK = "#1f2937"
DOUBLE = torch.float64


class VanDerPol:
    """dq = v dt + 0.5 dW, dv = ((1 - q^2) v - q) dt + 0.5 dW'."""

    noise_type = "additive"

    def drift(self, t: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """The oscillator's force."""
        q, v = x[:, 0], x[:, 1]
        return torch.stack([v, (1.0 - q * q) * v - q], 1)

    def diffusion(self, t: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Of both components."""
        return torch.full((), 0.5, dtype=x.dtype)


def wells(axis: Any) -> None:
    """A double well from a point: four times, lines over histograms."""
    sde, x0, times = (
        sk.DoubleWell(1.0, 0.4),
        torch.tensor([0.15], dtype=DOUBLE),
        [0.05, 0.2, 0.6, 5],
    )
    grid = torch.linspace(-2.2, 2.2, 221, dtype=DOUBLE)
    density = sk.fokker_planck(sde, x0, grid, times)
    start = x0.float().expand(PATHS, 1)
    paths = sk.solve(sde, start, t1=5.0, steps=5000, save_at=times, seed=1).x[..., 0]
    found, bound = (
        density.total_variation(paths[..., None], bins=55),
        density.total_variation_bound(PATHS, bins=55),
    )
    bins = grid[::2]
    middles = 0.5 * (bins[1:] + bins[:-1])
    for k, (t, colour) in enumerate(zip(times, COLOURS, strict=True)):
        share = torch.histc(paths[k].double(), len(middles), -2.2, 2.2) / PATHS
        label = f"t = {t:g}: distance {found[k]:.4f}, chance allows {bound[k]:.4f}"
        axis.plot(density.middles[0], density.p[k], color=colour, lw=1.3, label=label)
        seen = share > 0
        axis.plot(
            middles[seen], (share / bins.diff())[seen], "o", ms=3.2, mew=0, color=colour, alpha=0.6
        )
    axis.set(xlabel="x", ylabel="density", xlim=(-2.2, 2.2), ylim=(0.0, 2.0))
    axis.legend(frameon=False, fontsize=8, loc="upper right", labelcolor=INK)
    axis.set_title(
        "Double well from x = 0.15: the equation (lines) and a histogram of 200 000 paths (points)",
        fontsize=9,
    )
    axis.spines[["top", "right"]].set_visible(False)


def oscillator(figure: Figure, axes: Any) -> None:
    """Van der Pol's oscillator: the equation, the paths, contours of both."""
    mean, time = torch.tensor([1.5, 0.0], dtype=DOUBLE), 2.5
    grid = (
        torch.linspace(-5.6, 5.6, 161, dtype=DOUBLE),
        torch.linspace(-6.8, 6.0, 161, dtype=DOUBLE),
    )
    sde = VanDerPol()
    density = sk.fokker_planck(
        sde, lambda x: torch.exp(-(x - mean).square().sum(1) / (2 * 0.3**2)), grid, [time]
    )
    z = sk.Brownian().prior_sample((PATHS, 2), seed=5, dtype=torch.float32)
    paths = sk.solve(sde, mean.float() + 0.3 * z, t1=time, steps=2500, seed=2).x
    groups, extent = 80, (-5.6, 5.6, -6.8, 6.0)
    found = float(density.total_variation(paths, bins=40))
    bound = float(density.total_variation_bound(PATHS, bins=40))
    cell = (grid[0][2] - grid[0][0]) * (grid[1][2] - grid[1][0])
    exact = density.cell_mass(bins=groups)[0] / cell
    counts = torch.histogramdd(paths.double(), [groups, groups], range=list(extent))
    seen = counts.hist / PATHS / cell
    top = float(exact.max())
    for axis, values in zip(axes[:2], (exact, seen), strict=True):
        shown = axis.imshow(
            values.T, origin="lower", extent=extent, cmap="Blues", vmin=0.0, vmax=top, aspect="auto"
        )
    figure.colorbar(shown, ax=axes[1], fraction=0.05, pad=0.02).ax.tick_params(labelsize=7)
    levels = [top * share for share in (0.03, 0.1, 0.3, 0.6)]
    middles = [0.5 * (e[:-2:2] + e[2::2]) for e in grid]
    axes[2].contour(*middles, seen.T, levels, colors=COLOURS[2], linewidths=0.9)
    axes[2].contour(*middles, exact.T, levels, colors=COLOURS[0], linewidths=1.2)
    titles = ("the equation", "200 000 paths", "contours of both")
    figure.suptitle(
        f"Van der Pol's oscillator with noise, t = {time}: "
        f"distance {found:.4f}, chance allows {bound:.4f}",
        fontsize=9,
    )
    for axis, title in zip(axes, titles, strict=True):
        axis.set(xlim=(-3.6, 3.6), ylim=(-4.4, 2.2), xlabel="q")
        axis.set_title(title, fontsize=9)
    axes[0].set_ylabel("v")
    axes[2].plot([], [], color=COLOURS[0], lw=1.2, label="equation")
    axes[2].plot([], [], color=COLOURS[2], lw=0.9, label="paths")
    axes[2].legend(frameon=False, fontsize=8, loc="upper right", labelcolor=INK)


def main() -> None:
    """Draw and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    here = Path(__file__).resolve().parents[1]
    parser.add_argument("--out", type=Path, default=here / "images" / "fokker_planck.png")
    arguments = parser.parse_args()
    figure = Figure(figsize=(8.4, 6.6), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    top, bottom = figure.subfigures(2, 1, height_ratios=(1.0, 1.05))
    wells(top.subplots())
    oscillator(bottom, bottom.subplots(1, 3))
    for axis in figure.axes:
        axis.tick_params(labelsize=8)
    figure.savefig(arguments.out, metadata={"Software": None})
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
