"""Errors and times of a contender, from loose tolerances to the one that reaches every target."""

from __future__ import annotations

import math
from collections.abc import Callable
from time import perf_counter
from typing import Final

from benchmarks.likelihood.contenders import CONTENDERS, SDEKIT, Answer
from benchmarks.likelihood.curve import KINDS, Curve, Point
from benchmarks.likelihood.problems import Problem

__all__ = ["decades", "measure", "scan"]

REPEATS: Final = 5
ENOUGH: Final = 0.6
"""A time is the least of so many solves, or of as many as these seconds hold; of two at least
where the point is the fastest to a target."""
PATIENCE: Final = 10.0
"""Seconds: no tighter tolerance is tried once the scan has taken longer."""
HALF: Final = 10.0**0.5

Solve = Callable[[Problem, float], Answer]


def measure(problem: Problem, contender: str, patience: float = PATIENCE) -> Curve:
    """Tolerances by decades until all targets are met, then a half decade back where one was met.

    Errors come with each solve; the points that are the fastest to a target are timed again.
    """
    solve = CONTENDERS[contender]
    loosest, tightest = problem.tolerances
    answer, first = _timed(solve, problem, loosest)
    points: dict[float, Point] = {}
    began = perf_counter()
    for tolerance in decades(loosest, tightest):
        points[tolerance] = _point(solve, problem, tolerance)
        if perf_counter() - began > patience or _all_met(problem, points):
            break
    for tolerance in sorted(_chosen(problem, points), reverse=True):
        looser = HALF * tolerance
        if looser <= loosest and perf_counter() - began < 2.0 * patience:
            points[looser] = _point(solve, problem, looser)
    for tolerance in _chosen(problem, points):
        points[tolerance] = _again(solve, problem, points[tolerance])
    return Curve(
        title=problem.title,
        what=problem.what,
        contender=contender,
        targets=problem.targets,
        first=first,
        path=answer.path,
        points=tuple(points[tolerance] for tolerance in sorted(points, reverse=True)),
        cut_short=not _all_met(problem, points) and min(points) > 1.5 * tightest,
    )


def scan(problem: Problem, loosest: float, tightest: float, patience: float = PATIENCE) -> Curve:
    """sdekit's errors at all decades, each solved once."""
    solve = CONTENDERS[SDEKIT]
    answer, first = _timed(solve, problem, loosest)
    points: list[Point] = []
    for tolerance in decades(loosest, tightest):
        points.append(_point(solve, problem, tolerance))
        if points[-1].seconds > patience:
            break
    return Curve(problem.title, problem.what, SDEKIT, {}, first, answer.path, tuple(points))


def decades(loosest: float, tightest: float) -> list[float]:
    """Powers of ten, both ends among them."""
    first, last = round(math.log10(loosest)), round(math.log10(tightest))
    return [float(f"1e{k}") for k in range(first, last - 1, -1)]


def _timed(solve: Solve, problem: Problem, tolerance: float) -> tuple[Answer, float]:
    began = perf_counter()
    answer = solve(problem, tolerance)
    return answer, perf_counter() - began


def _point(solve: Solve, problem: Problem, tolerance: float) -> Point:
    answer, seconds = _timed(solve, problem, tolerance)
    if seconds < 0.2 * ENOUGH:
        seconds = min(seconds, _timed(solve, problem, tolerance)[1])
    errors = problem.errors(answer.log_prob)
    return Point(
        tolerance,
        seconds,
        answer.mean_evaluations,
        answer.most_evaluations,
        errors["worst"],
        errors["mean"],
    )


def _again(solve: Solve, problem: Problem, point: Point) -> Point:
    seconds = [point.seconds]
    while len(seconds) < 2 or (len(seconds) < REPEATS and sum(seconds) < ENOUGH):
        seconds.append(_timed(solve, problem, point.tolerance)[1])
    return point._replace(seconds=min(seconds))


def _met(points: dict[float, Point], kind: str, target: float) -> list[Point]:
    return [point for point in points.values() if point.error(kind) <= target]


def _all_met(problem: Problem, points: dict[float, Point]) -> bool:
    return all(_met(points, kind, target) for kind in KINDS for target in problem.targets[kind])


def _chosen(problem: Problem, points: dict[float, Point]) -> set[float]:
    """Tolerances that are the fastest to a target."""
    met = [_met(points, kind, target) for kind in KINDS for target in problem.targets[kind]]
    return {min(own, key=lambda point: point.seconds).tolerance for own in met if own}
