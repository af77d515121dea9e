"""The commands and their options; the other files of this folder say what they do."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from sdekit.cli.between import THROUGH_HELP, InterpolateOptions, interpolate_command
from sdekit.cli.bridging import ALGORITHM_HELP, RECIPE_HELP, BridgeOptions, bridge_command
from sdekit.cli.commands import DEVICE_HELP
from sdekit.cli.demo import DemoOptions, run_demo
from sdekit.cli.drawing import (
    CORRECTOR_HELP,
    PREDICTOR_HELP,
    SAMPLER_HELP,
    STEPS_HELP,
    SampleOptions,
    sample_command,
)
from sdekit.cli.errors import DEBUG, INTERRUPTED, WRONG_INPUT, guarded, say
from sdekit.cli.images import DATA_HELP
from sdekit.cli.inpainting import COVARIANCE_HELP, KNOWN_HELP, InpaintOptions, inpaint_command
from sdekit.cli.rate import VARIANCE_HELP, RateOptions, rate_command
from sdekit.cli.scoring import DIVERGENCE_HELP, ScoreOptions, likelihood_command
from sdekit.cli.training import (
    LOSS_HELP,
    MODEL_HELP,
    SDE_HELP,
    SETS_HELP,
    TrainOptions,
    recipe_of,
    time_limit,
    train_command,
)

app = typer.Typer(
    name="sdekit",
    help="Stochastic differential equations on PyTorch: train a score model, sample, score data.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Seed = Annotated[int, typer.Option(help="Seed of all randomness, 0 or more.")]
Model = Annotated[Path, typer.Argument(help="A checkpoint of sdekit train, or its folder.")]
Part = Annotated[str, typer.Option(help="Which images: test or train.")]
Device = Annotated[str, typer.Option(help=DEVICE_HELP)]


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of errors.")] = False,
) -> None:
    DEBUG.set(debug)


@app.command()
@guarded
def demo(
    out: Annotated[Path, typer.Option(help="Folder for pictures and numbers.")] = Path("demo"),
    seconds: Annotated[
        float | None,
        typer.Option(help="Training time at the most; 80 if --train-steps is not given either."),
    ] = None,
    train_steps: Annotated[
        int | None,
        typer.Option(help="Training steps at the most; alone, the result depends on the seed."),
    ] = None,
    n: Annotated[int, typer.Option("-n", "--samples", help="Digits to draw.")] = 100,
    steps: Annotated[int, typer.Option(help="Steps of the predictor-corrector sampler.")] = 1000,
    flow_steps: Annotated[int, typer.Option(help="Steps of the probability flow.")] = 1000,
    test: Annotated[int, typer.Option(help="Test digits to score, up to 297.")] = 200,
    probes: Annotated[int, typer.Option(help="Hutchinson probes an image.")] = 8,
    sde: Annotated[str, typer.Option(help=SDE_HELP)] = "vp",
    seed: Seed = 0,
) -> None:
    """Train on real digits, draw new ones, score held-out ones; pictures and a table."""
    options = DemoOptions(
        out=out,
        seconds=seconds,
        train_steps=train_steps,
        samples=n,
        steps=steps,
        flow_steps=flow_steps,
        test=test,
        probes=probes,
        sde=sde,
        seed=seed,
    )
    run_demo(options)


@app.command()
@guarded
def train(
    out: Annotated[
        Path, typer.Option(help="A folder, which also lets a training go on, or FILE.safetensors.")
    ] = Path("model.safetensors"),
    data: Annotated[str, typer.Option(help=SETS_HELP)] = "digits",
    sde: Annotated[str, typer.Option(help=SDE_HELP)] = "vp",
    model: Annotated[str, typer.Option(help=MODEL_HELP)] = "mlp",
    loss: Annotated[str, typer.Option(help=LOSS_HELP)] = "lognormal",
    minutes: Annotated[
        float | None, typer.Option(help="Time at the most, in the place of --seconds.")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(help="Time at the most; 90 if no limit is given.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Steps at the most; alone, the result depends on the seed.")
    ] = None,
    batch: Annotated[int | None, typer.Option(help="Samples a step; the model's own.")] = None,
    lr: Annotated[
        float | None, typer.Option(help="Largest learning rate; the model's own.")
    ] = None,
    width: Annotated[int, typer.Option(help="Width of the mlp.")] = 256,
    depth: Annotated[int, typer.Option(help="Blocks of the mlp.")] = 3,
    clip: Annotated[float | None, typer.Option(help="Largest norm of the gradient.")] = None,
    precision: Annotated[
        str | None, typer.Option(help="full, bfloat16 or float16; a U-Net's: the quickest.")
    ] = None,
    augment: Annotated[bool, typer.Option(help="Change images a little.")] = True,
    size: Annotated[int | None, typer.Option(help="Side of a folder's images, in pixels.")] = None,
    gray: Annotated[
        bool, typer.Option("--gray", help="Take a folder's images without colours.")
    ] = False,
    skip_broken: Annotated[
        bool, typer.Option("--skip-broken", help="Leave out files that are no images.")
    ] = False,
    compile: Annotated[bool, typer.Option("--compile", help="Use torch.compile.")] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write its scalars and samples.")
    ] = False,
    save_seconds: Annotated[float, typer.Option(help="Between checkpoints in the folder.")] = 60.0,
    device: Device = "cpu",
    seed: Seed = 0,
) -> None:
    """Train a score model; write a checkpoint, samples, the loss and numbers."""
    limit = time_limit(minutes, seconds)
    recipe = recipe_of(
        model,
        batch=batch,
        lr=lr,
        augment=augment,
        sde=sde,
        loss=loss,
        width=width,
        depth=depth,
        clip=clip,
        precision=precision,
        device=device,
        seed=seed,
    )
    options = TrainOptions(
        out=out,
        data=data,
        recipe=recipe,
        seconds=limit,
        steps=steps,
        size=size,
        gray=gray,
        skip_broken=skip_broken,
        device=device,
        compiled=compile,
        tensorboard=tensorboard,
        save_seconds=save_seconds,
    )
    train_command(options)


@app.command()
@guarded
def sample(
    model: Model,
    out: Annotated[Path, typer.Option(help="Picture (.png) or numbers (.npy) to write.")] = (
        Path("samples.png")
    ),
    n: Annotated[int, typer.Option("-n", "--samples", help="Samples to draw.")] = 100,
    sampler: Annotated[str | None, typer.Option(help=SAMPLER_HELP)] = None,
    steps: Annotated[int | None, typer.Option(help=STEPS_HELP)] = None,
    predictor: Annotated[str | None, typer.Option(help=PREDICTOR_HELP)] = None,
    corrector: Annotated[str | None, typer.Option(help=CORRECTOR_HELP)] = None,
    snr: Annotated[
        float | None, typer.Option(help="Signal-to-noise ratio of the corrector; 0.16.")
    ] = None,
    quality: Annotated[
        bool, typer.Option("--quality", help="Compare with held-out images.")
    ] = False,
    batch: Annotated[int, typer.Option(help="Samples at a time.")] = 512,
    device: Device = "cpu",
    seed: Seed = 0,
) -> None:
    """Draw samples with a trained model; their numbers as JSON beside them."""
    options = SampleOptions(
        out=out,
        n=n,
        sampler=sampler,
        steps=steps,
        predictor=predictor,
        corrector=corrector,
        snr=snr,
        quality=quality,
        batch=batch,
        device=device,
        seed=seed,
    )
    sample_command(model, options)


@app.command()
@guarded
def interpolate(
    model: Model,
    out: Annotated[Path, typer.Option(help="Picture to write, .png.")] = Path("interpolation.png"),
    data: Part = "test",
    pairs: Annotated[int, typer.Option(help="Pairs of images, a row each.")] = 6,
    n: Annotated[int, typer.Option("-n", help="Images in a row, both ends among them.")] = 9,
    through: Annotated[str, typer.Option(help=THROUGH_HELP)] = "flow",
    t: Annotated[float | None, typer.Option(help="How far the diffusion goes; half of T.")] = None,
    steps: Annotated[int, typer.Option(help="Steps of the diffusion.")] = 200,
    tolerance: Annotated[float, typer.Option(help="Of the flow's adaptive ODE.")] = 1e-3,
    device: Device = "cpu",
    seed: Seed = 0,
) -> None:
    """Images between two images, through the probability flow or the diffusion."""
    options = InterpolateOptions(
        out=out,
        data=data,
        pairs=pairs,
        n=n,
        through=through,
        t=t,
        steps=steps,
        tolerance=tolerance,
        device=device,
        seed=seed,
    )
    interpolate_command(model, options)


@app.command()
@guarded
def inpaint(
    model: Model,
    out: Annotated[Path, typer.Option(help="Picture to write, .png.")] = Path("inpaint.png"),
    data: Part = "test",
    n: Annotated[int, typer.Option("-n", help="Images, a row each.")] = 8,
    copies: Annotated[int, typer.Option(help="Draws for each image.")] = 4,
    known: Annotated[str, typer.Option(help=KNOWN_HELP)] = "top",
    steps: Annotated[int, typer.Option(help="Steps of the sampler.")] = 100,
    covariance: Annotated[str, typer.Option(help=COVARIANCE_HELP)] = "isotropic",
    device: Device = "cpu",
    seed: Seed = 0,
) -> None:
    """Draw what a missing part of an image may have been."""
    options = InpaintOptions(
        out=out,
        data=data,
        n=n,
        copies=copies,
        known=known,
        steps=steps,
        covariance=covariance,
        device=device,
        seed=seed,
    )
    inpaint_command(model, options)


@app.command("rate-distortion")
@guarded
def rate_distortion(
    model: Model,
    out: Annotated[Path, typer.Option(help="Folder for pictures and numbers.")] = Path(
        "rate-distortion"
    ),
    data: Part = "test",
    n: Annotated[int, typer.Option("-n", help="Images.")] = 32,
    levels: Annotated[int, typer.Option(help="Levels of the chain.")] = 1000,
    variance: Annotated[str, typer.Option(help=VARIANCE_HELP)] = "fixedlarge",
    steps: Annotated[int, typer.Option(help="Of the pictures' samplers.")] = 100,
    device: Device = "cpu",
    seed: Seed = 0,
) -> None:
    """DDPM's view: bits term by term, rate against distortion, progressive generation."""
    options = RateOptions(
        out=out,
        data=data,
        n=n,
        levels=levels,
        variance=variance,
        steps=steps,
        device=device,
        seed=seed,
    )
    rate_command(model, options)


