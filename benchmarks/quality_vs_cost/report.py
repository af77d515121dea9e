"""The study's table and plot, from its rows."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from sdekit.files import write_atomically

Row = dict[str, Any]


def table(about: dict[str, Any], rows: list[Row]) -> str:
    """Fréchet distance by sampler and evaluations, and all numbers below."""
    budgets = sorted({row["budget"] for row in rows if row["budget"] is not None})
    names = list(dict.fromkeys(row["sampler"] for row in rows))
    real = next((row["real"]["frechet"] for row in rows if row["real"]), None)
    lines = [
        f"# Quality against cost: {about['data']}",
        "",
        "Fréchet distance to held-out images, in the features of a classifier trained on the same "
        f"real images, by the number of network evaluations; {about['n']} images in each set. "
        + ("" if real is None else f"As many training images reach {real:.2f}. ")
        + f"Model: {about['model']}, {about['steps']} steps of training; {about['machine']}.",
        "",
        "| sampler | " + " | ".join(str(b) for b in budgets) + " |",
        "| --- |" + " ---: |" * len(budgets),
    ]
    for name in names:
        mine = {row["budget"]: row for row in rows if row["sampler"] == name}
        if None in mine:
            row = mine[None]
            lines.append(f"| {name}: {_cell(row)} with {row['evaluations']:g} evaluations |")
            continue
        lines.append(
            f"| {name} | " + " | ".join(_cell(mine.get(budget)) for budget in budgets) + " |"
        )
    lines += [
        "",
        "| sampler | steps | evaluations | Fréchet | squared MMD | confidence | lost | seconds |",
        "| --- |" + " ---: |" * 7,
    ]
    for row in rows:
        found = row["samples"]
        cells = [row["sampler"], str(row["steps"]), f"{row['evaluations']:g}"]
        if found is None:
            cells += ["", "", ""]
        else:
            cells += [
                f"{found['frechet']:.3f}",
                f"{found['mmd']:.2g} ± {found['mmd_std_error']:.1g}",
                f"{found['confidence']:.3f}",
            ]
        cells += [str(row["nonfinite"]), f"{row['seconds']:.1f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def plot(path: Path, rows: list[Row]) -> None:
    """A line a sampler, both axes logarithmic; training images as the level to reach."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.6, 4.8), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    names = list(dict.fromkeys(row["sampler"] for row in rows))
    marks = "os^vD<>Pp*Xhd8"
    for k, name in enumerate(names):
        mine = [row for row in rows if row["sampler"] == name and row["samples"]]
        x = [row["evaluations"] for row in mine]
        y = [row["samples"]["frechet"] for row in mine]
        axis.plot(x, y, marker=marks[k % len(marks)], ms=4, lw=1.1, label=name)
    real = next((row["real"]["frechet"] for row in rows if row["real"]), None)
    if real is not None:
        axis.axhline(real, color="#6b7280", lw=1.0, ls="--")
        axis.annotate(
            "training images", (1.0, real), xycoords=("axes fraction", "data"), ha="right"
        )
    axis.set(xscale="log", yscale="log")
    axis.set(xlabel="network evaluations", ylabel="Fréchet distance to held-out images")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=7, ncols=2)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    write_atomically(path, buffer.getvalue())


def _cell(row: Row | None) -> str:
    if row is None:
        return ""
    if row["samples"] is None:
        return "too few steps" if "refused" in row else "lost"
    return f"{row['samples']['frechet']:.2f}"
