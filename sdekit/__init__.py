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
from sdekit.solve import Solution, explain, solve

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
    "Likelihood",
    "Marginal",
    "MatrixOU",
    "ProbabilityFlow",
    "ReverseSDE",
    "Solution",
    "SubVP",
    "annealed_langevin",
    "explain",
    "log_likelihood",
    "sample",
    "score",
    "solve",
]
