"""Error and time of a method at each number of steps."""

from __future__ import annotations

import math
from time import perf_counter
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.precision.contenders import Contender, Solve
from benchmarks.precision.curve import Curve, Point
from benchmarks.precision.path import Path
from benchmarks.precision.problems import Problem

__all__ = ["measure"]

REPEATS, ENOUGH = 5, 0.4
"""A time is the least of so many solves, or of as many as these seconds hold; of two at least."""
PATIENCE = 1.2
"""Seconds: the next number of steps is left out where one solve of it would take longer."""
FAR = 0.25
"""A curve ends at errors of so much of its smallest target."""


class Answer(NamedTuple):
    """Last states, and the Brownian path that led there."""

    path: Path
    x: Tensor


def measure(kind: type[Problem], contender: Contender) -> list[Curve]:
    """One curve for each kind of error that the problem has.

    It ends where the next number of steps would take too long, or where the errors are far below
    the smallest targets.
    """
    problem = kind(contender.interpretation)
    timed, checked = contender.prepare(kind)
    first = Path(problem.paths, problem.channels, problem.span, problem.steps[0])
    timed(first)  # compiles
    points: dict[str, list[Point]] = {name: [] for name in problem.targets}
    for steps in problem.steps:
        seconds, answers = _clock(timed, first._replace(steps=steps), problem.batches)
        if timed is not checked or problem.path(steps, 0) != answers[0].path:
            paths = [problem.path(steps, seed) for seed in range(problem.batches)]
            answers = [Answer(path, checked(path)) for path in paths]
        for name, values in _errors(problem, answers).items():
            points[name].append(Point(steps, seconds, *_mean(values)))
        fine = (points[k][-1].bound < FAR * min(v) for k, v in problem.targets.items())
        if 2.0 * seconds > PATIENCE or all(fine):
            break
    return [
        Curve(
            title=problem.title,
            formula=problem.formula,
            kind=name,
            targets=targets,
            paths=problem.paths,
            library=contender.library,
            method=contender.method,
            points=tuple(points[name]),
        )
        for name, targets in problem.targets.items()
    ]


def _clock(run: Solve, path: Path, keep: int) -> tuple[float, list[Answer]]:
    """(seconds of the fastest of some solves, the answers of the first ``keep``)."""
    seconds: list[float] = []
    answers: list[Answer] = []
    while len(seconds) < max(2, keep) or (len(seconds) < REPEATS and sum(seconds) < ENOUGH):
        path = path._replace(seed=len(seconds))
        began = perf_counter()
        x = run(path)
        seconds.append(perf_counter() - began)
        if len(answers) < keep:
            answers.append(Answer(path, x))
    return min(seconds), answers


def _errors(problem: Problem, answers: list[Answer]) -> dict[str, Tensor]:
    """One number a path of each kind of error, over all answers."""
    found = [problem.compare(answer.x, answer.path) for answer in answers]
    return {name: torch.cat([one[name] for one in found]) for name in problem.targets}


def _mean(values: Tensor) -> tuple[float, float]:
    """(size of the mean, its standard error); infinite where a path is not finite."""
    if not bool(values.isfinite().all()):
        return math.inf, math.inf
    return abs(float(values.mean())), float(values.std()) / math.sqrt(len(values))
