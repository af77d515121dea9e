"""Sums and counts over a block of paths, in place of its states; see ``fuse/statistics.py``.

``keep`` is what a generated kernel does with a block after each step. It copies the states to where
they are saved, or, given ``Sums`` in place of an array, reduces them: Numba compiles one or the
other, by the type of its argument.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
from numba.core import types
from numba.extending import overload

from sdekit_kernels._cpu.jit import inline, kernel
from sdekit_kernels._cpu.parallel import thread_number
from sdekit_kernels.fuse._numba.block import copy_row
from sdekit_kernels.fuse.statistics import Statistics

__all__ = ["Sums", "keep", "sums_of"]


class Sums(NamedTuple):
    """``Statistics`` as arrays: groups (G, 3), first component, size and whether products are made.

    share: blocks whose sums go into one part of ``moments``, all of them by one thread.
    """

    groups: Any
    at: Any
    moments: Any
    counts: Any
    bins: int
    share: int
    last: bool


def sums_of(statistics: Statistics, blocks: int) -> Sums:
    """The arrays behind the tensors, for a launch of so many blocks."""
    parts = statistics.moments.shape[0]
    return Sums(
        np.array(statistics.groups, np.int64),
        statistics.at.numpy(),
        statistics.moments.numpy(),
        statistics.counts.numpy(),
        statistics.bins,
        -(-blocks // parts),
        statistics.last,
    )


def keep(saved: Any, slots: Any, k: int, s: Any, size: int, start: int, rows: int) -> None:
    """Save or reduce paths start ... start + rows - 1 after step k, if the step has a slot.

    s: the block's scratch array, in which row j, ``size`` numbers long, holds state component j.
    """
    raise NotImplementedError("runs inside Numba kernels only")


@overload(keep, jit_options={"forceinline": True})
def _keep(saved, slots, k, s, size, start, rows):
    if isinstance(saved, types.BaseTuple):

        def sums(saved, slots, k, s, size, start, rows):
            # The first group into the result that the slot names, the others into the last ones.
            groups = len(saved.groups)
            last = saved.last and k == len(slots) - 1
            for g in range(0 if slots[k] >= 0 else 1, groups if last else 1):
                result = np.int64(slots[k]) if g == 0 else saved.at.shape[1] - groups + g
                _reduce(saved, g, result, s, size, start, rows)

        return sums

    def states(saved, slots, k, s, size, start, rows):
        if len(slots) > 0 and slots[k] >= 0:
            states, n = saved.shape[1], saved.shape[2]
            for j in range(states):
                at = (np.int64(slots[k]) * states + j) * n + start
                copy_row(saved, at, s, j * size, rows)

    return states


@kernel
def _reduce(sums: Any, group: int, result: int, s: Any, size: int, start: int, rows: int) -> None:
    """One group of one block, into one result."""
    first, width, products = sums.groups[group]
    x, centre = s[first * size :], sums.at[0, result]
    out = sums.moments[start // size // sums.share, result]
    ok = np.empty(rows)
    finite = _finite(ok, x, size, width)
    if products != 0:
        if finite:
            ok[:] = 1.0
        _add_products(out, ok, x, size, width, centre)
    elif finite:
        out[0] += rows
        for j in range(width):
            one, two = _powers(x[j * size : j * size + rows], centre[j])
            out[1 + j] += one
            out[1 + width + j] += two
    else:
        for j in range(width):
            n, one, two = _some_powers(ok, x[j * size : j * size + rows], centre[j])
            out[0] += n if j == 0 else 0.0
            out[1 + j] += one
            out[1 + width + j] += two
    if sums.bins > 0:
        counts = sums.counts[thread_number(), result]
        place = np.empty(rows, np.int32)
        for j in range(width):
            part = x[j * size : j * size + rows]
            _places(place, part, sums.at[1, result, j], sums.at[2, result, j], sums.bins)
            if not finite:
                _leave_out(place, ok, sums.bins)
            row, at = counts[j], place.view(np.uint32)  # unsigned: no test for negative ones
            for i in range(rows):
                row[at[i]] += 1


# Sums of statistics need no fixed order, only one that threads do not change: this one depends on
# the machine alone. Vectorized they are eight times as fast.
def _sums(function: Any) -> Any:
    return numba.njit(forceinline=True, fastmath={"reassoc"}, error_model="numpy")(function)


@_sums
def _finite(ok: Any, x: Any, size: int, width: int) -> Any:
    """Whether all is finite; if not, ok[i] is one or, where a component is not finite, zero."""
    rows, zero = len(ok), x.dtype.type(0)
    nothing = zero  # until it is NaN, once and for all
    for j in range(width):
        part = x[j * size : j * size + rows]
        for i in range(rows):
            nothing += part[i] * zero
    if nothing == 0:
        return True
    for i in range(rows):
        ok[i] = 0.0
    for j in range(width):
        part = x[j * size : j * size + rows]
        for i in range(rows):
            ok[i] += np.float64(part[i]) * 0.0
    for i in range(rows):
        ok[i] = 1.0 if ok[i] == 0.0 else 0.0
    return False


@_sums
def _powers(x: Any, centre: Any) -> Any:
    """Sums of x - c and of its square."""
    one, two = 0.0, 0.0
    for i in range(len(x)):
        d = np.float64(x[i]) - centre
        one += d
        two += d * d
    return one, two


@_sums
def _some_powers(ok: Any, x: Any, centre: Any) -> Any:
    """The number of ``ok`` paths, and the sums over them of x - c and of its square."""
    n, one, two = 0.0, 0.0, 0.0
    for i in range(len(x)):
        d = np.float64(x[i]) - centre if ok[i] == 1.0 else 0.0
        n += ok[i]
        one += d
        two += d * d
    return n, one, two


@_sums
def _dot(a: Any, b: Any) -> Any:
    total = 0.0
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@inline
def _add_products(out: Any, ok: Any, x: Any, size: int, width: int, centre: Any) -> None:
    """The whole triangle of the Gram matrix."""
    rows = len(ok)
    away = np.empty((width, rows))
    out[0] += _dot(ok, ok)
    for j in range(width):
        part, row = x[j * size : j * size + rows], away[j]
        for i in range(rows):
            row[i] = np.float64(part[i]) - centre[j] if ok[i] == 1.0 else 0.0
        out[1 + j] += _dot(ok, row)
    m = 1 + width
    for i in range(width):
        for j in range(i, width):
            out[m] += _dot(away[i], away[j])
            m += 1


@inline
def _places(place: Any, x: Any, low: Any, scale: Any, bins: int) -> None:
    """Bin of each number: 0 below, bins + 1 above, bins + 2 for no number."""
    top = np.float64(bins)
    for i in range(len(place)):
        t = np.floor((np.float64(x[i]) - low) * scale)
        inside = min(max(t, -1.0), top)
        place[i] = np.int32(inside if t == t else top + 1.0) + np.int32(1)


@inline
def _leave_out(place: Any, ok: Any, bins: int) -> None:
    for i in range(len(place)):
        place[i] = place[i] if ok[i] == 1.0 else np.int32(bins + 2)
