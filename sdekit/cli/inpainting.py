"""``sdekit inpaint``: held-out images with a part missing, and draws of what it may have been."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import sdekit_kernels
import torch
from sdekit_kernels.checks import check_choice, check_int_range
from torch import Tensor

from sdekit import viz
from sdekit.cli.commands import check_device, check_seed, grid
from sdekit.cli.errors import InputError, output_file
from sdekit.cli.model import open_model
from sdekit.cli.report import table, write_json
from sdekit.noise import keys
from sdekit.sample import inpaint
from sdekit.sample.conditional import COVARIANCES

Mask = Callable[[int, int, int], Tensor]


def _half(axis: int, first: bool) -> Mask:
    def known(height: int, width: int, seed: int) -> Tensor:
        mask = torch.zeros(height, width, dtype=torch.bool)
        half = (height, width)[axis] // 2
        part = mask[:half] if axis == 0 else mask[:, :half]
        part[:] = True
        return mask if first else ~mask

    return known


def _frame(height: int, width: int, seed: int) -> Tensor:
    mask = torch.ones(height, width, dtype=torch.bool)
    mask[height // 4 : height - height // 4, width // 4 : width - width // 4] = False
    return mask


def _scattered(height: int, width: int, seed: int) -> Tensor:
    z = sdekit_kernels.normal((height, width), seed=seed, stream=keys.DATA)
    return z > 0.6745


MASKS: Final[dict[str, Mask]] = {
    "left": _half(1, True),
    "right": _half(1, False),
    "top": _half(0, True),
    "bottom": _half(0, False),
    "frame": _frame,
    "scattered": _scattered,
}
"""What is known: a half, all but the middle, or a quarter of the pixels here and there."""
KNOWN_HELP: Final = f"What is known: {', '.join(MASKS)}."
COVARIANCE_HELP: Final = f"Of the data given the state: {' or '.join(COVARIANCES)} (cheaper)."


@dataclass(frozen=True, slots=True)
class InpaintOptions:
    """The options of the command, see ``sdekit inpaint --help``."""

    out: Path = Path("inpaint.png")
    data: str = "test"
    n: int = 8
    copies: int = 4
    known: str = "top"
    steps: int = 100
    covariance: str = "isotropic"
    device: str = "cpu"
    seed: int = 0


def inpaint_command(path: Path, options: InpaintOptions) -> None:
    """A row for each image: the image, what is known of it, and the draws; and the numbers."""
    check_choice("--known", options.known, MASKS)
    check_choice("--covariance", options.covariance, COVARIANCES)
    check_int_range("-n", options.n, 1, 101)
    check_int_range("--copies", options.copies, 1, 21)
    check_seed(options.seed)
    output_file(options.out, ".png")
    viz.require_matplotlib()
    model = open_model(path, check_device(options.device))
    model.need_images("inpaint")
    transform = model.checkpoint.transform
    assert transform is not None
    images = model.part(options.data, options.n)
    x = transform.forward(images, seed=options.seed)
    height, width = model.event_shape[-2:]
    mask = MASKS[options.known](height, width, options.seed)
    mask = mask.expand(model.event_shape).contiguous()
    if not bool(mask.any()) or bool(mask.all()):
        raise InputError(f"images of {model.event_shape} are too small for --known {options.known}")
    rows = x.repeat_interleave(options.copies, 0).to(model.device)
    here = mask.to(model.device)
    start = time.perf_counter()
    drawn, info = inpaint(
        model.checkpoint.sde,
        model.checkpoint.net,
        rows[:, here],
        here,
        tuple(rows.shape),
        covariance=options.covariance,
        data_std=model.checkpoint.net.data_std,
        **grid(model.checkpoint.sde, options.steps),
        seed=options.seed,
        progress=sys.stderr.isatty(),
        return_info=True,
    )
    seconds = time.perf_counter() - start
    drawn, good = drawn.cpu(), (info.status == 0).cpu()
    if not bool(good.any()):
        raise ArithmeticError("all samples left the finite numbers: write more --steps")
    levels = model.levels(torch.where(good.view(-1, *[1] * (x.ndim - 1)), drawn, 0.0))
    whole = images.repeat_interleave(options.copies, 0)
    off = (levels - whole).double()[good]
    on_known, on_rest = (float(off[:, m].square().mean().sqrt()) for m in (mask, ~mask))
    seen = torch.where(mask, images, model.limits[1] // 3)
    sets = {"image": images, "known": seen}
    each = levels.view(options.n, options.copies, *model.event_shape)
    sets |= {f"draw {k + 1}": each[:, k] for k in range(options.copies)}
    viz.columns_of_images(options.out, sets, limits=model.limits)
    lost = int((~good).sum())
    write_json(
        options.out.with_suffix(".json"),
        {
            "known": options.known,
            "share_known": float(mask.double().mean()),
            "images": options.n,
            "copies": options.copies,
            "steps": options.steps,
            "covariance": options.covariance,
            "rms_known_grey_levels": on_known,
            "rms_unknown_grey_levels": on_rest,
            "nonfinite": lost,
            "seconds": seconds,
            "seed": options.seed,
        },
    )
    table(
        "inpainting",
        [
            ("images, draws of each", f"{options.n}, {options.copies}"),
            ("known", f"{options.known}, {float(mask.double().mean()):.0%} of the pixels"),
            ("off where it is known", f"{on_known:.2f} grey levels (root mean square)"),
            ("off where it is not", f"{on_rest:.2f} grey levels"),
            *([("left the finite numbers", f"{lost}")] if lost else []),
            ("seconds", f"{seconds:.1f}"),
            ("written to", str(options.out)),
        ],
    )
