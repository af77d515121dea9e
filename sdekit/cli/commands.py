"""What the commands share: seeds, grids of times, scores of integer data, files of samples."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sdekit_kernels.checks import check_int_range
from torch import Tensor

from sdekit.cli.model import Model
from sdekit.files import write_atomically
from sdekit.likelihood import Likelihood, log_likelihood
from sdekit.sample import polynomial_times
from sdekit.sde import AffineSDE, IdentitySigma
from sdekit.train import Checkpoint

__all__ = ["check_seed", "grid", "score_images", "write_samples"]


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
