"""Letters drawn from fonts, each with its own small affine map."""

from __future__ import annotations

from typing import Final

import sdekit_kernels
import torch
from sdekit_kernels.checks import check_int_range
from torch import Tensor
from torch.nn.functional import affine_grid, avg_pool2d, grid_sample

from sdekit.data.affine_maps import affine_maps
from sdekit.data.dataset import Dataset
from sdekit.data.glyphs import FONTS, OVERSAMPLING, SIZE, glyphs
from sdekit.data.plane import HELD_OUT
from sdekit.likelihood import DataTransform
from sdekit.noise import keys

__all__ = ["letters"]

_CAPITALS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_CHUNK: Final = 256
"""Letters at a time: 256 pictures of 56 x 56 points in float64 are 6 MB."""


def letters(
    n: int = 5_000,
    *,
    test: int = 500,
    alphabet: str = _CAPITALS,
    seed: int = 0,
    rotation: float = 0.1,
    scale: float = 0.08,
    shear: float = 0.12,
    shift: float = 0.8,
) -> Dataset:
    """Return n letters to train on and ``test`` held-out ones, (N, 1, 28, 28) int64 in 0..255.

    Letter i is number i mod len(alphabet) of the alphabet in a random font of matplotlib's,
    turned, scaled, sheared and shifted by normals with the given standard deviations (see
    ``affine_maps``). Paper is 0, ink 255; a pixel is the mean of 2 x 2 points, each bilinear
    between the 56 x 56 of the font's own letter. An image is a function of the seed and its own
    number: float32 normals, the same bits everywhere, then float64 and one rounding. Held-out
    letters have numbers from 2^40 on. Some 3 seconds for 5,500 on an idle core.

    alphabet: distinct letters or digits of ASCII, which all fonts have.
    Raises ValueError for another alphabet; ModuleNotFoundError if matplotlib is missing.
    """
    known = alphabet.isascii() and alphabet.isalnum()
    if not known or len(set(alphabet)) != len(alphabet):
        raise ValueError(
            f"alphabet must be distinct ASCII letters and digits, got {alphabet!r}: "
            f"write {_CAPITALS!r} or a part of it"
        )
    n = check_int_range("n", n, 1, HELD_OUT)
    test = check_int_range("test", test, 0, HELD_OUT)
    amounts = {"rotation": rotation, "scale": scale, "shear": shear, "shift": shift}
    pictures = glyphs(alphabet)
    parts = [
        _draw(pictures, count, first, seed, amounts) for count, first in ((n, 0), (test, HELD_OUT))
    ]
    return Dataset(
        "letters",
        parts[0],
        parts[1],
        torch.arange(n) % len(alphabet),
        torch.arange(test) % len(alphabet),
        transform=DataTransform(256),
        classes=tuple(alphabet),
    )


def _draw(pictures: Tensor, n: int, first: int, seed: int, amounts: dict[str, float]) -> Tensor:
    """Letters first .. first + n - 1: stream DATA."""
    out = torch.empty((n, 1, SIZE, SIZE), dtype=torch.int64)
    points = SIZE * OVERSAMPLING
    for start in range(0, n, _CHUNK):
        count = min(_CHUNK, n - start)
        z = sdekit_kernels.normal(
            (count, 7), seed=seed, stream=keys.DATA, first_sample=first + start
        ).double()
        font = (len(FONTS) * torch.special.ndtr(z[:, 6])).long().clamp(max=len(FONTS) - 1)
        letter = torch.arange(start, start + count) % len(pictures)
        chosen = pictures[letter, font].unsqueeze(1)
        grid = affine_grid(
            affine_maps(z[:, :6], (SIZE, SIZE), **amounts),
            [count, 1, points, points],
            align_corners=False,
        )
        moved = grid_sample(chosen, grid, mode="bilinear", align_corners=False)
        ink = avg_pool2d(moved, OVERSAMPLING)
        out[start : start + count] = (255.0 * ink).round().clamp(0, 255).to(torch.int64)
    return out
