"""Any folder of images, read by Pillow."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sdekit_kernels.checks import check_int_range
from torch import Tensor

from sdekit.data.dataset import Dataset
from sdekit.data.split import split
from sdekit.data.tensor import held_out
from sdekit.likelihood import DataTransform

__all__ = ["folder"]

_EIGHT_BITS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB")


def folder(
    path: str | os.PathLike[str],
    *,
    size: int | Sequence[int] | None = None,
    gray: bool = False,
    skip_broken: bool = False,
    test_share: float = 0.1,
    seed: int = 0,
) -> Dataset:
    """Return the images in a folder and the folders in it, (N, C, H, W) int64 in 0..255.

    Files are taken in the order of their paths if their ending is one that Pillow knows; other
    files are left alone. Rotation tags are obeyed, transparency is dropped.

    size: (H, W), or one number for both; an image is cropped around its middle to that shape, then
    resampled (Lanczos). None: all images must have one size. gray: one channel instead of three.
    skip_broken: leave out files that cannot be read; their names are in ``skipped`` and a warning.
    ``source`` has all of these, with the absolute path: ``sdekit.data.load`` makes the set again.
    test_share: fraction of the images that is held out, by a random order of this seed; copies of
    one image stay in one part.

    Raises FileNotFoundError or NotADirectoryError; ValueError that names the file if one is no
    image, is cut short, has more than 8 bits a channel or another size than the first, or if there
    is no image; ModuleNotFoundError, with what to install, if Pillow is missing.
    """
    root = Path(path)
    if not root.exists():
        raise FileNotFoundError(2, "no such folder", str(root))
    if not root.is_dir():
        raise NotADirectoryError(20, "is a file, not a folder of images", str(root))
    shape = None if size is None else _shape(size)
    names = _image_files(root)
    images: list[Tensor] = []
    read: list[Path] = []
    skipped: list[str] = []
    for name in names:
        try:
            image = _read(name, shape, gray)
        except (OSError, SyntaxError, ValueError) as error:
            # Pillow says what is wrong with a file in any of these; a file that is not there or
            # may not be read is no broken image.
            if isinstance(error, FileNotFoundError | PermissionError):
                raise
            if not skip_broken:
                raise ValueError(
                    f"{name} cannot be read as an image ({error}): remove it, or write "
                    "skip_broken=True to leave such files out"
                ) from error
            skipped.append(str(name))
            continue
        if images and image.shape != images[0].shape:
            raise ValueError(
                f"{name} has {_pixels(image)} pixels, but {read[0]} has {_pixels(images[0])}: "
                "write size=(H, W) to bring all images to one size"
            )
        images.append(image)
        read.append(name)
    if skipped:
        shown = ", ".join(skipped[:5]) + (", ..." if len(skipped) > 5 else "")
        warnings.warn(
            f"{len(skipped)} of {len(names)} files cannot be read as images and are left out: "
            f"{shown}",
            stacklevel=2,
        )
    if not images:
        raise ValueError(f"there is no image that can be read in {root}")
    x = torch.stack(images)
    train, test = split(x, test=held_out(len(x), test_share), seed=seed)
    return Dataset(
        root.resolve().name,
        x[train].to(torch.int64),
        x[test].to(torch.int64),
        transform=DataTransform(256),
        skipped=tuple(skipped),
        source={
            "path": str(root.resolve()),
            "size": None if shape is None else list(shape),
            "gray": gray,
            "skip_broken": skip_broken,
            "test_share": test_share,
            "seed": seed,
        },
    )


def _pillow() -> Any:
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'images are read by Pillow, which is not installed: write pip install "sdekit[images]"'
        ) from error
    return Image


def _image_files(root: Path) -> list[Path]:
    """Files whose ending Pillow can read, by path; those whose names start with a dot are not."""
    module = _pillow()
    endings = {end for end, kind in module.registered_extensions().items() if kind in module.OPEN}
    found = (p for p in root.rglob("*") if p.suffix.lower() in endings and p.is_file())
    return sorted(p for p in found if not p.name.startswith("."))


def _shape(size: int | Sequence[int]) -> tuple[int, int]:
    pair = list(size) if isinstance(size, Sequence) else [size, size]
    if len(pair) != 2:
        raise ValueError(f"size must be one number or (H, W), got {size!r}")
    height, width = (check_int_range("size", value, 1, 1 << 16) for value in pair)
    return height, width


def _read(path: Path, shape: tuple[int, int] | None, gray: bool) -> Tensor:
    """One image as uint8 (C, H, W)."""
    module = _pillow()
    from PIL import ImageOps

    # A file that claims more pixels than Pillow trusts is an error here, not a warning.
    with warnings.catch_warnings():
        warnings.simplefilter("error", module.DecompressionBombWarning)
        try:
            with module.open(path) as file:
                image = ImageOps.exif_transpose(file)
        except (module.DecompressionBombWarning, module.DecompressionBombError) as error:
            raise ValueError(str(error)) from None
    if image.mode not in _EIGHT_BITS:
        raise ValueError(f"its pixels are of the kind {image.mode!r}, not 8 bits a channel")
    image = image.convert("L" if gray else "RGB")
    if shape is not None and image.size != (shape[1], shape[0]):
        image = ImageOps.fit(image, (shape[1], shape[0]), module.Resampling.LANCZOS)
    pixels = torch.from_numpy(np.array(image, dtype=np.uint8))
    return pixels.unsqueeze(0) if gray else pixels.permute(2, 0, 1)


def _pixels(image: Tensor) -> str:
    return f"{image.shape[1]} x {image.shape[2]}"
