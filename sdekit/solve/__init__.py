"""Solving SDEs: one call, and whichever way runs it, a kernel for whole paths or step by step."""

from __future__ import annotations

from sdekit.solve.choice import explain
from sdekit.solve.ensemble import Ensemble, ensemble
from sdekit.solve.functionals import (
    FirstPassage,
    Functional,
    Maximum,
    Minimum,
    TimeIntegral,
)
from sdekit.solve.solution import FINISHED, NONFINITE, STOPPED, Path, Solution, SolveStats
from sdekit.solve.solve import solve

__all__ = [
    "FINISHED",
    "NONFINITE",
    "STOPPED",
    "Ensemble",
    "FirstPassage",
    "Functional",
    "Maximum",
    "Minimum",
    "Path",
    "Solution",
    "SolveStats",
    "TimeIntegral",
    "ensemble",
    "explain",
    "solve",
]
