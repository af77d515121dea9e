"""A curve of error against work, and the time that it takes to a given error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

__all__ = ["Curve", "Point", "Reached", "at_least", "time_to_reach"]

HIGHEST = 3.0
"""No method here has a higher order."""


class Point(NamedTuple):
    """One number of steps: seconds of the fastest solve, the error and its standard error."""

    steps: int
    seconds: float
    error: float
    std_error: float

    @property
    def bound(self) -> float:
        """The error and one standard error, which is held against a target."""
        bound = self.error + self.std_error
        return bound if math.isfinite(bound) else math.inf


@dataclass(frozen=True)
class Curve:
    """One method on one problem.

    title, formula: of the problem. kind: "strong" or "weak". targets: errors to which times are
    wanted. paths: of a timed solve. points: by rising numbers of steps.
    """

    title: str
    formula: str
    kind: str
    targets: tuple[float, ...]
    paths: int
    library: str
    method: str
    points: tuple[Point, ...]

    @property
    def name(self) -> str:
        """What tables and pictures call the method."""
        return f"{self.library} {self.method}"

    @property
    def place(self) -> tuple[str, str]:
        """What is compared with what: (title, kind)."""
        return self.title, self.kind

    def as_row(self) -> dict[str, Any]:
        """For JSON, which has no infinity: null stands for it."""
        points = [
            {k: v if math.isfinite(v) else None for k, v in point._asdict().items()}
            for point in self.points
        ]
        return asdict(self) | {"targets": list(self.targets), "points": points}

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Curve:
        """The curve that ``as_row`` wrote down."""
        points = tuple(
            Point(**{k: math.inf if v is None else v for k, v in point.items()})
            for point in row["points"]
        )
        return cls(**row | {"targets": tuple(row["targets"]), "points": points})


class Reached(NamedTuple):
    """Seconds to a given error, and the number of steps; at_most: fewer steps were not tried."""

    seconds: float
    steps: float
    at_most: bool = False


def time_to_reach(points: Sequence[Point], target: float) -> Reached | None:
    """Where the error falls below the target to stay there: log time linear in log error between.

    None if the error at the most steps is still above it.
    """
    above = [i for i, point in enumerate(points) if point.bound > target]
    last = above[-1] if above else -1
    if last + 1 == len(points):
        return None
    after = points[last + 1]
    if last < 0:
        return Reached(after.seconds, after.steps, at_most=True)
    before = points[last]
    if math.isinf(before.bound):
        return Reached(after.seconds, after.steps)
    share = math.log(before.bound / target) / math.log(before.bound / after.bound)
    return Reached(
        _between(before.seconds, after.seconds, share), _between(before.steps, after.steps, share)
    )


def at_least(last: Point, target: float) -> float:
    """Seconds below which a method cannot reach the target that it missed with the most steps.

    As if its error fell with the third power of the step from there on, and each step took what it
    took.
    """
    if math.isinf(last.bound):
        return last.seconds
    return last.seconds * max(1.0, last.bound / target) ** (1.0 / HIGHEST)


def _between(a: float, b: float, share: float) -> float:
    return math.exp(math.log(a) + share * math.log(b / a))
