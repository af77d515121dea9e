"""What works for a data set: the network, the loss and the schedule, from a few plain numbers."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Final

import torch
from sdekit_kernels.checks import check_choice

from sdekit.data import Dataset, Jitter
from sdekit.score import MLP, Preconditioned, UNet
from sdekit.sde import AffineSDE
from sdekit.train.checkpoint import Checkpoint
from sdekit.train.losses import LOSSES, Loss, denoising_score_matching
from sdekit.train.spec import make_sde
from sdekit.train.times import TimeSampler
from sdekit.train.trainer import TrainReport, train
from sdekit.train.weighting import LogNormal

__all__ = ["LOSS_NAMES", "MODELS", "Recipe", "fit"]

MODELS: Final = ("mlp", "unet-tiny", "unet-small", "unet-base", "unet-large")
"""The networks that a recipe can name."""
LOSS_NAMES: Final = ("lognormal", *LOSSES)
"""Denoising score matching with the levels and weights of a ``LogNormal``, or a loss by name."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Numbers of one training, all that ``fit`` needs besides the data and the budget.

    sde: a name in ``sdekit.train.SDES``. model: a name in ``MODELS``; width and depth are those of
    "mlp". loss: a name in ``LOSS_NAMES``; level_mean, level_std: of the log noise levels that
    "lognormal" trains on, see ``sdekit.train.weighting.LogNormal``. augment: share of the images
    that ``Jitter`` changes at first; has no meaning for data that are no images of integers. The
    other names are those of ``train``.
    """

    sde: str = "vp"
    model: str = "mlp"
    width: int = 256
    depth: int = 3
    loss: str = "lognormal"
    batch: int = 256
    lr: float = 3e-3
    ema: float = 0.999
    clip: float | None = None
    precision: str = "full"
    level_mean: float = -1.0
    level_std: float = 1.6
    augment: float = 0.5
    seed: int = 0


def fit(
    data: Dataset,
    recipe: Recipe,
    *,
    steps: int | None = None,
    seconds: float | None = None,
    folder: str | os.PathLike[str] | None = None,
    device: torch.device | str = "cpu",
    on_step: Callable[[int, float, float], None] | None = None,
    **options: Any,
) -> tuple[Checkpoint, TrainReport]:
    """Train a network on ``data.train`` within the budget.

    device: of the network, which comes back there. folder, on_step, options: as for ``train``; with
    a folder, the same call goes on from there.
    Raises as ``make_sde``, the network and ``train`` do.
    """
    sde = make_sde(recipe.sde)
    data_std = _data_std(data)
    net = _network(data, recipe, sde, data_std).to(device)
    info = {
        "data": data.name if data.source is None else dict(data.source),
        "recipe": asdict(recipe),
    }
    report = train(
        net,
        sde,
        data.train,
        data.transform,
        loss=_loss(recipe, sde, data_std),
        steps=steps,
        seconds=seconds,
        batch=recipe.batch,
        lr=recipe.lr,
        ema=recipe.ema,
        clip=recipe.clip,
        precision=recipe.precision,
        augment=_augment(data, recipe),
        seed=recipe.seed,
        folder=folder,
        info=info,
        on_step=on_step,
        **options,
    )
    done = {
        "steps": report.steps,
        "seconds": round(report.seconds, 1),
        "loss": report.loss,
        "reproducible": report.reproducible,
    }
    return Checkpoint(net, sde, data.transform, info | done), report


def _data_std(data: Dataset) -> float:
    """Std of the components in the space of x: what the network's preconditioning is scaled by."""
    std = float(data.train.double().std())
    if data.transform is not None:
        std *= (data.transform.high - data.transform.low) / data.transform.levels
    return round(std, 3)


def _network(data: Dataset, recipe: Recipe, sde: AffineSDE, data_std: float) -> Preconditioned:
    """The network by its name; raises ValueError for another one."""
    check_choice("model", recipe.model, MODELS)
    common: dict[str, Any] = {"sde": sde, "data_std": data_std, "seed": recipe.seed}
    if recipe.model == "mlp":
        return MLP(data.event_shape, recipe.width, recipe.depth, **common)
    return UNet(data.event_shape, size=recipe.model.removeprefix("unet-"), **common)


def _loss(recipe: Recipe, sde: AffineSDE, data_std: float) -> Loss | str:
    """The loss by its name; raises ValueError for another one."""
    if check_choice("loss", recipe.loss, LOSS_NAMES) != "lognormal":
        return recipe.loss
    mean, std = recipe.level_mean, recipe.level_std
    return partial(
        denoising_score_matching,
        weighting=LogNormal(mean, std, data_std),
        times=TimeSampler(sde, proposal="lognormal", mean=mean, std=std),
    )


def _augment(data: Dataset, recipe: Recipe) -> Jitter | None:
    images = data.transform is not None and data.train.ndim in (3, 4)
    if not images or recipe.augment <= 0.0:
        return None
    assert data.transform is not None
    return Jitter(data.transform.levels, recipe.augment)
