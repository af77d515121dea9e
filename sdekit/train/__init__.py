"""Training of score models: the loss, the loop, averaged weights, checkpoints."""

from sdekit.train.checkpoint import (
    Checkpoint,
    CheckpointError,
    load_checkpoint,
    save_checkpoint,
)
from sdekit.train.ema import EMA
from sdekit.train.losses import (
    LOSSES,
    as_score,
    ddpm_bound,
    ddpm_simple,
    denoising_score_matching,
    edm,
    get_loss,
    implicit_score_matching,
    ncsn,
    sliced_score_matching,
)
from sdekit.train.spec import NETWORKS, SDES, make_sde
from sdekit.train.times import Levels, TimeSampler, default_times
from sdekit.train.trainer import TrainReport, train
from sdekit.train.weighting import WEIGHTINGS

__all__ = [
    "EMA",
    "LOSSES",
    "NETWORKS",
    "SDES",
    "WEIGHTINGS",
    "Checkpoint",
    "CheckpointError",
    "Levels",
    "TimeSampler",
    "TrainReport",
    "as_score",
    "ddpm_bound",
    "ddpm_simple",
    "default_times",
    "denoising_score_matching",
    "edm",
    "get_loss",
    "implicit_score_matching",
    "load_checkpoint",
    "make_sde",
    "ncsn",
    "save_checkpoint",
    "sliced_score_matching",
    "train",
]
