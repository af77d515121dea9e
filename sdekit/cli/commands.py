"""What the commands share: seeds, devices, grids of times, scores of images, files of samples."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from sdekit_kernels.checks import check_int_range
from torch import Tensor

from sdekit.cli.errors import InputError
from sdekit.cli.model import Model
from sdekit.files import write_atomically
from sdekit.likelihood import Likelihood, log_likelihood
from sdekit.sample import polynomial_times
from sdekit.sde import AffineSDE, IdentitySigma
from sdekit.train import Checkpoint

__all__ = [
    "DEVICE_HELP",
    "check_device",
    "check_seed",
    "first_process",
    "grid",
    "score_images",
    "write_samples",
]

DEVICE_HELP: Final = "cpu, or cuda for a GPU."


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
    assert checkpoint.transform is not None
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


def check_seed(seed: int) -> int:
    """``seed`` if it is in [0, 2^64); raises ValueError otherwise."""
    return check_int_range("seed", seed, 0, 1 << 64)


def check_device(name: str) -> torch.device:
    """The device of this name, "cpu" or "cuda" (or "cuda:1"); under torchrun this process' own GPU.

    Raises InputError for another name, and for a GPU that is not there.
    """
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not (kind == "cuda" and number.isdecimal())):
        raise InputError(f"unknown device {name!r}: write cpu, cuda or cuda:NUMBER")
    if kind == "cpu":
        return torch.device("cpu")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        raise InputError(
            "there is no GPU here that this PyTorch can use: leave --device away, or install a "
            "PyTorch with CUDA on a machine with one"
        )
    index = int(number or os.environ.get("LOCAL_RANK", "0"))
    if index >= count:
        raise InputError(f"there are {count} GPUs here, numbered from 0, and not {index}")
    return torch.device("cuda", index)


def first_process() -> bool:
    """Whether this process writes and prints: the one there is, or the first of torchrun's."""
    return os.environ.get("RANK", "0") == "0"


def write_samples(model: Model, out: Path, drawn: Tensor) -> None:
    """Samples as ``Model.levels`` gives them, as a picture or in numpy's format."""
    if out.suffix.lower() == ".png":
        model.picture(out, {"samples": drawn})
        return
    if not drawn.is_floating_point():
        drawn = drawn.to(torch.uint8 if model.limits[1] < 256 else torch.int64)
    buffer = io.BytesIO()
    np.save(buffer, drawn.numpy(), allow_pickle=False)
    write_atomically(out, buffer.getvalue())
