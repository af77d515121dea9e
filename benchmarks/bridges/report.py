"""The tables of both studies, from their rows."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from typing import Any

from benchmarks.bridges import gaussians, plane
from benchmarks.bridges.sets import SETS
from benchmarks.bridges.store import Row


def gaussian_table(about: dict[str, Any], rows: list[Row]) -> str:
    """Divergences by dimension and algorithm, times 10^-3, beside the published ones."""
    lines = [
        "# Bridges between Gaussians, fitted with networks",
        "",
        "N(-0.1, I) to N(0.1, I), sigma 1, N = 20 steps, 10^4 points of each end for training. KL "
        "of the Gaussian fitted to 10^4 paths from held-out points from the exact marginal of the "
        "bridge, averaged over the 21 times and over the paths of both directions; times 10^-3, "
        "mean and standard deviation over seeds. Published: Shi et al. 2023 (DSBM-IMF; DSB as run "
        "there), who do not state the estimator: with full covariances the floor, the expectation "
        "for exact draws of the marginals, is above their numbers, so that the covariance is "
        "diagonal in the first columns. Networks: DriftMLP with its affine path.",
        "",
        _machine(about),
        "",
        "| d | algorithm | KL, diagonal | published | floor | KL, full | floor | seconds | seeds |",
        "| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for d in sorted({row["d"] for row in rows}):
        floor = gaussians.floors(d)
        for algorithm in gaussians.PUBLISHED:
            mine = [r for r in rows if r["d"] == d and r["algorithm"] == algorithm]
            if not mine:
                continue
            values = {s: [1e3 * _both(r, s) for r in mine] for s in floor}
            published = gaussians.PUBLISHED[algorithm].get(d)
            cells = [
                str(d),
                algorithm,
                _spread(values["diagonal"]),
                "" if published is None else f"{published[0]:.3g} ± {published[1]:.2g}",
                f"{1e3 * floor['diagonal']:.2f}",
                _spread(values["full"]),
                f"{1e3 * floor['full']:.2f}",
                _seconds(mine),
                str(len(mine)),
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def plane_table(about: dict[str, Any], rows: list[Row]) -> str:
    """Distances and energies by set and algorithm, beside the published ones."""
    lines = [
        "# Bridges between laws of the plane, fitted with networks",
        "",
        "Exact 2-Wasserstein distance between 10^4 held-out points of the source, moved, and 10^4 "
        "held-out points of the target; sets as the code of Tong et al. 2023 (arXiv 2302.00482) "
        "draws them, all but the last from N(0, I); 10^4 points of each end to train on. "
        "SDE: Euler-Maruyama; flow: Euler's method for the probability flow, both in N steps; "
        "sigma: of the reference. Floor: of two sets of 10^4 points of the target itself; plan: of "
        "the points where the exact optimal plan of the training points takes the nearest of each "
        "held-out one, which has the noise of both ends' samples (how many of 10^4 points each "
        "moon and each mode has), as a bridge has. "
        "Energy: the normalized path energy of the flow. Published: Shi et al. 2023 (DSBM-IMF and "
        "DSB, 20 Euler steps) and Tong et al. 2023 (arXiv 2307.03672; SF2M-Exact, the SDE in 100 "
        "steps; all energies). Mean and standard deviation over seeds: settings were chosen while "
        "looking at distances of some of the seeds 0 to 4; no setting has seen those of 5 to 9, "
        "whose columns come first; flow, floor, energy and seconds are of all. One thing was made "
        "after both were measured: the range beyond which the layers of DriftMLP see nothing, "
        "because one path of seed 8 (DSB, s-curve) had left where its drift was fitted, and was "
        "10^4 times the set's size away; then all rows were measured again. The bridge itself: "
        "its energy without a fit, from the entropic plan of 2,000 points; published energies "
        "below it are of another sigma or another definition. DSB has 50 steps and the Gaussian "
        "start here, and a larger sigma where 1 is small beside the ends' distance: see plane.py. "
        "Of eight Gaussians there are two laws: see sets.py.",
        "",
        _machine(about),
        "",
        "| set | algorithm | N | sigma | W2, SDE, new seeds | median | seen seeds | published "
        "| W2, flow | floor | plan | energy | published | seconds | seeds |",
        "| --- | --- |" + " ---: |" * 13,
    ]
    for name in SETS:
        beside = {r["seed"]: r for r in rows if r["set"] == name and r["algorithm"] == "held out"}
        itself = [r for r in rows if r["set"] == name and r["algorithm"] == plane.ITSELF]
        if itself:
            exact = _spread([plane.energy_error(r, r["ends"]) for r in itself], 3)
            cells = [name, plane.ITSELF, "", "1", *[""] * 7, exact, "", "", str(len(itself))]
            lines.append("| " + " | ".join(cells) + " |")
        own = {**plane.DISTANCES, plane.INDEPENDENT: plane.DISTANCES["DSBM"]}
        for algorithm, published in own.items():
            mine = [r for r in rows if r["set"] == name and r["algorithm"] == algorithm]
            if not mine:
                continue
            energy = plane.ENERGIES.get(algorithm, {}).get(name)
            compared = [r for r in mine if r["seed"] in beside]
            new = [r["sde"] for r in mine if r["seed"] in plane.NEW]
            errors = [plane.energy_error(r, beside[r["seed"]]["ends"]) for r in compared]
            cells = [
                name,
                algorithm,
                str(mine[0]["steps"]),
                f"{plane.SIGMAS.get((algorithm, name), 1.0):g}",
                _spread(new, 3),
                f"{statistics.median(new):.3f}" if new else "",
                _spread([r["sde"] for r in mine if r["seed"] in plane.SEEN], 3),
                _pair(published[name]),
                _spread([r["flow"] for r in mine], 3),
                *(_spread([r[k] for r in beside.values()], 3) for k in ("floor", "plan")),
                _spread(errors, 3),
                "" if energy is None else _pair(energy),
                _seconds(mine),
                str(len(mine)),
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


TABLES: dict[str, Callable[[dict[str, Any], list[Row]], str]] = {
    "gaussians": gaussian_table,
    "plane": plane_table,
}


def _both(row: Row, structure: str) -> float:
    return 0.5 * float(row["forward"][structure] + row["backward"][structure])


def _spread(values: Iterable[float], digits: int = 2) -> str:
    known = list(values)
    if not known:
        return ""
    mean = f"{statistics.fmean(known):.{digits}f}"
    return mean if len(known) < 2 else f"{mean} ± {statistics.stdev(known):.{digits}f}"


def _pair(published: tuple[float, float]) -> str:
    return f"{published[0]:.3f} ± {published[1]:.3f}"


def _seconds(rows: list[Row]) -> str:
    """Of one core's time: a busy machine does not change it."""
    known = [row["cpu"] for row in rows if "cpu" in row]
    return f"{statistics.median(known):.0f}" if known else ""


def _machine(about: dict[str, Any]) -> str:
    return (
        f"{about['machine']}; torch {about['torch']}; seconds: of one core, the median of the fits."
    )
