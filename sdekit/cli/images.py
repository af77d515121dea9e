"""What ``sdekit likelihood`` scores: a data set's, noise, or grey levels or points of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import torch
from sdekit_kernels.checks import check_int_range
from torch import Tensor

from sdekit.cli.errors import InputError
from sdekit.cli.model import Model, take
from sdekit.data import noise_images

__all__ = ["DATA_HELP", "load_images"]

DATA_HELP: Final = "test, train (of its data set), noise, or a .npy file of grey levels or points."

_IMAGES: Final = 200


def load_images(model: Model, what: str, n: int | None, *, seed: int) -> Tensor:
    """The first n images of ``what``, (n, D...) int64; 200 or all there are if n is None.

    Of a model of the plane: points, (n, 2) float32.

    what: "test" or "train", the part of the model's data set that was held out or trained on;
    "noise", uniform grey levels by the seed; or a file as ``sdekit sample --out FILE.npy`` writes
    it. Raises InputError for another name, a file of something else, or a number of images that
    there is not.
    """
    kind = "images" if model.is_images else "points"
    if what == "noise" and not model.is_images:
        raise InputError("noise has a law for grey levels alone: write test, train or a .npy file")
    if what == "noise":
        n = check_int_range("the number of images", _IMAGES if n is None else n, 1, 100_001)
        levels = model.limits[1] + 1
        return noise_images(n, seed=seed, levels=levels, event_shape=model.event_shape)
    if what in ("test", "train"):
        images = model.data.test if what == "test" else model.data.train
        name = f"{what} {kind}"
    elif what.endswith(".npy"):
        images, name = _read(Path(what), model), f"{kind} in {what}"
    else:
        raise InputError(f"unknown data {what!r}: write {DATA_HELP}")
    return take(images, min(_IMAGES, len(images)) if n is None else n, name)


def _read(path: Path, model: Model) -> Tensor:
    """Data as ``sdekit sample --out FILE.npy`` writes them; raises InputError otherwise."""
    try:
        levels = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise InputError(f"{path} is not an array in numpy's format ({error})") from None
    whole, kind = model.is_images, "integers" if model.is_images else "numbers"
    fits = isinstance(levels, np.ndarray) and levels.dtype.kind in ("iu" if whole else "f")
    if not fits or levels.shape[1:] != model.event_shape or len(levels) == 0:
        given = f"{levels.dtype} {levels.shape}" if isinstance(levels, np.ndarray) else "an archive"
        wanted = ", ".join(map(str, model.event_shape))
        raise InputError(f"{path} must hold {kind} of shape (N, {wanted}), it has {given}")
    if not whole:
        if not np.isfinite(levels).all():
            raise InputError(f"{path} must hold finite numbers, it has NaN or infinite ones")
        return torch.from_numpy(levels.astype(np.float32))
    if levels.min() < 0 or levels.max() > model.limits[1]:
        raise InputError(
            f"{path} must hold grey levels 0 to {model.limits[1]}, it has {levels.min()} to "
            f"{levels.max()}"
        )
    return torch.from_numpy(levels.astype(np.int64))
