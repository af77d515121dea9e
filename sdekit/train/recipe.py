"""What works for the digits: the network, the loss and the schedule that the demo uses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

from torch import Tensor

from sdekit.likelihood import DataTransform
from sdekit.score import MLP
from sdekit.sde import AffineSDE
from sdekit.train.augment import Jitter
from sdekit.train.checkpoint import Checkpoint
from sdekit.train.data import LEVELS
from sdekit.train.loop import TrainReport, train
from sdekit.train.spec import make_sde
from sdekit.train.times import TimeSampler
from sdekit.train.weighting import LogNormal


@dataclass(frozen=True, slots=True)
class Recipe:
    """Numbers of one training, all that ``fit_digits`` needs besides the data and the budget.

    sde: a name in ``sdekit.train.SDES``. level_mean, level_std: of the log noise levels to train
    on, see ``sdekit.train.weighting.LogNormal``. augment: share of the images that ``Jitter``
    changes at first. The other names are those of ``MLP`` and ``train``.
    """

    sde: str = "vp"
    width: int = 256
    depth: int = 3
    batch: int = 256
    lr: float = 3e-3
    ema: float = 0.999
    level_mean: float = -1.0
    level_std: float = 1.6
    augment: float = 0.5
    seed: int = 0


def fit_digits(
    images: Tensor,
    recipe: Recipe,
    *,
    steps: int | None = None,
    seconds: float | None = None,
    on_step: Callable[[int, float, float], None] | None = None,
) -> tuple[Checkpoint, TrainReport]:
    """Train a network on images (N, H, W) of the grey levels 0..16, within the budget.

    Raises as ``make_sde``, ``MLP`` and ``train`` do.
    """
    sde: AffineSDE = make_sde(recipe.sde)
    transform = DataTransform(LEVELS)
    # The std of the pixels in [-1, 1), about 0.7: what the network's preconditioning is scaled by.
    data_std = round(float(images.double().std()) * 2.0 / LEVELS, 3)
    net = MLP(
        tuple(images.shape[1:]),
        recipe.width,
        recipe.depth,
        sde=sde,
        data_std=data_std,
        seed=recipe.seed,
    )
    report = train(
        net,
        sde,
        images,
        transform,
        steps=steps,
        seconds=seconds,
        batch=recipe.batch,
        lr=recipe.lr,
        ema=recipe.ema,
        weighting=LogNormal(recipe.level_mean, recipe.level_std, data_std),
        times=TimeSampler(sde, proposal="lognormal", mean=recipe.level_mean, std=recipe.level_std),
        augment=Jitter(LEVELS, recipe.augment) if recipe.augment > 0.0 else None,
        seed=recipe.seed,
        on_step=on_step,
    )
    info = {
        "data": "digits",
        "recipe": asdict(recipe),
        "steps": report.steps,
        "seconds": round(report.seconds, 1),
        "loss": report.loss,
        "reproducible": report.reproducible,
    }
    return Checkpoint(net, sde, transform, info), report
