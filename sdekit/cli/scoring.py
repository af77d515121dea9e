"""``sdekit likelihood``: what data cost under a model, and how far each number can be trusted."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

import torch
from sdekit_kernels.checks import check_choice, check_int_range, check_positive
from torch import Tensor

from sdekit import viz
from sdekit.cli.commands import check_device, check_seed
from sdekit.cli.errors import InputError, output_folder
from sdekit.cli.images import load_images
from sdekit.cli.model import Model, open_model
from sdekit.cli.numbers import NUMBERS, numbers_of, on_cpu
from sdekit.cli.report import table, write_json
from sdekit.cli.scores import Scores, images_of, rows_of, write_scores
from sdekit.data import DATASETS, Plane
from sdekit.likelihood import elbo, log_likelihood
from sdekit.likelihood.divergence import KINDS
from sdekit.ode.solution import OK

DIVERGENCE_HELP: Final = f"{', '.join(KINDS)}; exact for up to 128 components."

# 16 draws a call: 16 x 200 images of 64 numbers are 1 MB for each layer of 256 units.
_CHUNK: Final = 16
_EXACT: Final = 128
"""Components up to which the divergence is exact unless another is asked for."""


@dataclass(frozen=True, slots=True)
class ScoreOptions:
    """The options of the command, see ``sdekit likelihood --help``."""

    data: str = "test"
    n: int | None = None
    divergence: str | None = None
    probes: int = 8
    std_error: float | None = None
    tolerance: float = 1e-4
    budget: bool = True
    draws: int = 512
    out: Path | None = None
    device: str = "cpu"
    seed: int = 0


def likelihood_command(path: Path, options: ScoreOptions) -> None:
    """Score data; print a table, and write it with each sample's numbers and pictures."""
    _check(options)
    model = open_model(path, check_device(options.device))
    if model.event_shape != (2,):
        model.need_images("likelihood")
    options = replace(options, divergence=_divergence(model, options))
    data = load_images(model, options.data, options.n, seed=options.seed)
    if options.out is not None:
        output_folder(options.out)
    found = _score(model, data, options)
    if not bool((found.result.status == OK).any()):
        raise ArithmeticError(
            f"no {found.what} could be scored: the model's ODE left the finite numbers"
        )
    title, rows = f"likelihood of {len(data)} {found.what}s ({options.data})", rows_of(found)
    table(title, rows)
    each, rest = images_of(found, options.out)
    print()
    table(f"each {found.what}", each)
    if rest:
        print(rest)
    if options.out is not None:
        limits = model.limits if model.is_images else None
        names = write_scores(options.out, title, rows, found, limits=limits)
        settings = asdict(options) | {"out": str(options.out), "model": str(path)}
        write_json(options.out / NUMBERS, numbers_of(found) | {"settings": settings})
        print(f"\nin {options.out}/: {', '.join([*names, NUMBERS])}")


def _check(options: ScoreOptions) -> None:
    """Refuse wrong values before the work begins."""
    if options.divergence is not None:
        check_choice("divergence", options.divergence, KINDS)
    check_seed(options.seed)
    check_int_range("--probes", options.probes, 1, 10_001)
    least = 8.0 * torch.finfo(torch.float32).eps
    if check_positive("--tolerance", options.tolerance) < least:
        raise InputError(
            f"--tolerance must be at least {least:.1e}, got {options.tolerance:g}: models and "
            "images are float32, whose rounding is no finer"
        )
    draws = check_int_range("--draws", options.draws, 0, 1 << 20)
    if draws % 2:
        raise InputError(f"--draws must be even, two in each stratum of time, got {draws}")
    if options.std_error is not None:
        check_positive("--std-error", options.std_error)
        if options.divergence == "exact":
            raise InputError(
                "--std-error is reached by probes, and the exact divergence has none: write "
                "--divergence hutchinson, hutch++ or xtrace"
            )
    if options.out is not None:
        viz.require_matplotlib()


def _divergence(model: Model, options: ScoreOptions) -> str:
    """As asked; else exact for events of few components, which it multiplies the cost by."""
    if options.divergence is not None:
        return options.divergence
    few = math.prod(model.event_shape) <= _EXACT and options.std_error is None
    return "exact" if few else "hutchinson"


def _score(model: Model, data: Tensor, options: ScoreOptions) -> Scores:
    start, checkpoint = time.perf_counter(), model.checkpoint
    assert options.divergence is not None
    transform = checkpoint.transform
    x = (data if transform is None else transform.forward(data, seed=options.seed)).to(model.device)
    result = log_likelihood(
        checkpoint.sde,
        checkpoint.net,
        x,
        divergence=options.divergence,
        n_probes=options.probes if options.divergence != "exact" else 1,
        std_error=options.std_error,
        rtol=options.tolerance,
        atol=options.tolerance,
        seed=options.seed,
        transform=transform,
    )
    errors = bound = None
    if options.budget:
        budget = result.error
        errors = {
            "solver": budget.solver,
            "probes": budget.probe,
            "truncation": budget.truncation,
            "prior": budget.prior,
        }
    if options.draws:
        bound = elbo(
            checkpoint.sde,
            checkpoint.net,
            x,
            draws=options.draws,
            data_std=checkpoint.net.data_std,
            seed=options.seed,
            chunk=_CHUNK,
        )
    return Scores(
        data,
        on_cpu(result),
        None if errors is None else {name: error.cpu() for name, error in errors.items()},
        None if bound is None else (bound[0].cpu(), bound[1].cpu()),
        options.draws,
        time.perf_counter() - start,
        own=_own_law(model, data),
    )


def _own_law(model: Model, data: Tensor) -> Tensor | None:
    """Log-densities of points under the law of the model's data set, where a formula has them."""
    law = DATASETS.get(str(model.checkpoint.info.get("data")))
    density = law.log_density if isinstance(law, Plane) else None
    return density(data) if density is not None and model.event_shape == (2,) else None
