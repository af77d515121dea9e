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
from sdekit.cli.commands import check_device, check_seed, grid, write_samples
from sdekit.cli.errors import InputError, output_file
from sdekit.cli.model import Model, open_model
from sdekit.cli.report import table, write_json
from sdekit.quality import digit_features, image_quality
from sdekit.sample import CORRECTORS, PREDICTORS, SAMPLERS, SampleInfo, sample
from sdekit.sample.table import langevin_rule

_SAMPLER: Final = "edm_heun"
SAMPLER_HELP: Final = f"{', '.join(SAMPLERS)}; {_SAMPLER} if no option below names another."
_PREDICTOR: Final = "reverse_diffusion"
PREDICTOR_HELP: Final = f"In the place of a sampler: {', '.join(PREDICTORS)}; {_PREDICTOR}."
CORRECTOR_HELP: Final = (
    f"In the place of a sampler: {', '.join(CORRECTORS)}; langevin, or annealed for samples of "
    "less than 32 components."
)
_SNR: Final = 0.16
STEPS_HELP: Final = (
    "Steps; each sampler's own if none are given ("
    + ", ".join(f"{s.steps} of {name}" for name, s in SAMPLERS.items() if s.evaluations is not None)
    + "), 1000 of predictor and corrector."
)

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
    predictor: str | None = None
    corrector: str | None = None
    snr: float | None = None
    quality: bool = False
    batch: int = 512
    device: str = "cpu"
    seed: int = 0

    @property
    def named(self) -> str | None:
        """The sampler of ``SAMPLERS``; None for a predictor with a corrector."""
        parts = (self.predictor, self.corrector, self.snr)
        return self.sampler or (_SAMPLER if all(part is None for part in parts) else None)


def sample_command(path: Path, options: SampleOptions) -> None:
    """Draw samples; write them as a picture or in numpy's format, and numbers as JSON beside."""
    _check(options)
    model = open_model(path, check_device(options.device))
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
        steps = _steps(options)
        way = "train longer" if steps is None else f"write more --steps than {steps}"
        raise ArithmeticError(f"all {lost} samples left the finite numbers: {way}")
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
        # Made or read in the line above: F, the number of the features.
        features = digit_features(model.data).net.last.in_features
        rows += _quality_rows(numbers["quality"], 3 * (features + 2))
    write_json(options.out.with_suffix(".json"), numbers)
    table("samples", [*rows, ("written to", str(options.out))])


def _check(options: SampleOptions) -> None:
    """Refuse wrong values before the work begins."""
    if options.sampler is not None:
        check_choice("sampler", options.sampler, SAMPLERS)
        for name in ("predictor", "corrector", "snr"):
            if getattr(options, name) is not None:
                raise InputError(
                    f"--sampler {options.sampler} is a whole sampler, --{name} a part of another "
                    "one: leave one of them away"
                )
    if options.predictor is not None:
        check_choice("predictor", options.predictor, PREDICTORS)
    if options.corrector is not None:
        check_choice("corrector", options.corrector, CORRECTORS)
    check_int_range("the number of samples, of images", options.n, 1, 1_000_001)
    check_int_range("--batch", options.batch, 1, 1_000_001)
    if options.steps is not None:
        check_int_range("--steps", options.steps, 1, 1 << 31)
    check_seed(options.seed)
    output_file(options.out, ".png", ".npy")


def _steps(options: SampleOptions) -> int | None:
    """As asked, or the sampler's own; None for one that takes as many as a tolerance asks for."""
    if options.named is not None and SAMPLERS[options.named].evaluations is None:
        return None
    if options.steps is not None:
        return options.steps
    return _STEPS if options.named is None else SAMPLERS[options.named].steps


def _parts(model: Model, options: SampleOptions) -> dict[str, Any]:
    """Predictor and corrector as ``sample`` takes them."""
    corrector = options.corrector
    if corrector is None:
        corrector = langevin_rule(model.event_shape)
    return {
        "predictor": _PREDICTOR if options.predictor is None else options.predictor,
        "corrector": corrector,
        "snr": _SNR if options.snr is None else options.snr,
        "data_std": model.checkpoint.net.data_std if corrector == "ou" else None,
    }


def _draw(model: Model, options: SampleOptions) -> tuple[Tensor, Tensor, int, str]:
    """Samples, their status, evaluations a sample, and what made them; batch by batch."""
    sde, net, steps = model.checkpoint.sde, model.checkpoint.net, _steps(options)
    name, how = options.named, _parts(model, options)
    parts: list[Tensor] = []
    statuses: list[Tensor] = []
    info: SampleInfo
    for first in range(0, options.n, options.batch):
        shape = (min(options.batch, options.n - first), *model.event_shape)
        common: dict[str, Any] = {
            "seed": options.seed,
            "first_sample": first,
            "device": model.device,
            "progress": sys.stderr.isatty(),
            "return_info": True,
        }
        if name is not None:
            x, info = SAMPLERS[name](sde, net, shape, steps=steps, **common)
        else:
            assert steps is not None
            x, info = sample(sde, net, shape, **grid(sde, steps), **how, **common)
        parts.append(x.cpu())
        statuses.append(info.status.cpu())
    told = f"{steps} of {how['predictor']}, corrector {how['corrector']}"
    if name is not None:
        counted = "" if steps is None else f"{steps} of "
        told = f"{counted}{name}: {SAMPLERS[name].about}"
    return torch.cat(parts), torch.cat(statuses), int(info.nfe), told


def _quality_rows(found: dict[str, Any], enough: int) -> list[tuple[str, str]]:
    """The distances of the samples, beside those of as many real training images.

    enough: images from which a Fréchet distance in so many features means something.
    """
    mine, real = found["samples"], found["real"]
    n = found["n"]
    known = mine["frechet_infinity"] is not None and real["frechet_infinity"] is not None
    if known:
        further = (
            "  extrapolated to any number",
            f"{mine['frechet_infinity']:.3f} (training images: {real['frechet_infinity']:.3f})",
        )
    else:
        further = ("  too few to tell", f"a comparison needs {enough} images or more, not {n}")
    return [
        (
            f"Fréchet distance to {n} held-out images",
            f"{mine['frechet']:.3f} (training images: {real['frechet']:.3f})",
        ),
        further,
        (
            "squared MMD",
            f"{mine['mmd']:.2g} ± {mine['mmd_std_error']:.1g} (training images: {real['mmd']:.2g})",
        ),
        (
            "classifier's confidence",
            f"{mine['confidence']:.3f} (training images: {real['confidence']:.3f})",
        ),
    ]
