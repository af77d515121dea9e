"""Curves as tables: each contender's fastest way to each error, and error against tolerance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from benchmarks.likelihood.contenders import SDEKIT, TORCHDIFFEQ
from benchmarks.likelihood.curve import KINDS, Curve, Point, by_title

__all__ = ["AIMS", "markdown", "missed", "ratio"]

AIMS = {True: 1.0, False: 0.6}
"""Of torchdiffeq's time, on an even batch or not."""

INTRODUCTION = (
    "Each contender's fastest way to a given error in nats, of the worst sample and in the mean "
    "over the batch: time; tolerance (rtol = atol, by half decades where one counts); evaluations "
    "of the field that a sample was part of, in the mean (at the most). Times are the least of "
    "several solves; first: the first call, compiling included, with an empty cache (in a later "
    "process). torchdiffeq is dopri5 with one step for the batch and its own norm, on the same "
    "field and divergence as sdekit; the script takes a backward pass for each component, or one "
    "for the probe. share: sdekit's time over torchdiffeq's; it may be 0.6 where difficulty varies "
    "by sample, 1 elsewhere."
)


def markdown(given: Sequence[dict[str, Any]], heading: str = "") -> list[str]:
    """Lines for the report; none without curves. given: curves' rows, and what was left out."""
    curves = [Curve.from_row(row) for row in given if "points" in row]
    races = [curve for curve in curves if curve.targets]
    lines = ["", f"## {heading}"] if heading and curves else []
    if races:
        lines += ["", INTRODUCTION, *_shares(races)]
    for title, own in by_title(races).items():
        lines += ["", f"**{title}**: {own[0].what}", "", *_race(own)]
        left = [row for row in given if "skipped" in row and row["title"] == title]
        lines += [f"- not run: {row['contender']}: {row['skipped']}" for row in left]
    scans = [curve for curve in curves if not curve.targets]
    if scans:
        lines += ["", "**Error of the worst sample against tolerance**, float64, nats", ""]
        lines += _scan(scans)
    return lines


def ratio(curves: Sequence[Curve], kind: str, target: float) -> float | None:
    """sdekit's time over torchdiffeq's at a given error; None where that is not known.

    0 where only sdekit got there, infinite where only torchdiffeq did.
    """
    by_name = {curve.contender: curve for curve in curves}
    if SDEKIT not in by_name or TORCHDIFFEQ not in by_name:
        return None
    ours = by_name[SDEKIT].reach(kind, target)
    theirs = by_name[TORCHDIFFEQ].reach(kind, target)
    if ours is None or theirs is None:
        if ours is theirs or any(by_name[name].cut_short for name in (SDEKIT, TORCHDIFFEQ)):
            return None
        return math.inf if ours is None else 0.0
    return ours.seconds / theirs.seconds


def missed(curves: Sequence[Curve]) -> list[str]:
    """Where sdekit takes more of torchdiffeq's time than it may, in words."""
    found = []
    for title, own in by_title(curves).items():
        # Only the 2-D mixture is drawn so that difficulty varies; the aim for all else is 1.
        aim = AIMS["even" in title or "2-D" not in title]
        for kind in KINDS:
            for target in own[0].targets.get(kind, ()):
                share = ratio(own, kind, target)
                if share is not None and share > aim:
                    found.append(f"{title} ({kind} {target:g}: {share:.2f}, may be {aim:g})")
    return found


def _shares(curves: Sequence[Curve]) -> list[str]:
    over = missed(curves)
    return ["", f"Over its aim: {'; '.join(over)}."] if over else []


def _race(curves: Sequence[Curve]) -> list[str]:
    asked = [(kind, target) for kind in KINDS for target in curves[0].targets[kind]]
    head = ["", *(f"{kind} error {target:g}" for kind, target in asked), "first"]
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
    for curve in curves:
        cells = [_cell(curve, *one) for one in asked]
        lines.append("| " + " | ".join([curve.contender, *cells, _first(curve)]) + " |")
    shares = [ratio(curves, *one) for one in asked]
    if any(share is not None for share in shares):
        cells = ["" if share is None else _share(share) for share in shares]
        lines.append("| " + " | ".join(["share", *cells, ""]) + " |")
    return lines


def _share(value: float) -> str:
    if value == 0.0:
        return "sdekit alone"
    return "torchdiffeq alone" if math.isinf(value) else f"{value:.2f}"


def _cell(curve: Curve, kind: str, target: float) -> str:
    point = curve.reach(kind, target)
    if point is None:
        why = "not tried beyond" if curve.cut_short else "not reached:"
        return f"{why} {curve.best(kind):.1e}"
    return f"{_seconds(point.seconds)}; {point.tolerance:.0e}; {_evaluations(point)}"


def _evaluations(point: Point) -> str:
    mean, most = round(point.mean_evaluations), round(point.most_evaluations)
    return f"{mean}" if mean == most else f"{mean} ({most})"


def _first(curve: Curve) -> str:
    later = "" if curve.cached is None else f" ({_seconds(curve.cached)})"
    return f"{_seconds(curve.first)}{later}"


def _scan(curves: Sequence[Curve]) -> list[str]:
    tolerances = sorted({point.tolerance for curve in curves for point in curve.points})[::-1]
    head = ["rtol = atol", *(f"{tolerance:.0e}" for tolerance in tolerances)]
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * len(tolerances)]
    for curve in curves:
        held = {point.tolerance: point for point in curve.points}
        cells = [f"{held[t].worst:.1e}" if t in held else "" for t in tolerances]
        lines.append("| " + " | ".join([curve.title, *cells]) + " |")
        evaluations = [_evaluations(held[t]) if t in held else "" for t in tolerances]
        lines.append("| " + " | ".join(["evaluations", *evaluations]) + " |")
    return lines


def _seconds(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms" if seconds < 1.0 else f"{seconds:.3g} s"
