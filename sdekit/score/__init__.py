"""Score models: any callable (t, x) -> score of x's shape, with t 0-d or one entry a sample."""

from sdekit.score.analytic import Gaussian, GaussianMixture
from sdekit.score.mlp import MLP
from sdekit.score.parameterization import clip_data, from_edm, from_eps, from_v, from_x0
from sdekit.score.preconditioned import Preconditioned
from sdekit.score.unet import UNet

__all__ = [
    "MLP",
    "Gaussian",
    "GaussianMixture",
    "Preconditioned",
    "UNet",
    "clip_data",
    "from_edm",
    "from_eps",
    "from_v",
    "from_x0",
]
