"""What ``sdekit train`` and ``sample`` do, and what the commands share."""

from __future__ import annotations

import io
import math
import sys
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from sdekit_kernels.checks import check_choice, check_int_range
from torch import Tensor

from sdekit import viz
from sdekit.cli.errors import InputError, output_file
from sdekit.cli.report import progress, table
from sdekit.likelihood import Likelihood, log_likelihood
from sdekit.sample import CORRECTORS, PREDICTORS, polynomial_times, sample
from sdekit.sde import AffineSDE, IdentitySigma
from sdekit.train import SDES, Checkpoint, load_checkpoint, load_digits, make_sde, save_checkpoint
from sdekit.train.checkpoint import write_atomically
from sdekit.train.data import LEVELS
from sdekit.train.recipe import Recipe, fit_digits

DEFAULTS: Final = Recipe()
SDE_HELP: Final = f"Equation: {', '.join(SDES)}."
PREDICTOR_HELP: Final = f"{', '.join(PREDICTORS)}."
CORRECTOR_HELP: Final = f"{', '.join(CORRECTORS)}."

_DATA: Final = ("digits",)
# 50 x 50: 2325 dots each way.
_PICTURE: Final = 2500


def train_command(
    out: Path,
    *,
    data: str,
    sde: str,
    seconds: float | None,
    steps: int | None,
    batch: int,
    lr: float,
    width: int,
    depth: int,
    seed: int,
) -> None:
    """Train and write a checkpoint. Wrong values are refused before the work begins."""
    check_choice("data set", data, _DATA)
    make_sde(sde)
    check_seed(seed)
    output_file(out, ".safetensors")
    if seconds is None and steps is None:
        seconds = 90.0
    recipe = Recipe(sde=sde, width=width, depth=depth, batch=batch, lr=lr, seed=seed)
    with progress("training") as on_step:
        checkpoint, report = fit_digits(
            load_digits().train, recipe, steps=steps, seconds=seconds, on_step=on_step
        )
    save_checkpoint(out, checkpoint)
    table(
        "training",
        [
            ("steps", f"{report.steps}"),
            ("seconds", f"{report.seconds:.1f}"),
            ("loss over the last tenth", f"{report.loss:.4f}"),
            ("depends on the seed alone", "yes" if report.reproducible else "no: on the clock too"),
            ("checkpoint", str(out)),
        ],
    )


def sample_command(
    model: Path,
    out: Path,
    *,
    n: int,
    steps: int,
    predictor: str,
    corrector: str,
    snr: float,
    seed: int,
) -> None:
    """Draw images and write them as a picture or as grey levels."""
    check_choice("predictor", predictor, PREDICTORS)
    check_choice("corrector", corrector, CORRECTORS)
    check_int_range("the number of images", n, 1, 1_000_001)
    check_seed(seed)
    output_file(out, ".png", ".npy")
    if out.suffix.lower() == ".png":
        if n > _PICTURE:
            raise InputError(f"{n} images are too many for a picture: write --out FILE.npy")
        viz.require_matplotlib()
    checkpoint = load_images_model(model)
    start = time.perf_counter()
    x, info = sample(
        checkpoint.sde,
        checkpoint.net,
        (n, *checkpoint.net.event_shape),
        **grid(checkpoint.sde, steps),
        predictor=predictor,
        corrector=corrector,
        snr=snr,
        seed=seed,
        progress=sys.stderr.isatty(),
        return_info=True,
    )
    seconds = time.perf_counter() - start
    lost = int((info.status != 0).sum())
    if lost == n:
        raise ArithmeticError(
            f"all {n} samples left the finite numbers: write more --steps than {steps}"
        )
    images = checkpoint.transform.inverse(x[info.status == 0])
    write_images(out, images)
    table(
        "samples",
        [
            ("images", f"{n - lost}" + (f" ({lost} left the finite numbers)" if lost else "")),
            ("steps", f"{steps} of {predictor}, corrector {corrector}"),
            ("evaluations of the network", f"{info.nfe}"),
            ("seconds", f"{seconds:.1f}"),
            ("written to", str(out)),
        ],
    )


def score_images(
    checkpoint: Checkpoint,
    images: Tensor,
    *,
    divergence: str,
    probes: int,
    tolerance: float,
    seed: int,
) -> Likelihood:
    """Log-likelihoods of integer images, dequantized once by the seed."""
    x = checkpoint.transform.forward(images, seed=seed)
    return log_likelihood(
        checkpoint.sde,
        checkpoint.net,
        x,
        divergence=divergence,
        n_probes=probes,
        rtol=tolerance,
        atol=tolerance,
        seed=seed,
        transform=checkpoint.transform,
    )


def grid(sde: AffineSDE, steps: int) -> dict[str, Any]:
    """The times of a sampler, as keywords of ``sample``: equal steps where these will do.

    With sigma(t) = t equal steps would pass all small noise levels in the last one.
    """
    if isinstance(getattr(sde, "schedule", None), IdentitySigma):
        return {"times": polynomial_times(sde, steps)}
    return {"steps": steps}


def load_images_model(path: Path) -> Checkpoint:
    """A checkpoint for 8 x 8 images of 17 grey levels; raises InputError for another one."""
    checkpoint = load_checkpoint(path)
    if checkpoint.net.event_shape != (8, 8) or checkpoint.transform.levels != LEVELS:
        raise InputError(
            f"{path} is a model of data of shape {checkpoint.net.event_shape} with "
            f"{checkpoint.transform.levels} levels; this command is for the digits, (8, 8) with "
            f"{LEVELS}"
        )
    return checkpoint


def take(images: Tensor, n: int, what: str) -> Tensor:
    """The first n images; raises InputError unless there are so many."""
    if not 1 <= n <= len(images):
        raise InputError(f"there are {len(images)} {what}: write a number from 1 to {len(images)}")
    return images[:n]


def check_seed(seed: int) -> int:
    """``seed`` if it is in [0, 2^64); raises ValueError otherwise."""
    return check_int_range("seed", seed, 0, 1 << 64)


def write_images(out: Path, images: Tensor) -> None:
    """Grey levels (N, H, W) as a picture, 10 or more in a row, or as they are in numpy's format."""
    if out.suffix.lower() == ".png":
        columns = max(10, math.ceil(len(images) ** 0.5))
        viz.image_grids(out, {"samples": images}, columns=columns, limits=(0, LEVELS - 1))
        return
    buffer = io.BytesIO()
    np.save(buffer, images.to(torch.uint8).numpy(), allow_pickle=False)
    write_atomically(out, buffer.getvalue())
