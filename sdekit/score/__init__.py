"""Score models: any callable (t, x) -> score of x's shape, with t 0-d or one entry a sample."""

from sdekit.score.analytic import Gaussian, GaussianMixture
from sdekit.score.mlp import MLP
from sdekit.score.parameterization import from_edm, from_eps, from_v, from_x0

__all__ = [
    "MLP",
    "Gaussian",
    "GaussianMixture",
    "from_edm",
    "from_eps",
    "from_v",
    "from_x0",
]
