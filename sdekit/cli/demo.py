"""``sdekit demo``: from an equation to digits and their exact likelihoods, in a few minutes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from sdekit_kernels.checks import check_int_range, check_positive
from torch import Tensor

from sdekit import viz
from sdekit.cli import commands, report
from sdekit.cli.errors import output_folder
from sdekit.cli.model import take
from sdekit.data import Dataset, load, noise_images
from sdekit.data.digits import LEVELS
from sdekit.likelihood import Likelihood
from sdekit.quality import Judge, Quality, gaussian_bits_per_dim, uniform_bits_per_dim
from sdekit.sample import sample
from sdekit.sde import AffineSDE
from sdekit.train import Checkpoint, TrainReport, make_sde, save_checkpoint
from sdekit.train.recipe import Recipe, fit

R = TypeVar("R")
_LIMITS = (0, LEVELS - 1)
_TOLERANCE = 1e-4
_PATH_POINTS = 11
_SHOWN = 100


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """The options of the command, see ``sdekit demo --help``."""

    out: Path
    seconds: float | None = None
    train_steps: int | None = None
    samples: int = 100
    steps: int = 1000
    flow_steps: int = 1000
    test: int = 200
    probes: int = 8
    sde: str = "vp"
    seed: int = 0


@dataclass(slots=True)
class Findings:
    """What the demo found, for the table and the pictures."""

    training: TrainReport
    drawn: dict[str, Tensor]
    quality: dict[str, Quality]
    exact: Likelihood
    hutchinson: Likelihood
    noise: Likelihood
    gaussian: Tensor
    path: Tensor
    path_t: list[float]
    seconds: dict[str, float] = field(default_factory=dict)


def run_demo(options: DemoOptions) -> None:
    """Train, sample, score; write pictures, numbers and the checkpoint; print one table."""
    _check(options)
    out = output_folder(options.out)
    viz.require_matplotlib()
    # Adam's averages decay into subnormal numbers, which the processor handles in microcode.
    torch.set_flush_denormal(True)
    try:
        _run(options, out)
    finally:
        torch.set_flush_denormal(False)


def _run(options: DemoOptions, out: Path) -> None:
    begin = time.perf_counter()
    digits = load("digits")
    take(digits.test, options.test, "test images")
    clock: dict[str, float] = {}
    checkpoint, training = _timed(clock, "training", lambda: _train(digits, options))
    save_checkpoint(out / "model.safetensors", checkpoint)
    found = _evaluate(checkpoint, training, digits, options, clock)
    pictures = _timed(clock, "pictures", lambda: _draw(found, digits, out))
    clock["all"] = time.perf_counter() - begin
    found.seconds = clock
    report.write_json(out / "numbers.json", _numbers(found, options))
    _print_table(found, options)
    print(f"\nin {out}/: {', '.join(p.name for p in pictures)}, numbers.json, model.safetensors")


def _check(options: DemoOptions) -> None:
    """Refuse wrong numbers before the training, not after it."""
    sde = make_sde(options.sde)
    commands.check_seed(options.seed)
    if options.seconds is not None:
        check_positive("--seconds", options.seconds)
    if options.train_steps is not None:
        check_int_range("--train-steps", options.train_steps, 1, 1 << 31)
    check_int_range("--samples", options.samples, 1, 10_001)
    check_int_range("--steps", options.steps, _PATH_POINTS - 1, 1_000_001)
    check_int_range("--flow-steps", options.flow_steps, 1, 1_000_001)
    check_int_range("--probes", options.probes, 1, 10_001)
    # The samplers' own checks, on an empty batch: some grids are too coarse for some equations.
    for settings in (_corrected(options, sde), _flow(options, sde)):
        sample(sde, lambda _, x: x, (0, 1), **settings)


def _corrected(options: DemoOptions, sde: AffineSDE) -> dict[str, Any]:
    return {
        **commands.grid(sde, options.steps),
        "predictor": "reverse_diffusion",
        "corrector": "langevin",
        "seed": options.seed,
    }


def _flow(options: DemoOptions, sde: AffineSDE) -> dict[str, Any]:
    # One seed for both samplers: they start from the same prior noise.
    steps = commands.grid(sde, options.flow_steps)
    return {**steps, "predictor": "probability_flow", "seed": options.seed}


def _train(digits: Dataset, options: DemoOptions) -> tuple[Checkpoint, TrainReport]:
    recipe = Recipe(sde=options.sde, seed=options.seed)
    steps, seconds = options.train_steps, options.seconds
    if steps is None and seconds is None:
        seconds = 80.0
    limits = [] if seconds is None else [f"{seconds:g} s at the most"]
    limits += [] if steps is None else [f"{steps} steps at the most"]
    print(f"training on {len(digits.train)} digits, {', '.join(limits)}", flush=True)
    with report.progress("training") as on_step:
        return fit(
            digits,
            recipe,
            steps=steps,
            seconds=seconds,
            on_step=on_step,
        )


def _evaluate(
    checkpoint: Checkpoint,
    training: TrainReport,
    digits: Dataset,
    options: DemoOptions,
    clock: dict[str, float],
) -> Findings:
    print(f"drawing 2 x {options.samples} digits", flush=True)
    shape = (options.samples, *checkpoint.net.event_shape)
    corrected, info = _timed(
        clock,
        "predictor-corrector",
        lambda: sample(
            checkpoint.sde,
            checkpoint.net,
            shape,
            path_points=_PATH_POINTS,
            return_info=True,
            **_corrected(options, checkpoint.sde),
        ),
    )
    flow, flow_info = _timed(
        clock,
        "probability flow",
        lambda: sample(
            checkpoint.sde,
            checkpoint.net,
            shape,
            return_info=True,
            **_flow(options, checkpoint.sde),
        ),
    )
    if bool((info.status != 0).any() | (flow_info.status != 0).any()):
        raise ArithmeticError("samples left the finite numbers: train longer, or sample more steps")
    assert checkpoint.transform is not None
    back = checkpoint.transform.inverse
    drawn = {"predictor-corrector": back(corrected), "probability flow": back(flow)}

    held_out = digits.test[: options.test]

    def score(images: Tensor, divergence: str) -> Likelihood:
        return commands.score_images(
            checkpoint,
            images,
            divergence=divergence,
            probes=options.probes,
            tolerance=_TOLERANCE,
            seed=options.seed,
        )

    print(f"scoring {options.test} held-out digits", flush=True)
    exact = _timed(clock, "exact divergence", lambda: score(held_out, "exact"))
    hutchinson = _timed(clock, "Hutchinson", lambda: score(held_out, "hutchinson"))
    noise = _timed(
        clock,
        "noise images",
        lambda: score(noise_images(options.test, seed=options.seed), "hutchinson"),
    )
    if not all(bool((found.status == 0).any()) for found in (exact, hutchinson, noise)):
        raise ArithmeticError("no image could be scored: the model's ODE left the finite numbers")

    judge = Judge(digits)
    shown = {"test digits": held_out, **drawn, "noise": noise_images(options.samples)}
    return Findings(
        training=training,
        drawn=drawn,
        quality={name: judge(images) for name, images in shown.items()},
        exact=exact,
        hutchinson=hutchinson,
        noise=noise,
        gaussian=gaussian_bits_per_dim(digits.train, held_out, checkpoint.transform),
        path=back(info.path[:, :8]),
        path_t=info.path_t.tolist(),
    )


def _draw(found: Findings, digits: Dataset, out: Path) -> list[Path]:
    shown = {name: images[:_SHOWN] for name, images in found.drawn.items()}
    count = len(next(iter(shown.values())))
    real = {"real, held out": digits.test[:count]}
    groups = {"held-out digits": found.exact.log_prob, "noise images": found.noise.log_prob}
    return [
        viz.image_grids(out / "samples.png", {**real, **shown}, limits=_LIMITS),
        viz.reverse_time(out / "reverse_time.png", found.path, found.path_t, limits=_LIMITS),
        viz.ou_band(out / "ou_paths.png"),
        viz.likelihood_histogram(out / "likelihoods.png", groups),
    ]


def _numbers(found: Findings, options: DemoOptions) -> dict[str, Any]:
    def bits(values: Tensor) -> dict[str, float]:
        finite = values[torch.isfinite(values)]
        return {
            "mean": float(finite.double().mean()),
            "std_error": report.standard_error(finite),
            "images": len(finite),
        }

    transform = found.exact.transform
    assert transform is not None
    return {
        "training": {
            "steps": found.training.steps,
            "seconds": found.training.seconds,
            "loss": found.training.loss,
            "reproducible": found.training.reproducible,
        },
        "bits_per_dim": {
            "exact": bits(found.exact.bits_per_dim),
            "hutchinson": {
                **bits(found.hutchinson.bits_per_dim),
                "probes": options.probes,
                "probe_std_error": report.probe_error(found.hutchinson),
            },
            "hutchinson_minus_exact": bits(
                found.hutchinson.bits_per_dim - found.exact.bits_per_dim
            ),
            "gaussian": bits(found.gaussian),
            "uniform": uniform_bits_per_dim(transform),
            "noise_images": bits(found.noise.bits_per_dim),
        },
        "quality": {name: quality.as_dict() for name, quality in found.quality.items()},
        "network_evaluations": {
            "exact": int(found.exact.nfe.max()),
            "hutchinson": int(found.hutchinson.nfe.max()),
        },
        "seconds": found.seconds,
        "sde": options.sde,
        "seed": options.seed,
    }


def _print_table(found: Findings, options: DemoOptions) -> None:
    exact, hutchinson = found.exact, found.hutchinson
    by_probes = (
        f"± {report.probe_error(hutchinson):.4f} by the probes" if options.probes > 1 else ""
    )
    assert exact.transform is not None
    seconds = {name: f"{value:.1f} s" for name, value in found.seconds.items()}
    report.table(
        f"\nbits per dimension of {options.test} held-out digits (mean ± standard error over them)",
        [
            (
                "score model, exact divergence",
                report.mean_and_error(exact.bits_per_dim),
                "",
                seconds["exact divergence"],
            ),
            (
                f"score model, Hutchinson, probes: {options.probes}",
                report.mean_and_error(hutchinson.bits_per_dim),
                by_probes,
                seconds["Hutchinson"],
            ),
            ("one Gaussian, full covariance", report.mean_and_error(found.gaussian)),
            ("uniform grey levels", f"{uniform_bits_per_dim(exact.transform):.3f}"),
            (
                "(noise images, under the score model)",
                report.mean_and_error(found.noise.bits_per_dim),
                "",
                seconds["noise images"],
            ),
        ],
    )
    rows: list[tuple[str, ...]] = [
        ("", "confidence", "distance", "precision", "recall", ""),
    ]
    for name, q in found.quality.items():
        values = (q.confidence, q.nearest, q.precision, q.recall)
        rows.append((name, *(f"{v:.2f}" for v in values), seconds.get(name, "")))
    report.table("\nare they digits? (a classifier's confidence, distance to the nearest)", rows)
    training = found.training
    print(f"\ntraining: {training.steps} steps in {training.seconds:.1f} s; all: {seconds['all']}")


def _timed(clock: dict[str, float], name: str, work: Callable[[], R]) -> R:
    start = time.perf_counter()
    result = work()
    clock[name] = time.perf_counter() - start
    return result
