"""Equations: what they are, their exact laws where these are known, and their time reversals."""

from sdekit.sde.affine import AffineSDE
from sdekit.sde.base import SDE, Marginal, as_time, check_output, expand
from sdekit.sde.classic import GBM
from sdekit.sde.diffusion import VE, VP, SubVP
from sdekit.sde.langevin import DoubleWell
from sdekit.sde.matrix_ou import MatrixOU
from sdekit.sde.ou import OU, Brownian
from sdekit.sde.reverse import ProbabilityFlow, ReverseSDE
from sdekit.sde.schedules import CosineBeta, GeometricSigma, IdentitySigma, LinearBeta

__all__ = [
    "GBM",
    "OU",
    "SDE",
    "VE",
    "VP",
    "AffineSDE",
    "Brownian",
    "CosineBeta",
    "DoubleWell",
    "GeometricSigma",
    "IdentitySigma",
    "LinearBeta",
    "Marginal",
    "MatrixOU",
    "ProbabilityFlow",
    "ReverseSDE",
    "SubVP",
    "as_time",
    "check_output",
    "expand",
]
