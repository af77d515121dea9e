"""sdekit solves stochastic differential equations on PyTorch, fast, and proves the answers right.

What stands here is what a user may name; ``docs/architecture.md`` says how the parts meet.
"""

from __future__ import annotations

from sdekit import score
from sdekit.likelihood import DataTransform, Likelihood, log_likelihood
from sdekit.sample import annealed_langevin
from sdekit.sample.sample import sample
from sdekit.sde import (
    GBM,
    OU,
    SDE,
    VE,
    VP,
    AffineSDE,
    Brownian,
    DoubleWell,
    Marginal,
    MatrixOU,
    ProbabilityFlow,
    ReverseSDE,
    SubVP,
)
from sdekit.solve import (
    Ensemble,
    FirstPassage,
    Functional,
    Maximum,
    Minimum,
    Solution,
    TimeIntegral,
    ensemble,
    explain,
    solve,
)

__all__ = [
    "GBM",
    "OU",
    "SDE",
    "VE",
    "VP",
    "AffineSDE",
    "Brownian",
    "DataTransform",
    "DoubleWell",
    "Ensemble",
    "FirstPassage",
    "Functional",
    "Likelihood",
    "Marginal",
    "MatrixOU",
    "Maximum",
    "Minimum",
    "ProbabilityFlow",
    "ReverseSDE",
    "Solution",
    "SubVP",
    "TimeIntegral",
    "annealed_langevin",
    "ensemble",
    "explain",
    "log_likelihood",
    "sample",
    "score",
    "solve",
]
