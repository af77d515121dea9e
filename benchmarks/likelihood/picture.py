"""Error against wall time and against tolerance, from a result of ``make bench``.

    python -m benchmarks.likelihood.picture benchmarks/results/MACHINE.json [FOLDER]

Writes ``likelihood_time.png``, a panel for each problem, with the worst sample's error of each
contender, and ``likelihood_tolerance.png``: what rtol = atol comes to.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.likelihood.contenders import PLAIN, SDEKIT, STEPWISE, TORCHDIFFEQ
from benchmarks.likelihood.curve import Curve, by_title
from benchmarks.precision.picture import as_png

__all__ = ["draw_times", "draw_tolerances"]

STYLES: dict[str, dict[str, Any]] = {
    SDEKIT: {"color": "#0b3c8c", "marker": "o", "linewidth": 2.0},
    STEPWISE: {"color": "#2f7ed8", "marker": "s", "linewidth": 1.6},
    TORCHDIFFEQ: {"color": "#e76f51", "marker": "D", "linewidth": 1.4, "linestyle": "--"},
    PLAIN: {"color": "#8d4a1b", "marker": "^", "linewidth": 1.4, "linestyle": ":"},
}
COLOURS = ("#0b3c8c", "#2f7ed8", "#0a8f8f", "#2e8b3d", "#6d3fc0", "#d6248f")


def draw_times(curves: Sequence[Curve], path: Path, machine: str = "") -> Path:
    """Write the picture, 1600 pixels wide; raises ValueError without curves that have targets."""
    places = by_title([curve for curve in curves if curve.targets])
    if not places:
        raise ValueError("no curves: run benchmarks/run.py --only likelihood first")
    columns = min(4, len(places))
    lines = math.ceil(len(places) / columns)
    figure, panels = _figure(lines, columns)
    for panel, (title, own) in zip(panels, places.items(), strict=False):
        for curve in own:
            points = [p for p in curve.points if 0.0 < p.worst < math.inf]
            points.sort(key=lambda p: -p.worst)
            seconds, errors = [p.seconds for p in points], [p.worst for p in points]
            panel.loglog(seconds, errors, markersize=4.0, **STYLES[curve.contender])
        for target in own[0].targets["worst"]:
            panel.axhline(target, color="#d0d4da", linewidth=0.8, zorder=0)
        _label(panel, title, "seconds", "error of the worst sample [nats]")
    for panel in panels[len(places) :]:
        panel.set_axis_off()
    # In an empty panel if there is one, else under the title.
    from matplotlib.lines import Line2D

    shown = [name for name in STYLES if any(curve.contender == name for curve in curves)]
    handles = [Line2D([], [], label=name, **STYLES[name]) for name in shown]
    if len(panels) > len(places):
        panels[-1].legend(handles=handles, loc="center", frameon=False, fontsize=12)
    else:
        figure.legend(handles=handles, loc="outside lower center", frameon=False, ncols=4)
    figure.suptitle(
        f"Log-likelihood: error against the time of a whole batch{machine and ', '}{machine}",
        fontsize=13,
    )
    return _write(figure, path)


def draw_tolerances(curves: Sequence[Curve], path: Path) -> Path:
    """Write the picture of the scans. Raises ValueError if there are none."""
    scans = [curve for curve in curves if not curve.targets]
    if not scans:
        raise ValueError("no scans: run benchmarks/run.py --only likelihood first")
    figure, (left, right) = _figure(1, 2)
    for curve, colour in zip(scans, COLOURS, strict=False):
        tolerances = [point.tolerance for point in curve.points]
        style = {"color": colour, "marker": "o", "markersize": 4.0, "label": curve.title}
        left.loglog(tolerances, [point.worst for point in curve.points], **style)
        evaluations = [point.mean_evaluations for point in curve.points]
        right.loglog(tolerances, evaluations, **style)
    ends = [min(p.tolerance for c in scans for p in c.points), 1e-2]
    left.loglog(ends, ends, color="#b0b4ba", linewidth=1.0, linestyle=":", label="error = rtol")
    _label(left, "Error", "rtol = atol", "error of the worst sample [nats]")
    _label(right, "Cost", "rtol = atol", "evaluations, mean over the samples")
    left.legend(frameon=False, fontsize=10)
    for panel in (left, right):
        panel.invert_xaxis()
    return _write(figure, path)


def _figure(lines: int, columns: int) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(16.0, 4.6 * lines + 0.6), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(lines, columns, squeeze=False).flatten()


def _label(panel: Any, title: str, x: str, y: str) -> None:
    panel.set_title(title, fontsize=12)
    panel.set_xlabel(x, fontsize=11)
    panel.set_ylabel(y, fontsize=11)
    panel.tick_params(labelsize=10)
    panel.tick_params(axis="x", which="minor", labelsize=8, labelrotation=45)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)


def _write(figure: Any, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(as_png(figure))
    return path


def main() -> None:
    """Two arguments: a result's JSON, and the pictures' folder."""
    parser = argparse.ArgumentParser(description="draw the error of log-likelihoods")
    parser.add_argument("result", type=Path)
    parser.add_argument("out", type=Path, nargs="?", default=Path("docs/images"))
    given = parser.parse_args()
    data = json.loads(given.result.read_text(encoding="utf-8"))
    curves = [Curve.from_row(row) for row in data.get("likelihood", []) if "points" in row]
    about = data["machine"]
    machine = f"{about['cpu']}, {about['threads']} threads"
    print(f"wrote {draw_times(curves, given.out / 'likelihood_time.png', machine)}")
    print(f"wrote {draw_tolerances(curves, given.out / 'likelihood_tolerance.png')}")


if __name__ == "__main__":
    main()
