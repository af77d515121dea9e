"""Curves of error against work as tables: the time of each method to each error, and who leads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from benchmarks.precision.curve import Curve, at_least, time_to_reach

__all__ = ["Best", "Row", "behind", "by_place", "markdown", "rows"]

LIBRARIES = ("sdekit", "torchsde", "diffrax")


class Best(NamedTuple):
    """A library's fastest way to an error; without a method, none got there within ``seconds``."""

    method: str
    seconds: float
    steps: float = 0.0
    at_most: bool = False


class Row(NamedTuple):
    """One error of one problem: what each library takes to it."""

    title: str
    kind: str
    target: float
    best: dict[str, Best]

    @property
    def times(self) -> float | None:
        """torchsde's time over sdekit's: at least this, if torchsde never got there.

        None where one of them is not there, or sdekit never got there.
        """
        ours, theirs = self.best.get("sdekit"), self.best.get("torchsde")
        if ours is None or theirs is None or not ours.method:
            return None
        return theirs.seconds / ours.seconds


def by_place(curves: Sequence[Curve]) -> dict[tuple[str, str], list[Curve]]:
    """Curves of one problem and kind of error together, as they come, sdekit first."""
    found: dict[tuple[str, str], list[Curve]] = {}
    for curve in curves:
        found.setdefault(curve.place, []).append(curve)
    for own in found.values():
        own.sort(key=lambda curve: LIBRARIES.index(curve.library))
    return found


def rows(curves: Sequence[Curve]) -> list[Row]:
    """One for each error of each problem."""
    return [
        Row(title, kind, target, _best_of_each(own, target))
        for (title, kind), own in by_place(curves).items()
        for target in own[0].targets
    ]


def _best_of_each(curves: Sequence[Curve], target: float) -> dict[str, Best]:
    libraries = dict.fromkeys(curve.library for curve in curves)
    return {name: _best([c for c in curves if c.library == name], target) for name in libraries}


def _best(curves: Sequence[Curve], target: float) -> Best:
    found = [(curve, time_to_reach(curve.points, target)) for curve in curves]
    reached = [(r.seconds, r, c.method) for c, r in found if r is not None]
    if not reached:
        return Best("", min(at_least(curve.points[-1], target) for curve in curves))
    _, fastest, method = min(reached)
    return Best(method, *fastest)


def behind(table: Sequence[Row]) -> list[Row]:
    """The rows in which sdekit is not ahead of torchsde."""
    return [
        row for row in table if "torchsde" in row.best and (row.times is None or row.times <= 1.0)
    ]


INTRODUCTION = (
    "Time of a whole solve that reaches a given error, float64, {paths} paths, noise included. "
    "strong: mean distance from the solution on the same Brownian path, which all contenders are "
    "given; weak: error of an expectation. Steps are doubled; between two numbers of steps log "
    "time is linear in log error. An error counts with one standard error added, and once it stays "
    "below. Times are the least of several solves; what is compiled, by sdekit and diffrax, "
    "was compiled before, once for all of them, in some seconds. torchsde is given sdekit's "
    "increments while it is timed as well: its own Brownian motion takes longer (first table of "
    "this section). diffrax is timed on noise of its own. > t: not reached; with the error that it "
    "came to it would take more than t even if that fell with the third power of the step from "
    "there on."
)


def markdown(given: Sequence[dict[str, Any]]) -> list[str]:
    """Lines for the report; none without curves. given: curves' rows, and what was left out."""
    curves = [Curve.from_row(row) for row in given if "points" in row]
    if not curves:
        return []
    paths = f"{curves[0].paths:,}".replace(",", " ")
    lines = ["", INTRODUCTION.format(paths=paths), "", *_summary(rows(curves))]
    for (title, kind), own in by_place(curves).items():
        lines += ["", f"**{title}, {kind} error**: `{own[0].formula}`", "", *_methods(own)]
    reasons: dict[str, list[str]] = {}
    for row in given:
        if "skipped" in row:
            reasons.setdefault(row["skipped"], []).append(f"{row['library']} {row['method']}")
    for reason, names in reasons.items():
        lines += ["", f"Not run: {', '.join(dict.fromkeys(names))} ({reason})."]
    return lines


def _summary(table: Sequence[Row]) -> list[str]:
    libraries = [name for name in LIBRARIES if any(name in row.best for row in table)]
    head = ["", "error", "sdekit"]
    for name in libraries[1:]:
        head += [name, "times"]
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
    for row in table:
        cells = [f"{row.title}, {row.kind}", f"{row.target:g}", _cell(row.best.get("sdekit"))]
        for name in libraries[1:]:
            cells += [_cell(row.best.get(name)), _ratio(row.best.get("sdekit"), row.best.get(name))]
        lines.append("| " + " | ".join(cells) + " |")
    lost = behind(table)
    if lost:
        names = ", ".join(f"{row.title} ({row.kind} {row.target:g})" for row in lost)
        lines += ["", f"sdekit is not ahead of torchsde in: {names}."]
    return lines


def _cell(best: Best | None) -> str:
    if best is None:
        return ""
    if not best.method:
        return f"> {_milliseconds(best.seconds)}"
    steps = f"{best.steps:.0f} steps" + (" or fewer" if best.at_most else "")
    return f"{_milliseconds(best.seconds)} ({best.method}, {steps})"


def _ratio(ours: Best | None, theirs: Best | None) -> str:
    if ours is None or theirs is None or not ours.method:
        return ""
    sign = "" if theirs.method else "> "
    return f"{sign}{theirs.seconds / ours.seconds:.1f}"


def _methods(curves: Sequence[Curve]) -> list[str]:
    targets = curves[0].targets
    lines = [
        "| time to an error of | " + " | ".join(f"{target:g}" for target in targets) + " |",
        "| --- |" + " ---: |" * len(targets),
    ]
    for curve in curves:
        cells = [_reached(curve, target) for target in targets]
        lines.append(f"| {curve.name} | " + " | ".join(cells) + " |")
    return lines


def _reached(curve: Curve, target: float) -> str:
    reached = time_to_reach(curve.points, target)
    if reached is None:
        return f"> {_milliseconds(at_least(curve.points[-1], target))}"
    return ("at most " if reached.at_most else "") + _milliseconds(reached.seconds)


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms" if seconds < 1.0 else f"{seconds:.3g} s"