@app.command()
@guarded
def likelihood(
    model: Model,
    data: Annotated[str, typer.Option(help=DATA_HELP)] = "test",
    n: Annotated[int | None, typer.Option("-n", "--n", help="Images; 200, or all.")] = None,
    divergence: Annotated[str | None, typer.Option(help=DIVERGENCE_HELP)] = None,
    probes: Annotated[int, typer.Option(help="Directions an image, for an estimator.")] = 8,
    std_error: Annotated[
        float | None,
        typer.Option(help="Nats: take more probes until each image's error is below it."),
    ] = None,
    tolerance: Annotated[float, typer.Option(help="Of the adaptive ODE.")] = 1e-4,
    budget: Annotated[bool, typer.Option(help="Estimate the four errors of each value.")] = True,
    draws: Annotated[
        int, typer.Option(help="Draws an image for the variational bound; 0 for none.")
    ] = 512,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the table, each image's numbers, pictures.")
    ] = None,
    device: Device = "cpu",
    seed: Seed = 0,
) -> None:
    """Score images, or points of the plane: log-likelihoods with their error budget, bits."""
    options = ScoreOptions(
        data=data,
        n=n,
        divergence=divergence,
        probes=probes,
        std_error=std_error,
        tolerance=tolerance,
        budget=budget,
        draws=draws,
        out=out,
        device=device,
        seed=seed,
    )
    likelihood_command(model, options)


