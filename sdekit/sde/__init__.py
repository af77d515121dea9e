"""Equations: what they are, their exact laws where these are known, and their time reversals."""

from sdekit.sde.affine import AffineSDE
from sdekit.sde.base import SDE, Marginal, as_time, check_output, expand, nonnegative_mask
from sdekit.sde.chain import DDPM, ChainBeta
from sdekit.sde.cir import CIR
from sdekit.sde.classic import GBM
from sdekit.sde.diffusion import VE, VP, SubVP
from sdekit.sde.heston import Heston
from sdekit.sde.interpretation import Converted, drift_correction, to_ito, to_stratonovich
from sdekit.sde.langevin import DoubleWell, Langevin
from sdekit.sde.matrix_ou import MatrixOU
from sdekit.sde.ou import OU, Brownian
from sdekit.sde.reverse import ProbabilityFlow, ReverseSDE
from sdekit.sde.schedules import CosineBeta, GeometricSigma, IdentitySigma, LinearBeta
from sdekit.sde.underdamped import UnderdampedLangevin

__all__ = [
    "CIR",
    "DDPM",
    "GBM",
    "OU",
    "SDE",
    "VE",
    "VP",
    "AffineSDE",
    "Brownian",
    "ChainBeta",
    "Converted",
    "CosineBeta",
    "DoubleWell",
    "GeometricSigma",
    "Heston",
    "IdentitySigma",
    "Langevin",
    "LinearBeta",
    "Marginal",
    "MatrixOU",
    "ProbabilityFlow",
    "ReverseSDE",
    "SubVP",
    "UnderdampedLangevin",
    "as_time",
    "check_output",
    "drift_correction",
    "expand",
    "nonnegative_mask",
    "to_ito",
    "to_stratonovich",
]
