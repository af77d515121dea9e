"""Training losses: functions of an SDE, a network and data, one number a sample.

All draw their times and noise from (seed, step) alone, stratify the times over the batch, and are
means over components, so that learning rates and clipping mean the same for data of every size.
"""

from sdekit.train.losses.bound_constant import bound_constant
from sdekit.train.losses.ddpm import ddpm_simple
from sdekit.train.losses.ddpm_bound import ddpm_bound
from sdekit.train.losses.denoising import denoising_score_matching
from sdekit.train.losses.edm import edm
from sdekit.train.losses.implicit import implicit_score_matching
from sdekit.train.losses.ncsn import ncsn
from sdekit.train.losses.sliced import PROJECTIONS, sliced_score_matching
from sdekit.train.losses.table import LOSSES, Loss, get_loss
from sdekit.train.losses.targets import TARGETS, as_score

__all__ = [
    "LOSSES",
    "PROJECTIONS",
    "TARGETS",
    "Loss",
    "as_score",
    "bound_constant",
    "ddpm_bound",
    "ddpm_simple",
    "denoising_score_matching",
    "edm",
    "get_loss",
    "implicit_score_matching",
    "ncsn",
    "sliced_score_matching",
]
