"""The images that ``sdekit likelihood`` scores: digits, noise, or grey levels from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import torch
from sdekit_kernels.checks import check_int_range
from torch import Tensor

from sdekit.cli.commands import take
from sdekit.cli.errors import InputError
from sdekit.train import load_digits
from sdekit.train.data import LEVELS, noise_images

__all__ = ["DATA_HELP", "load_images"]

DATA_HELP: Final = "test, train, noise, or a .npy file of grey levels (N, 8, 8)."

_IMAGES: Final = 200


def load_images(what: str, n: int | None, *, seed: int) -> Tensor:
    """The first n images of ``what``, (n, 8, 8) int64; 200 or all there are if n is None.

    what: "test" or "train", the digits that were held out or trained on; "noise", uniform grey
    levels by the seed; or a file as ``sdekit sample --out FILE.npy`` writes it. Raises InputError
    for another name, a file of something else, or a number of images that there is not.
    """
    if what == "noise":
        n = check_int_range("the number of images", _IMAGES if n is None else n, 1, 100_001)
        return noise_images(n, seed=seed)
    if what in ("test", "train"):
        digits = load_digits()
        images, name = (digits.test if what == "test" else digits.train), f"{what} images"
    elif what.endswith(".npy"):
        images, name = _read_levels(Path(what)), f"images in {what}"
    else:
        raise InputError(f"unknown data {what!r}: write {DATA_HELP}")
    return take(images, min(_IMAGES, len(images)) if n is None else n, name)


def _read_levels(path: Path) -> Tensor:
    """Grey levels as ``sdekit sample --out FILE.npy`` writes them; raises InputError otherwise."""
    try:
        levels = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise InputError(f"{path} is not an array in numpy's format ({error})") from None
    whole = isinstance(levels, np.ndarray) and levels.dtype.kind in "iu"
    if not whole or levels.ndim != 3 or levels.shape[1:] != (8, 8) or len(levels) == 0:
        given = f"{levels.dtype} {levels.shape}" if isinstance(levels, np.ndarray) else "an archive"
        raise InputError(f"{path} must hold integers of shape (N, 8, 8), it has {given}")
    if levels.min() < 0 or levels.max() >= LEVELS:
        raise InputError(
            f"{path} must hold grey levels 0 to {LEVELS - 1}, it has {levels.min()} to "
            f"{levels.max()}"
        )
    return torch.from_numpy(levels.astype(np.int64))
