"""What makes a fit the one it is, in plain values: a folder refuses the fit of another bridge."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

from sdekit.bridge.cache import Cache
from sdekit.bridge.ends import End, Law, Samples
from sdekit.bridge.grid import TimeGrid
from sdekit.bridge.regression import Regression
from sdekit.train.batches import fingerprint
from sdekit.train.describe import describe

FREE: Final = ("lr", "clip", "compiled")
"""Of a regression, what may be another when a fit goes on: all that a divergence needs."""


def describe_end(end: End) -> Any:
    """Data by shape and hash, a law by its class and attributes."""
    if isinstance(end, Samples):
        return {"data": list(end.data.shape), "sha256": fingerprint(end.data)}
    return describe(end.law if isinstance(end, Law) else end)


def describe_grid(grid: TimeGrid) -> dict[str, Any]:
    """How many steps to which time, and a hash of the times."""
    return {"steps": grid.N, "T": grid.T, "sha256": fingerprint(grid.times)[:16]}


def describe_cache(cache: Cache) -> dict[str, Any]:
    """What the paths that a regression sees depend on: not where they are kept."""
    values = asdict(cache)
    del values["device"]
    return values


def describe_regression(regression: Regression) -> dict[str, Any]:
    """Its numbers, but for those that may differ."""
    kept = {k: v for k, v in asdict(regression).items() if k not in FREE}
    return {"name": type(regression).__name__, **kept}
