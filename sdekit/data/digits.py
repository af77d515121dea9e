"""The data of the demo: 1797 handwritten digits of 8 x 8 pixels with the grey levels 0..16."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import sdekit_kernels
import torch
from torch import Tensor

from sdekit.data.dataset import Dataset
from sdekit.data.split import split
from sdekit.likelihood import DataTransform
from sdekit.noise import keys

__all__ = ["LEVELS", "digits", "noise_images"]

LEVELS: Final = 17
"""Grey levels of a pixel: the integers 0..16."""

_TEST: Final = 297


def digits() -> Dataset:
    """Return the digits that scikit-learn ships (Alpaydin & Kaynak 1998): 1500 and 297 held out.

    Images (N, 8, 8), int64 in 0..16, labels int64 in 0..9. The split is one fixed permutation, the
    same on every machine. Nothing is downloaded.
    Raises ModuleNotFoundError, with what to install, if scikit-learn is missing.
    """
    try:
        from sklearn.datasets import load_digits as load
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "the digits come with scikit-learn, which is not installed: "
            'write pip install "sdekit[images]"'
        ) from error
    bunch = load()
    images = torch.from_numpy(bunch.images).to(torch.int64)
    labels = torch.from_numpy(bunch.target).to(torch.int64)
    train, test = split(images, test=_TEST)
    return Dataset(
        "digits",
        images[train],
        images[test],
        labels[train],
        labels[test],
        transform=DataTransform(LEVELS),
        classes=tuple("0123456789"),
    )


def noise_images(
    n: int, *, seed: int = 0, levels: int = LEVELS, event_shape: Sequence[int] = (8, 8)
) -> Tensor:
    """Return n images (n, D...) of independent, uniform grey levels: what is surely no digit."""
    z = sdekit_kernels.normal((n, *event_shape), seed=seed, stream=keys.DATA, dtype=torch.float64)
    return (torch.special.ndtr(z) * levels).floor().clamp(0, levels - 1).to(torch.int64)
