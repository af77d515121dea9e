"""The data of the demo: 1797 handwritten digits of 8 x 8 pixels with the grey levels 0..16."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import sdekit_kernels
import torch
from torch import Tensor

from sdekit.noise import keys

LEVELS: Final = 17
"""Grey levels of a pixel: the integers 0..16."""

_TEST: Final = 297
_SPLIT_SEED: Final = 20210526


@dataclass(frozen=True, slots=True)
class Digits:
    """Images (N, 8, 8), int64 in 0..16, and their labels (N,), int64 in 0..9."""

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor


def load_digits() -> Digits:
    """Return the digits that scikit-learn ships (Alpaydin & Kaynak 1998): 1500 and 297 for test.

    The split is one fixed permutation, the same on every machine. Nothing is downloaded.
    Raises ModuleNotFoundError, with what to install, if scikit-learn is missing.
    """
    try:
        from sklearn.datasets import load_digits as load
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "the digits come with scikit-learn, which is not installed: "
            'write pip install "sdekit[demo]"'
        ) from error
    bunch = load()
    images = torch.from_numpy(bunch.images).to(torch.int64)
    labels = torch.from_numpy(bunch.target).to(torch.int64)
    order = permutation(len(images), seed=_SPLIT_SEED, stream=keys.DATA)
    test, train = order[:_TEST], order[_TEST:]
    return Digits(images[train], labels[train], images[test], labels[test])


def permutation(n: int, *, seed: int, stream: int, step: int = 0) -> Tensor:
    """Return a random order of 0..n - 1, (n,) int64: the order of n normals.

    float32 normals have the same bits on every machine and backend, float64 ones only nearly; the
    sort is stable, so that equal ones cannot make a difference either.
    """
    z = sdekit_kernels.normal((n,), seed=seed, stream=stream, step=step)
    return z.argsort(stable=True)


def noise_images(n: int, *, seed: int = 0, levels: int = LEVELS) -> Tensor:
    """Return n images (n, 8, 8) of independent, uniform grey levels: what is surely no digit."""
    z = sdekit_kernels.normal((n, 8, 8), seed=seed, stream=keys.DATA, dtype=torch.float64)
    return (torch.special.ndtr(z) * levels).floor().clamp(0, levels - 1).to(torch.int64)
