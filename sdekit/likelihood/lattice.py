r"""Whether data were ever dequantized: numbers that noise would have moved apart.

A sample of numbers x has places y in units of bins, of which noise makes each one uniform in its
bin, on the R = 1 / rounding numbers that x's type has there. Then

- no place within a bin is the same for all numbers, except by chance (4 tolerance)^(n - 1);
- the r-th number of a bin equals an earlier one with the probability 1 - (1 - 1 / R)^(r - 1), whose
  sum over all is the number E of repetitions to expect.

Grey levels that were mapped, by whatever scale, repeat each other: 784 zeros have 783 repetitions,
and noise in float32 on 256 levels E <= 10.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["first_on_lattice"]

_CHANCE = 1e-9
# Numbers at a time: some ten arrays of 32 MiB.
_BUDGET = 1 << 22


def first_on_lattice(
    x: Tensor, low: float, width: float, rounding: float
) -> tuple[int | None, str] | None:
    """(the first sample without noise, why); sample None for all together; None where all is well.

    x: (B, n). low, width: of the bins. rounding: the largest of x, in bins. Numbers that are not
    finite are not looked at. All together, since samples of few numbers say little: as many of them
    as the budget holds, each once, since somebody may score one of them twice.
    """
    rows = max(1, _BUDGET // x.shape[1])
    for start in range(0, len(x), rows):
        part = x[start : start + rows]
        place = (part.double() - low) / width
        for wrong, why in (
            (_one_place(place, rounding), "has all numbers at one place within their bins"),
            (_repeats(part, place, rounding), "repeats its numbers more often than noise does"),
        ):
            if bool(wrong.any()):
                return start + int(wrong.nonzero()[0]), why
    every = torch.unique(x[:rows], dim=0).view(1, -1)
    place = (every.double() - low) / width
    if bool(_one_place(place, rounding)):
        return None, "have all numbers at one place within their bins"
    numbers, seen, expected, bins = _counts(every, place, rounding)
    # Not the repetitions themselves: a picture and its mirror image may both be there.
    if bool((numbers - bins >= 8.0) & (numbers - seen - bins <= 0.1 * (numbers - expected - bins))):
        return None, "have one number in each bin"
    return None


def _one_place(place: Tensor, rounding: float) -> Tensor:
    """(B,): all finite numbers of the sample at one place within their bins."""
    tolerance = 16.0 * rounding
    finite = place.isfinite()
    first = place.gather(1, finite.to(torch.int8).argmax(1, keepdim=True))
    apart = place - first
    apart = torch.where(finite, (apart - apart.round()).abs(), 0.0)
    chance = torch.full_like(place[:, 0], 4.0 * tolerance).pow(finite.sum(1) - 1)
    return (apart.amax(1) < tolerance) & (chance < _CHANCE)


def _repeats(x: Tensor, place: Tensor, rounding: float) -> Tensor:
    """(B,): the sample's numbers are equal far more often than those of noise."""
    numbers, seen, expected, _ = _counts(x, place, rounding)
    # Where noise must repeat too (one of 65536 levels all over a picture, in float32), the
    # different numbers tell: fewer than a quarter of those that noise would have.
    few = 4.0 * (numbers - seen) < numbers - expected
    return (seen > 4.0) & ((seen > 4.0 + 2.0 * expected) | few)


def _counts(x: Tensor, place: Tensor, rounding: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(B,) each: finite numbers, repetitions, those that noise would have, bins that hold any."""
    ordered = x.sort(1)[0]
    same = (ordered[:, 1:] == ordered[:, :-1]) & ordered[:, 1:].isfinite()
    bins = place.floor().sort(1)[0]
    finite, fresh = bins.isfinite(), torch.ones_like(bins, dtype=torch.bool)
    fresh[:, 1:] = bins[:, 1:] != bins[:, :-1]
    index = torch.arange(bins.shape[1], device=x.device).expand_as(bins)
    rank = index - torch.where(fresh, index, 0).cummax(1)[0]
    chance = -torch.expm1(rank * math.log1p(-rounding))
    # A transform holds noise 4 roundings off the bins' ends, and some numbers at these places.
    chance = (chance + torch.where(fresh, 0.0, 8.0 * rounding)).clamp(max=1.0)
    expected = torch.where(finite, chance, 0.0).sum(1)
    return (
        x.isfinite().sum(1).double(),
        same.sum(1).double(),
        expected,
        (fresh & finite).sum(1).double(),
    )
