"""``sdekit train``: a data set, an equation and a network, to a model with its samples."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from sdekit_kernels.checks import check_choice, check_positive

from sdekit import viz
from sdekit.cli.commands import check_device, check_seed, first_process
from sdekit.cli.errors import InputError, output_file, output_folder
from sdekit.cli.report import progress, table
from sdekit.cli.trained import rows_of, saved, write_trained
from sdekit.data import DATASETS, Dataset, load
from sdekit.train import SDES, make_sde, save_checkpoint
from sdekit.train.checkpoint import MODEL
from sdekit.train.precision import quickest_precision
from sdekit.train.recipe import LOSS_NAMES, MODELS, Recipe, fit

SETS_HELP: Final = f"Data set: {', '.join(DATASETS)}, or a folder of images."
SDE_HELP: Final = f"Equation: {', '.join(SDES)}."
MODEL_HELP: Final = f"Network: {', '.join(MODELS)}."
LOSS_HELP: Final = f"{', '.join(LOSS_NAMES)}."

_SECONDS: Final = 90.0
_OWN: Final = {"mlp": (256, 3e-3)}
_OWN_UNET: Final = (64, 2e-3)
"""Batch and learning rate of the networks."""


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """The options of the command, see ``sdekit train --help``."""

    out: Path
    data: str
    recipe: Recipe
    seconds: float | None = None
    steps: int | None = None
    size: int | None = None
    gray: bool = False
    skip_broken: bool = False
    device: str = "cpu"
    compiled: bool = False
    tensorboard: bool = False
    save_seconds: float = 60.0


def recipe_of(
    model: str,
    *,
    batch: int | None,
    lr: float | None,
    clip: float | None,
    precision: str | None,
    augment: bool,
    device: str = "cpu",
    **numbers: Any,
) -> Recipe:
    """The recipe of a model, with its own batch, learning rate ... where none is given."""
    own = _OWN.get(model, _OWN_UNET)
    unet = model != "mlp"
    if precision is None:
        precision = quickest_precision(check_device(device)) if unet else "full"
    share = Recipe().augment if augment else 0.0
    return Recipe(
        model=model,
        batch=own[0] if batch is None else batch,
        lr=own[1] if lr is None else lr,
        clip=1.0 if clip is None and unet else clip,
        precision=precision,
        augment=share,
        **numbers,
    )


def train_command(options: TrainOptions) -> None:
    """Train; write the model, samples, the loss and numbers. Wrong values are refused first.

    ``out`` is one file, FILE.safetensors, or a folder, in which the training is kept as well: the
    same command again goes on from there.
    """
    recipe, device = options.recipe, check_device(options.device)
    make_sde(recipe.sde)
    check_choice("model", recipe.model, MODELS)
    check_choice("loss", recipe.loss, LOSS_NAMES)
    check_seed(recipe.seed)
    single = bool(options.out.suffix)
    output_file(options.out, ".safetensors") if single else output_folder(options.out)
    if single and options.tensorboard:
        raise InputError("--tensorboard needs a folder: write --out FOLDER")
    viz.require_matplotlib()
    data = _data(options)
    shape = data.event_shape
    images = len(shape) == 2 or (len(shape) == 3 and shape[0] in (1, 3))
    steps, seconds = options.steps, options.seconds
    if steps is None and seconds is None:
        seconds = _SECONDS
    losses: list[float] = []
    with progress("training") if first_process() else nullcontext() as show:

        def on_step(done: int, way: float, loss: float) -> None:
            losses.append(loss)
            if show is not None:
                show(done, way, loss)

        # Adam's averages decay into subnormal numbers, which the processor handles in microcode.
        torch.set_flush_denormal(True)
        try:
            checkpoint, report = fit(
                data,
                recipe,
                steps=steps,
                seconds=seconds,
                folder=None if single else options.out,
                save_seconds=options.save_seconds,
                compiled=options.compiled,
                tensorboard=options.out / "tensorboard" if options.tensorboard else None,
                grid_every=500 if options.tensorboard and images else None,
                device=device,
                on_step=on_step,
            )
        finally:
            torch.set_flush_denormal(False)
    if not first_process():
        return
    if single:
        save_checkpoint(options.out, checkpoint)
    with saved(options.out):
        if not single:
            save_checkpoint(options.out / MODEL, checkpoint)
        written = write_trained(options.out, checkpoint, data, losses, report)
    table("training", rows_of(report, checkpoint, options.out, written))


def _data(options: TrainOptions) -> Dataset:
    """The data set by its name, or the folder of images."""
    if options.data in DATASETS:
        if options.size is not None or options.skip_broken or options.gray:
            raise InputError("--size, --gray and --skip-broken are for a folder of images")
        return load(options.data)
    if not Path(options.data).exists():
        check_choice("data set (nor is it a folder)", options.data, DATASETS)
    given = {"skip_broken": options.skip_broken, "gray": options.gray, "size": options.size}
    try:
        return load({"path": str(Path(options.data).resolve()), **given})
    except ValueError as error:
        text = str(error).replace("skip_broken=True", "--skip-broken")
        raise InputError(text.replace("size=(H, W)", "--size PIXELS")) from None


def time_limit(minutes: float | None, seconds: float | None) -> float | None:
    """In seconds, of whichever is given; raises InputError for both."""
    if minutes is None:
        return seconds
    if seconds is not None:
        raise InputError("--minutes and --seconds are one limit: give one of them")
    return 60.0 * check_positive("--minutes", minutes)
