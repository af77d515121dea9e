r"""Integer data as points: the bins of the discretized decoder, from a DataTransform.

A transform without dequantization puts k at the middle of its bin,
low + (high - low) (k + 1/2) / levels, with half-width h = (high - low) / (2 levels). The points
k / 127.5 - 1 of Ho et al. 2020 are that for low = -256/255 and high = 256/255: h = 1/255.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sdekit.likelihood.transform import DataTransform

__all__ = ["PUBLISHED", "Bins", "make_bins", "place"]

PUBLISHED = DataTransform(256, -256.0 / 255.0, 256.0 / 255.0, dequantize=False)
"""k / 127.5 - 1 for k in 0..255 (Ho et al. 2020, section 3.3)."""


@dataclass(frozen=True, slots=True)
class Bins:
    """half: half the width of a bin. lowest, highest: (B, D...) bool: whether x_0 is there."""

    half: float
    lowest: Tensor
    highest: Tensor

    def rows(self, index: Tensor) -> Bins:
        """The bins of these samples."""
        return Bins(self.half, self.lowest[index], self.highest[index])


def place(k: Tensor, transform: DataTransform, dtype: torch.dtype = torch.float32) -> Tensor:
    """The middles of the bins of integers k (B, D...).

    Raises ValueError for k outside 0..levels - 1.
    """
    still = DataTransform(transform.levels, transform.low, transform.high, dequantize=False)
    return still.forward(k, dtype=dtype)


def make_bins(x0: Tensor, transform: DataTransform) -> Bins:
    """The bins of x_0 (B, D...), which must stand at their middles; NaN passes.

    Raises ValueError, with what to write, for a number that is none of the middles: the integers
    are gone where noise has been added to them.
    """
    width = (transform.high - transform.low) / transform.levels
    places = (x0.double() - transform.low) / width - 0.5
    k = places.round()
    # Eight float32 roundings of the largest |x|, in bins: float64 data may have been float32 once.
    room = 8.0 * torch.finfo(torch.float32).eps * max(abs(transform.low), abs(transform.high))
    off = ((places - k).abs() > min(room / width, 0.25)) | (k < 0) | (k > transform.levels - 1)
    if bool(off.any()):
        where = tuple(int(i) for i in off.nonzero()[0])
        raise ValueError(
            f"the discretized decoder needs integer data, at the middles of the bins of "
            f"{transform!r}, but x0{list(where)} = {x0[where].item():g} is none, and so are "
            f"{int(off.sum())} of {x0.numel()} numbers: give the integers themselves, or "
            "DataTransform(levels, low, high, dequantize=False).forward(k); write "
            'decoder="gaussian" for a density'
        )
    return Bins(0.5 * width, k == 0, k == transform.levels - 1)
