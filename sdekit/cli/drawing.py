"""``sdekit sample``: draws of a trained model by any sampler, as a picture or as numbers."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from sdekit_kernels.checks import check_choice, check_int_range
from torch import Tensor

from sdekit import viz
from sdekit.cli.commands import check_seed, grid, write_samples
from sdekit.cli.errors import InputError, output_file
from sdekit.cli.model import Model, open_model
from sdekit.cli.report import table, write_json
from sdekit.quality import image_quality
from sdekit.sample import CORRECTORS, PREDICTORS, SAMPLERS, SampleInfo, sample

SAMPLER_HELP: Final = f"In the place of predictor and corrector: {', '.join(SAMPLERS)}."
PREDICTOR_HELP: Final = f"{', '.join(PREDICTORS)}."
CORRECTOR_HELP: Final = f"{', '.join(CORRECTORS)}."

_STEPS: Final = 1000
# 50 x 50: 2325 dots each way.
_PICTURE: Final = 2500


@dataclass(frozen=True, slots=True)
class SampleOptions:
    """The options of the command, see ``sdekit sample --help``."""

    out: Path = Path("samples.png")
    n: int = 100
    sampler: str | None = None
    steps: int | None = None
    predictor: str = "reverse_diffusion"
    corrector: str = "langevin"
    snr: float = 0.16
    quality: bool = False
    batch: int = 512
    seed: int = 0


def sample_command(path: Path, options: SampleOptions) -> None:
    """Draw samples; write them as a picture or in numpy's format, and numbers as JSON beside."""
    _check(options)
    model = open_model(path)
    if options.out.suffix.lower() == ".png":
        if model.is_images and options.n > _PICTURE:
            raise InputError(f"{options.n} are too many for a picture: write --out FILE.npy")
        viz.require_matplotlib()
    if options.quality:
        model.need_images("sample --quality")
    start = time.perf_counter()
    x, status, nfe, how = _draw(model, options)
    seconds = time.perf_counter() - start
    lost = int((status != 0).sum())
    if lost == options.n:
        raise ArithmeticError(
            f"all {lost} samples left the finite numbers: write more --steps than {_steps(options)}"
        )
    drawn = model.levels(x[status == 0])
    write_samples(model, options.out, drawn)
    numbers: dict[str, Any] = {
        "samples": options.n - lost,
        "nonfinite": lost,
        "how": how,
        "evaluations": nfe,
        "seconds": seconds,
        "seed": options.seed,
    }
    rows = [
        ("samples", f"{options.n - lost}" + (f" ({lost} left the finite numbers)" if lost else "")),
        ("steps", how),
        ("evaluations of the network", f"{nfe}"),
        ("seconds", f"{seconds:.1f}"),
    ]
    if options.quality:
        numbers["quality"] = image_quality(drawn, model.data)
        rows += _quality_rows(numbers["quality"])
    write_json(options.out.with_suffix(".json"), numbers)
    table("samples", [*rows, ("written to", str(options.out))])


def _check(options: SampleOptions) -> None:
    """Refuse wrong values before the work begins."""
    if options.sampler is not None:
        check_choice("sampler", options.sampler, SAMPLERS)
    check_choice("predictor", options.predictor, PREDICTORS)
    check_choice("corrector", options.corrector, CORRECTORS)
    check_int_range("the number of samples, of images", options.n, 1, 1_000_001)
    check_int_range("--batch", options.batch, 1, 1_000_001)
    check_seed(options.seed)
    output_file(options.out, ".png", ".npy")


def _steps(options: SampleOptions) -> int:
    return _STEPS if options.steps is None else options.steps


def _draw(model: Model, options: SampleOptions) -> tuple[Tensor, Tensor, int, str]:
    """Samples, their status, evaluations a sample, and what made them; batch by batch."""
    sde, net, steps = model.checkpoint.sde, model.checkpoint.net, _steps(options)
    parts: list[Tensor] = []
    statuses: list[Tensor] = []
    info: SampleInfo
    for first in range(0, options.n, options.batch):
        shape = (min(options.batch, options.n - first), *model.event_shape)
        common: dict[str, Any] = {
            "seed": options.seed,
            "first_sample": first,
            "progress": sys.stderr.isatty(),
            "return_info": True,
        }
        if options.sampler is not None:
            x, info = SAMPLERS[options.sampler](sde, net, shape, steps=steps, **common)
        else:
            x, info = sample(
                sde,
                net,
                shape,
                **grid(sde, steps),
                predictor=options.predictor,
                corrector=options.corrector,
                snr=options.snr,
                **common,
            )
        parts.append(x)
        statuses.append(info.status)
    how = f"{steps} of {options.predictor}, corrector {options.corrector}"
    if options.sampler is not None:
        told = SAMPLERS[options.sampler]
        counted = f"{steps} of " if told.evaluations is not None else ""
        how = f"{counted}{options.sampler}: {told.about}"
    return torch.cat(parts), torch.cat(statuses), int(info.nfe), how


def _quality_rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    """The distances of the samples, beside those of as many real training images."""
    mine, real = found["samples"], found["real"]
    n = found["n"]
    return [
        (
            f"Fréchet distance to {n} held-out images",
            f"{mine['frechet']:.3f} (training images: {real['frechet']:.3f})",
        ),
        (
            "squared MMD",
            f"{mine['mmd']:.2g} ± {mine['mmd_std_error']:.1g} (training images: {real['mmd']:.2g})",
        ),
        (
            "classifier's confidence",
            f"{mine['confidence']:.3f} (training images: {real['confidence']:.3f})",
        ),
    ]
