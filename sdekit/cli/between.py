"""``sdekit interpolate``: images on the way from one held-out image to another."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from sdekit_kernels.checks import check_choice, check_int_range

from sdekit import viz
from sdekit.cli.commands import check_device, check_seed
from sdekit.cli.errors import output_file
from sdekit.cli.model import open_model
from sdekit.cli.report import table, write_json
from sdekit.sample.interpolate import THROUGH, interpolate

THROUGH_HELP: Final = f"{' or '.join(THROUGH)}."


@dataclass(frozen=True, slots=True)
class InterpolateOptions:
    """The options of the command, see ``sdekit interpolate --help``."""

    out: Path = Path("interpolation.png")
    data: str = "test"
    pairs: int = 6
    n: int = 9
    through: str = "flow"
    t: float | None = None
    steps: int = 200
    tolerance: float = 1e-3
    device: str = "cpu"
    seed: int = 0


def interpolate_command(path: Path, options: InterpolateOptions) -> None:
    """A row for each pair: one image, n - 2 between, the other; a picture and its numbers."""
    check_choice("--through", options.through, THROUGH)
    check_int_range("--pairs", options.pairs, 1, 101)
    check_int_range("-n", options.n, 2, 101)
    check_seed(options.seed)
    output_file(options.out, ".png")
    viz.require_matplotlib()
    model = open_model(path, check_device(options.device))
    model.need_images("interpolate")
    transform = model.checkpoint.transform
    assert transform is not None
    images = model.part(options.data, 2 * options.pairs)
    x = transform.forward(images, seed=options.seed).to(model.device)
    start = time.perf_counter()
    way = interpolate(
        model.checkpoint.sde,
        model.checkpoint.net,
        x[::2],
        x[1::2],
        options.n,
        through=options.through,
        t=options.t,
        steps=options.steps,
        rtol=options.tolerance,
        atol=options.tolerance,
        seed=options.seed,
    )
    seconds = time.perf_counter() - start
    weights = torch.linspace(0.0, 1.0, options.n).tolist()
    drawn = model.levels(way.flatten(0, 1)).view_as(way)
    sets = {f"{w:.2f}": row for w, row in zip(weights, drawn, strict=True)}
    viz.columns_of_images(options.out, sets, limits=model.limits)
    # Through the flow the ends come back as they were; through the diffusion only nearly.
    ends = (drawn[[0, -1]] - torch.stack([images[::2], images[1::2]])).double()
    rms = float(ends.square().mean().sqrt())
    write_json(
        options.out.with_suffix(".json"),
        {
            "through": options.through,
            "t": options.t,
            "pairs": options.pairs,
            "weights": weights,
            "ends_rms_grey_levels": rms,
            "seconds": seconds,
            "seed": options.seed,
        },
    )
    table(
        "interpolation",
        [
            ("pairs, images a row", f"{options.pairs}, {options.n}"),
            ("through", options.through + ("" if options.t is None else f" at t = {options.t:g}")),
            ("ends come back within", f"{rms:.2f} grey levels (root mean square)"),
            ("seconds", f"{seconds:.1f}"),
            ("written to", str(options.out)),
        ],
    )
