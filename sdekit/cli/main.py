"""The commands and their options; the other files of this folder say what they do."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from sdekit.cli import commands
from sdekit.cli.demo import DemoOptions, run_demo
from sdekit.cli.errors import DEBUG, INTERRUPTED, WRONG_INPUT, guarded, say
from sdekit.cli.images import DATA_HELP
from sdekit.cli.scoring import DIVERGENCE_HELP, ScoreOptions, likelihood_command

app = typer.Typer(
    name="sdekit",
    help="Stochastic differential equations on PyTorch: train a score model, sample, score data.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Seed = Annotated[int, typer.Option(help="Seed of all randomness, 0 or more.")]
Model = Annotated[Path, typer.Argument(help="A checkpoint that sdekit train wrote.")]


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
    sde: Annotated[str, typer.Option(help=commands.SDE_HELP)] = "vp",
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
    out: Annotated[Path, typer.Option(help="Checkpoint to write, .safetensors.")] = Path(
        "model.safetensors"
    ),
    data: Annotated[str, typer.Option(help="Data set: digits.")] = "digits",
    sde: Annotated[str, typer.Option(help=commands.SDE_HELP)] = "vp",
    seconds: Annotated[
        float | None, typer.Option(help="Time at the most; 90 if --steps is not given either.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Steps at the most; alone, the result depends on the seed.")
    ] = None,
    batch: Annotated[int, typer.Option(help="Images a step.")] = commands.DEFAULTS.batch,
    lr: Annotated[float, typer.Option(help="Largest learning rate.")] = commands.DEFAULTS.lr,
    width: Annotated[int, typer.Option(help="Width of the network.")] = commands.DEFAULTS.width,
    depth: Annotated[int, typer.Option(help="Blocks of the network.")] = commands.DEFAULTS.depth,
    seed: Seed = 0,
) -> None:
    """Train a score model and write a checkpoint."""
    commands.train_command(
        out,
        data=data,
        sde=sde,
        seconds=seconds,
        steps=steps,
        batch=batch,
        lr=lr,
        width=width,
        depth=depth,
        seed=seed,
    )


@app.command()
@guarded
def sample(
    model: Model,
    out: Annotated[Path, typer.Option(help="Picture (.png) or grey levels (.npy) to write.")] = (
        Path("samples.png")
    ),
    n: Annotated[int, typer.Option("-n", "--samples", help="Images to draw.")] = 100,
    steps: Annotated[int, typer.Option(help="Steps of the sampler.")] = 1000,
    predictor: Annotated[str, typer.Option(help=commands.PREDICTOR_HELP)] = "reverse_diffusion",
    corrector: Annotated[str, typer.Option(help=commands.CORRECTOR_HELP)] = "langevin",
    snr: Annotated[float, typer.Option(help="Signal-to-noise ratio of the corrector.")] = 0.16,
    seed: Seed = 0,
) -> None:
    """Draw images with a trained model."""
    commands.sample_command(
        model,
        out,
        n=n,
        steps=steps,
        predictor=predictor,
        corrector=corrector,
        snr=snr,
        seed=seed,
    )


@app.command()
@guarded
def likelihood(
    model: Model,
    data: Annotated[str, typer.Option(help=DATA_HELP)] = "test",
    n: Annotated[int | None, typer.Option("-n", "--n", help="Images; 200, or all.")] = None,
    divergence: Annotated[str, typer.Option(help=DIVERGENCE_HELP)] = "exact",
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
    seed: Seed = 0,
) -> None:
    """Score images: log-likelihoods and bits per dimension, with their error budget."""
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
        seed=seed,
    )
    likelihood_command(model, options)


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
