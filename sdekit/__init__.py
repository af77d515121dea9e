"""sdekit solves stochastic differential equations on PyTorch, fast, and proves the answers right.

What stands here is what a user may name; ``docs/architecture.md`` says how the parts meet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sdekit import convergence, ode, score
from sdekit.fokker_planck import Density, fokker_planck
from sdekit.likelihood import (
    DataTransform,
    Flow,
    Likelihood,
    elbo,
    log_likelihood,
    sample_flow,
)
from sdekit.sample import annealed_langevin
from sdekit.sample.sample import sample
from sdekit.sde import (
    CIR,
    DDPM,
    GBM,
    OU,
    SDE,
    VE,
    VP,
    AffineSDE,
    Brownian,
    DoubleWell,
    Heston,
    Langevin,
    Marginal,
    MatrixOU,
    ProbabilityFlow,
    ReverseSDE,
    SubVP,
    UnderdampedLangevin,
    to_ito,
    to_stratonovich,
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
from sdekit.solvers import SOLVERS
from sdekit.solvers.stability import StabilityWarning

if TYPE_CHECKING:
    from sdekit import bridge, viz

__all__ = [
    "CIR",
    "DDPM",
    "GBM",
    "OU",
    "SDE",
    "SOLVERS",
    "VE",
    "VP",
    "AffineSDE",
    "Brownian",
    "DataTransform",
    "Density",
    "DoubleWell",
    "Ensemble",
    "FirstPassage",
    "Flow",
    "Functional",
    "Heston",
    "Langevin",
    "Likelihood",
    "Marginal",
    "MatrixOU",
    "Maximum",
    "Minimum",
    "ProbabilityFlow",
    "ReverseSDE",
    "Solution",
    "StabilityWarning",
    "SubVP",
    "TimeIntegral",
    "UnderdampedLangevin",
    "annealed_langevin",
    "bridge",
    "convergence",
    "elbo",
    "ensemble",
    "explain",
    "fokker_planck",
    "log_likelihood",
    "ode",
    "sample",
    "sample_flow",
    "score",
    "solve",
    "to_ito",
    "to_stratonovich",
    "viz",
]


def __getattr__(name: str) -> Any:
    """``sdekit.bridge`` and ``sdekit.viz``, loaded when first named.

    The first brings the trainer, 0.3 s of imports.
    """
    if name in ("bridge", "viz"):
        import importlib

        return importlib.import_module(f"sdekit.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
