"""Any tensor as a data set."""

from __future__ import annotations

import math
from typing import Any

import torch
from sdekit_kernels.checks import check_int_range
from torch import Tensor

from sdekit.data.dataset import Dataset
from sdekit.data.split import split
from sdekit.likelihood import DataTransform

__all__ = ["held_out", "tensor"]


def tensor(
    x: Any,
    *,
    levels: int | None = None,
    labels: Tensor | None = None,
    test_share: float = 0.1,
    seed: int = 0,
    name: str = "tensor",
) -> Dataset:
    """Return x, (N, D...), split by a random order of this seed; copies stay in one part.

    x: floating point, taken as it is, or integers 0..levels - 1, which get DataTransform(levels);
    levels is 256 for uint8 if it is not given. test_share: fraction that is held out, rounded.
    Raises TypeError for complex or boolean x, ValueError for x without samples or axes, numbers
    that are NaN or infinite, integers without ``levels`` or outside of them, and labels of another
    number.
    """
    x = torch.as_tensor(x).detach()
    if x.is_complex() or x.dtype == torch.bool:
        raise TypeError(f"x must hold integers or floating-point numbers, got {x.dtype}")
    if x.ndim < 2 or len(x) == 0:
        raise ValueError(f"x must have shape (N, D...) with N > 0, got {tuple(x.shape)}")
    transform = None
    if x.is_floating_point():
        if levels is not None:
            raise ValueError(f"levels={levels} is for integers, but x is {x.dtype}")
        if not bool(x.isfinite().all()):
            where = int((~x.isfinite()).flatten(1).any(1).nonzero()[0])
            raise ValueError(f"x has numbers that are NaN or infinite, the first in sample {where}")
    else:
        levels = 256 if levels is None and x.dtype == torch.uint8 else levels
        if levels is None:
            raise ValueError(f"x holds integers ({x.dtype}): say how many there are, levels=256")
        transform = DataTransform(levels)
        x = x.to(torch.int64)
        if int(x.min()) < 0 or int(x.max()) >= levels:
            raise ValueError(
                f"x must hold integers in 0..{levels - 1}, it has {int(x.min())} to {int(x.max())}"
            )
    if labels is not None and labels.shape != x.shape[:1]:
        raise ValueError(f"labels must have shape ({len(x)},), got {tuple(labels.shape)}")
    train, test = split(x, test=held_out(len(x), test_share), seed=seed)
    of_train, of_test = (None, None) if labels is None else (labels[train], labels[test])
    return Dataset(name, x[train], x[test], of_train, of_test, transform=transform)


def held_out(n: int, test_share: float) -> int:
    """How many of n samples are held out; raises ValueError unless test_share is in [0, 1)."""
    if not (isinstance(test_share, float | int) and 0.0 <= test_share < 1.0):
        raise ValueError(f"test_share must be in [0, 1), got {test_share!r}")
    return check_int_range("held-out samples", min(math.floor(n * test_share + 0.5), n - 1), 0, n)