@app.command()
@guarded
def bridge(
    recipe: Annotated[str, typer.Option(help=RECIPE_HELP)] = "moons",
    out: Annotated[
        Path, typer.Option(help="Folder for the fit, pictures and numbers; it goes on from there.")
    ] = Path("bridge"),
    algorithm: Annotated[str | None, typer.Option(help=ALGORITHM_HELP)] = None,
    half_steps: Annotated[
        int | None, typer.Option(help="How many in all; the recipe's own.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Of the regression in each half-step; the recipe's own.")
    ] = None,
    quality: Annotated[bool, typer.Option(help="Judge images by a classifier's features.")] = True,
    save_seconds: Annotated[float, typer.Option(help="Between checkpoints in the folder.")] = 60.0,
    device: Device = "cpu",
    seed: Seed = 0,
) -> None:
    """Fit a Schrödinger bridge between two laws or two sets of images; pictures and a table."""
    options = BridgeOptions(
        recipe=recipe,
        out=out,
        algorithm=algorithm,
        half_steps=half_steps,
        steps=steps,
        quality=quality,
        save_seconds=save_seconds,
        device=device,
        seed=seed,
    )
    bridge_command(options)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code: 0, 1, 2 or 130 (``sdekit.cli.errors``)."""
    try:
        code = app(arguments, prog_name="sdekit", standalone_mode=False)
    except KeyboardInterrupt:
        say("stopped by Ctrl-C")
        code = INTERRUPTED
    except typer.Abort:
        say("stopped")
        code = INTERRUPTED
    except Exception as error:
        # Usage errors: typer's own classes, wherever this version of typer keeps them.
        show = getattr(error, "format_message", None)
        if show is None:
            raise
        code = getattr(error, "exit_code", WRONG_INPUT)
        context = getattr(error, "ctx", None)
        if type(error).__name__ == "NoArgsIsHelpError":
            print(show(), file=sys.stderr)
        else:
            where = context.command_path if context is not None else "sdekit"
            say(f"{show().rstrip('. ')}: see {where} --help")
    if code == INTERRUPTED:
        # Not sys.exit: an interrupt that came in the middle of an import can leave a mark on
        # CPython, which then ends by the signal (-2) instead of with the code it is given.
        sys.stdout.flush()
        os._exit(code)
    sys.exit(code if isinstance(code, int) else 0)
