"""Random orders from counters, and the split into a training and a held-out part."""

from __future__ import annotations

from typing import Final

import sdekit_kernels
import torch
from sdekit_kernels.checks import check_int_range
from torch import Tensor

from sdekit.noise import keys

__all__ = ["permutation", "split"]

SPLIT_SEED: Final = 20210526
"""Of the split of real data, which is part of every number that is reported."""


def permutation(n: int, *, seed: int, stream: int, step: int = 0) -> Tensor:
    """Return a random order of 0..n - 1, (n,) int64: the order of n normals.

    float32 normals have the same bits on every machine and backend, float64 ones only nearly; the
    sort is stable, so that equal ones cannot make a difference either.
    """
    z = sdekit_kernels.normal((n,), seed=seed, stream=stream, step=step)
    return z.argsort(stable=True)


def split(x: Tensor, *, test: int, seed: int = SPLIT_SEED) -> tuple[Tensor, Tensor]:
    """Return the numbers of the training and of the held-out samples of x (N, D...), int64 each.

    The first ``test`` of a random order are held out, less those that are bit for bit equal to a
    sample of the training part: these join it. A data set with copies thus holds out fewer, and
    what is held out was never trained on.
    Raises TypeError or ValueError unless test is an integer in [0, N).
    """
    test = check_int_range("test", test, 0, max(len(x), 1))
    order = permutation(len(x), seed=seed, stream=keys.DATA)
    held, kept = order[:test], order[test:]
    rows = x.detach().cpu().contiguous().view(len(x), -1).view(torch.uint8).numpy()
    known = {rows[i].tobytes() for i in kept.tolist()}
    copies = torch.tensor([rows[i].tobytes() in known for i in held.tolist()], dtype=torch.bool)
    return torch.cat([kept, held[copies]]), held[~copies]
