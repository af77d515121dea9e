"""Sums and counts over the paths of one instance; see ``fuse/statistics.py``.

An instance sums its own paths in a fixed order and has its own part of the sums, so that their bits
do not depend on which instance runs first; counts are added atomically, in any order.
"""

import triton
import triton.language as tl

__all__ = ["add_counts", "add_sum", "away", "is_number"]


@triton.jit
def is_number(x):
    """Whether x is finite."""
    return x * 0.0 == 0.0


@triton.jit
def away(x, centre, ok):
    """x - c in float64 where ``ok``, else zero."""
    return tl.where(ok, x.to(tl.float64) - tl.load(centre), 0.0)


@triton.jit
def add_sum(place, terms):
    """Add the sum of an instance's terms to a number that no other instance touches."""
    tl.store(place, tl.load(place) + tl.sum(terms, 0))


@triton.jit
def add_counts(x, ok, low, scale, counts, bins):
    """Count x in the bin in which it lies: 0 below, bins + 1 above."""
    t = tl.floor((x.to(tl.float64) - tl.load(low)) * tl.load(scale))
    ok = ok & (t == t)
    t = tl.minimum(tl.maximum(tl.where(ok, t, 0.0), -1.0), bins.to(tl.float64))
    place = counts + (t.to(tl.int32) + 1)
    tl.atomic_add(place, tl.full(x.shape, 1, tl.int64), mask=ok, sem="relaxed")
