"""Error, time and evaluations of a contender by tolerance, and the fastest way to a given error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

__all__ = ["KINDS", "Curve", "Point", "by_title"]

KINDS = ("worst", "mean")


class Point(NamedTuple):
    """One tolerance: seconds of the fastest solve, evaluations a sample, errors in nats."""

    tolerance: float
    seconds: float
    mean_evaluations: float
    most_evaluations: float
    worst: float
    mean: float

    def error(self, kind: str) -> float:
        """Of the worst sample, or in the mean."""
        return self.worst if kind == "worst" else self.mean


@dataclass(frozen=True)
class Curve:
    """One contender on one problem.

    title, what, targets: of the problem. first: seconds of the first call, compiling included;
    cached: those of the first call in a later process, where compiled kernels are kept. path: which
    way sdekit went. points: by falling tolerance. cut_short: tighter ones would take too long.
    """

    title: str
    what: str
    contender: str
    targets: dict[str, tuple[float, ...]]
    first: float
    path: str
    points: tuple[Point, ...]
    cached: float | None = None
    cut_short: bool = False

    def reach(self, kind: str, target: float) -> Point | None:
        """The fastest point whose error is at most ``target``; None if there is none."""
        found = [point for point in self.points if point.error(kind) <= target]
        return min(found, key=lambda point: point.seconds, default=None)

    def best(self, kind: str) -> float:
        """The smallest error of any point."""
        return min((point.error(kind) for point in self.points), default=math.inf)

    def as_row(self) -> dict[str, Any]:
        """For JSON, which has no infinity: null stands for it."""
        points = [
            {k: v if math.isfinite(v) else None for k, v in point._asdict().items()}
            for point in self.points
        ]
        targets = {kind: list(values) for kind, values in self.targets.items()}
        return asdict(self) | {"targets": targets, "points": points}

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Curve:
        """The curve that ``as_row`` wrote down."""
        points = tuple(
            Point(**{k: math.inf if v is None else v for k, v in point.items()})
            for point in row["points"]
        )
        targets = {kind: tuple(values) for kind, values in row["targets"].items()}
        return cls(**row | {"targets": targets, "points": points})


def by_title(curves: Sequence[Curve]) -> dict[str, list[Curve]]:
    """Curves of one problem together, as they come."""
    found: dict[str, list[Curve]] = {}
    for curve in curves:
        found.setdefault(curve.title, []).append(curve)
    return found
