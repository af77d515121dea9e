"""Training of score models: the loss, the loop, averaged weights, checkpoints, the digits."""

from sdekit.train.checkpoint import (
    Checkpoint,
    CheckpointError,
    load_checkpoint,
    save_checkpoint,
)
from sdekit.train.data import Digits, load_digits
from sdekit.train.ema import EMA
from sdekit.train.loop import TrainReport, train
from sdekit.train.loss import denoising_score_matching
from sdekit.train.spec import SDES, make_sde
from sdekit.train.times import TimeSampler

__all__ = [
    "EMA",
    "SDES",
    "Checkpoint",
    "CheckpointError",
    "Digits",
    "TimeSampler",
    "TrainReport",
    "denoising_score_matching",
    "load_checkpoint",
    "load_digits",
    "make_sde",
    "save_checkpoint",
    "train",
]
