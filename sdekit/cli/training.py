"""``sdekit train``: a data set, an equation and a network, to a model with its samples."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from sdekit_kernels.checks import check_choice

from sdekit import viz
from sdekit.cli.commands import check_seed
from sdekit.cli.errors import InputError, output_file, output_folder
from sdekit.cli.model import Model
from sdekit.cli.report import progress, table, write_json
from sdekit.data import DATASETS, Dataset, load
from sdekit.sample import SAMPLERS
from sdekit.train import SDES, Checkpoint, TrainReport, make_sde, save_checkpoint
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
_GRID: Final = 64
_SAMPLER, _STEPS = "edm_heun", 40


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """The options of the command, see ``sdekit train --help``."""

    out: Path
    data: str
    recipe: Recipe
    seconds: float | None = None
    steps: int | None = None
    size: int | None = None
    skip_broken: bool = False
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
    **numbers: Any,
) -> Recipe:
    """The recipe of a model, with its own batch, learning rate ... where none is given."""
    own = _OWN.get(model, _OWN_UNET)
    unet = model != "mlp"
    if precision is None:
        precision = quickest_precision() if unet else "full"
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
    recipe = options.recipe
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
    steps, seconds = options.steps, options.seconds
    if steps is None and seconds is None:
        seconds = _SECONDS
    losses: list[float] = []
    with progress("training") as show:

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
                grid_every=500 if options.tensorboard else None,
                on_step=on_step,
            )
        finally:
            torch.set_flush_denormal(False)
    if single:
        save_checkpoint(options.out, checkpoint)
    else:
        save_checkpoint(options.out / MODEL, checkpoint)
    written = _write(options.out, checkpoint, data, losses, report)
    table("training", _rows(report, checkpoint, options.out, written))


def _data(options: TrainOptions) -> Dataset:
    """The data set by its name, or the folder of images."""
    if options.data in DATASETS:
        if options.size is not None or options.skip_broken:
            raise InputError("--size and --skip-broken are for a folder of images")
        return load(options.data)
    if not Path(options.data).exists():
        check_choice("data set (nor is it a folder)", options.data, DATASETS)
    given: dict[str, Any] = {"skip_broken": options.skip_broken}
    if options.size is not None:
        given["size"] = options.size
    return load(str(Path(options.data).resolve()), **given)


def _write(
    out: Path, checkpoint: Checkpoint, data: Dataset, losses: list[float], report: TrainReport
) -> list[str]:
    """Samples beside data, the loss and the numbers; names of the files."""
    single = bool(out.suffix)
    at = partial(_beside, out) if single else lambda name: out / name
    names = ["samples.png", "loss.png", "summary.json"]
    model = Model(out, checkpoint)
    shape = (_GRID if model.is_images else 2000, *checkpoint.net.event_shape)
    x = SAMPLERS[_SAMPLER](checkpoint.sde, checkpoint.net, shape, steps=_STEPS, seed=0)
    lost = ~x.flatten(1).isfinite().all(1)
    if bool(lost.all()):
        raise ArithmeticError("all samples left the finite numbers: train longer, or with less lr")
    drawable = model.is_images or model.event_shape == (2,)
    if drawable:
        sets = {"data": data.train[: len(x)], "samples": model.levels(x[~lost])}
        model.picture(at(names[0]), sets, columns=8)
    if losses:
        viz.curve(at(names[1]), losses, x="step of this run", y="loss")
    numbers = {
        "data": data.name,
        "skipped": list(data.skipped),
        "steps": report.steps,
        "seconds": report.seconds,
        "loss": report.loss,
        "stopped_by": report.stopped_by,
        "reproducible": report.reproducible,
        "resumed_from": report.resumed_from,
        "weights": sum(p.numel() for p in checkpoint.net.parameters()),
        "recipe": checkpoint.info["recipe"],
        "samples": {"sampler": _SAMPLER, "steps": _STEPS, "nonfinite": int(lost.sum())},
    }
    write_json(at(names[2]), numbers)
    kept = [n for n, here in zip(names, (drawable, bool(losses), True), strict=True) if here]
    return [str(at(name)) for name in kept]


def _beside(out: Path, name: str) -> Path:
    """``model.safetensors`` and ``samples.png`` make ``model-samples.png``."""
    return out.with_name(f"{out.stem}-{name}")


def _rows(
    report: TrainReport, checkpoint: Checkpoint, out: Path, written: list[str]
) -> list[tuple[str, str]]:
    model = out if out.suffix else out / MODEL
    rows = [
        ("steps", f"{report.steps}"),
        ("seconds", f"{report.seconds:.1f}"),
        ("loss over the last tenth", f"{report.loss:.4f}"),
        ("weights", f"{sum(p.numel() for p in checkpoint.net.parameters()):,}"),
        ("depends on the seed alone", "yes" if report.reproducible else "no: on the clock too"),
        ("checkpoint", str(model)),
        ("pictures and numbers", ", ".join(written)),
    ]
    if report.resumed_from is not None:
        rows.insert(1, ("went on from step", f"{report.resumed_from}"))
    return rows
