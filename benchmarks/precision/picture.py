"""Error against wall time, a panel for each problem and kind of error.

    python -m benchmarks.precision.picture benchmarks/results/MACHINE.json [PICTURE.png]

sdekit's methods are solid, torchsde's dashed, diffrax's dotted; a method looks the same in all
panels and stands beside the end of its curve. Errors that are not two standard errors above zero
are not drawn.
"""

from __future__ import annotations

import argparse
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.precision.curve import Curve
from benchmarks.precision.table import LIBRARIES, by_place

__all__ = ["as_png", "draw"]

COLOURS = {
    "sdekit": (
        *("#0b3c8c", "#2f7ed8", "#0a8f8f", "#2e8b3d", "#6d3fc0"),
        *("#4a6fa5", "#1b6e53", "#a03fb8", "#1f9fd0", "#5b8c00", "#d6248f"),
    ),
    "torchsde": ("#f0932b", "#e76f51", "#c1121f", "#8d4a1b"),
    "diffrax": ("#8a8f98", "#5f6570", "#3c4043"),
}
LINES = {"sdekit": "-", "torchsde": "--", "diffrax": ":"}
MARKERS = "osD^vP*X<>"
GAP, ACROSS, DOWN = 6.0, 7.0, 12.0
"""Pixels between a curve and its name, of a letter, and of a line of names."""


def draw(curves: Sequence[Curve], path: Path, machine: str = "") -> Path:
    """Write the picture, 1600 pixels wide. Raises ValueError without curves."""
    if not curves:
        raise ValueError("no curves: run benchmarks/run.py --only precision first")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    places, styles = by_place(curves), _styles(curves)
    columns = min(3, len(places))
    lines = math.ceil(len(places) / columns)
    figure = Figure(figsize=(16.0, 5.2 * lines + 0.5), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    panels = figure.subplots(lines, columns, squeeze=False).flatten()
    for panel, ((title, kind), own) in zip(panels, places.items(), strict=False):
        _panel(panel, f"{title}: {kind} error", own, styles)
        panel.set_ylabel("error", fontsize=11)
    for panel in panels[len(places) :]:
        panel.set_axis_off()
    paths = f"{curves[0].paths:,}".replace(",", " ")
    figure.suptitle(
        f"Error against the time of a whole solve: {paths} paths, float64{machine and ', '}"
        f"{machine}. Solid: sdekit, dashed: torchsde, dotted: diffrax",
        fontsize=13,
    )
    canvas.draw()  # lays the panels out: names are placed in pixels
    for panel, own in zip(panels, places.values(), strict=False):
        _names(panel, own, styles)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(as_png(figure))
    return path


def _styles(curves: Sequence[Curve]) -> dict[str, dict[str, Any]]:
    """Colour, line and marker of each method, by its name."""
    found: dict[str, dict[str, Any]] = {}
    for library in LIBRARIES:
        names = dict.fromkeys(curve.name for curve in curves if curve.library == library)
        for i, name in enumerate(names):
            found[name] = {
                "color": COLOURS[library][i % len(COLOURS[library])],
                "linestyle": LINES[library],
                "marker": MARKERS[i % len(MARKERS)],
                "linewidth": 2.0 if library == "sdekit" else 1.3,
                "markersize": 4.0,
            }
    return found


def _range(curves: Sequence[Curve]) -> tuple[float, float]:
    targets = curves[0].targets
    return 0.1 * min(targets), 10.0 * max(targets)


def _drawn(curve: Curve, bottom: float, top: float) -> tuple[list[float], list[float]]:
    """(seconds, errors) of the points that are drawn."""
    points = [p for p in curve.points if bottom <= p.error <= top and p.error > 2.0 * p.std_error]
    return [p.seconds for p in points], [p.error for p in points]


def _panel(panel: Any, title: str, curves: Sequence[Curve], styles: dict[str, Any]) -> None:
    bottom, top = _range(curves)
    for curve in curves:
        panel.loglog(*_drawn(curve, bottom, top), **styles[curve.name])
    for target in curves[0].targets:
        panel.axhline(target, color="#d0d4da", linewidth=0.8, zorder=0)
    panel.set_title(title, fontsize=12)
    panel.set_xlabel("seconds", fontsize=11)
    panel.set_ylim(bottom, top)
    left, right = panel.get_xlim()
    panel.set_xlim(left, right * (right / left) ** 0.3)  # room for names
    panel.tick_params(labelsize=10)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)


def _names(panel: Any, curves: Sequence[Curve], styles: dict[str, Any]) -> None:
    """Each curve's name right of its last point, moved down where another one is in the way."""
    from matplotlib.patheffects import withStroke

    to_pixels = panel.transData
    ends = []
    for curve in curves:
        seconds, errors = _drawn(curve, *_range(curves))
        if seconds:
            x, y = to_pixels.transform((seconds[-1], errors[-1]))
            ends.append((y, x, curve.method if curve.library == "sdekit" else curve.name, curve))
    placed: list[tuple[float, float, float]] = []
    for end, x, text, curve in sorted(ends, key=lambda end: -end[0]):
        left, right, y = x + GAP, x + GAP + ACROSS * len(text), end
        while any(abs(y - b) < DOWN and left < r and a < right for a, r, b in placed):
            y -= 1.0
        placed.append((left, right, y))
        panel.text(
            *to_pixels.inverted().transform((left, y)),
            text,
            color=styles[curve.name]["color"],
            fontsize=9,
            fontweight="bold" if curve.library == "sdekit" else "normal",
            va="center",
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
        )


def as_png(figure: Any) -> bytes:
    """With a palette: a third of the size, and nothing that anybody sees is lost."""
    from PIL import Image

    whole, small = io.BytesIO(), io.BytesIO()
    figure.savefig(whole, format="png")
    picture = Image.open(whole).convert("RGB").quantize(128, dither=Image.Dither.NONE)
    picture.save(small, format="png", optimize=True)
    return small.getvalue()


def main() -> None:
    """Two arguments: a result's JSON, and the picture's path."""
    parser = argparse.ArgumentParser(description="draw error against work")
    parser.add_argument("result", type=Path)
    parser.add_argument("out", type=Path, nargs="?", default=Path("docs/images/work_precision.png"))
    given = parser.parse_args()
    data = json.loads(given.result.read_text(encoding="utf-8"))
    curves = [Curve.from_row(row) for row in data.get("precision", []) if "points" in row]
    about = data["machine"]
    machine = f"{about['cpu']}, {about['threads']} threads"
    print(f"wrote {draw(curves, given.out, machine)}")


if __name__ == "__main__":
    main()
