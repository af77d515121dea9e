"""Rows of an array, one number a path each, into registers and out of them.

One pass of Triton's goes, for every load and store, through all that is connected with it, and
from each operation found again: 30 of 31 s of compiling a kernel of 64 components with a load and a
store a component. So up to 16 rows are loaded at once here and parted in registers. And the pass
leaves out a load whose place comes into a loop from the turn before. Hence the loops, which turn
once and which later compilers see through: a kernel of 2500 operations compiles in 12 s in place
of 70.
"""

import triton
import triton.language as tl


@triton.jit
def load_rows(array, first, n, path, inside, COUNT: tl.constexpr, MOST: tl.constexpr = 16):
    """Each path's numbers in COUNT rows from ``first`` on of an array of n columns, as a tuple.

    inside: whether the path is one; the others get zeros. MOST: rows of one operation, whose
    places, of 64 bits each, are in registers all at once.
    """
    if COUNT > MOST:
        return load_rows(array, first, n, path, inside, MOST) + load_rows(
            array, first + MOST, n, path, inside, COUNT - MOST
        )
    else:
        place, mask = _places(array, first, n, path, inside, COUNT)
        t = tl.zeros(place.shape, array.dtype.element_ty)
        for _ in range((n > 0).to(tl.int32)):
            t = tl.load(place, mask=mask, other=0.0)
            place += 1
        return _columns(tl.trans(t), COUNT)


@triton.jit
def store_rows(
    array, first, n, path, inside, x, once, FROM: tl.constexpr = 0, MOST: tl.constexpr = 16
):
    """Store the tuple x into the rows from ``first`` on, a number of 64 bits, if ``once`` is true.

    Let ``first`` be a number that the compiler does not know before: else it makes the places of
    all rows in good time, before the first step, and keeps them in registers.
    """
    COUNT: tl.constexpr = min(MOST, len(x) - FROM)
    place, mask = _places(array, first + FROM, n, path, inside, COUNT)
    t = tl.trans(_stacked(x, FROM, place.shape[0]))
    for _ in range(once.to(tl.int32)):
        tl.store(place, t, mask=mask)
        place += 1
    if len(x) > FROM + COUNT:
        store_rows(array, first, n, path, inside, x, once, FROM + COUNT)


@triton.jit
def _places(array, first, n, path, inside, COUNT: tl.constexpr):
    """The places of each path's numbers in COUNT rows, filled up to a power of two, and a mask."""
    row = tl.arange(0, triton.next_power_of_2(COUNT))
    mask = (row < COUNT)[:, None] & inside[None, :]
    return array + (first * n + path)[None, :] + row[:, None] * n, mask


@triton.jit
def _columns(t, COUNT: tl.constexpr):
    """The first COUNT columns of t, whose width is a power of two."""
    WIDTH: tl.constexpr = t.shape[1]
    if WIDTH == 1:
        return (tl.reshape(t, [t.shape[0]]),)
    else:
        HALF: tl.constexpr = WIDTH // 2
        a, b = tl.split(tl.permute(tl.reshape(t, [t.shape[0], 2, HALF]), (0, 2, 1)))
        if COUNT <= HALF:
            return _columns(a, COUNT)
        else:
            return _columns(a, HALF) + _columns(b, COUNT - HALF)


@triton.jit
def _stacked(x, FIRST: tl.constexpr, WIDTH: tl.constexpr):
    """x[FIRST : FIRST + WIDTH] as columns; beyond the last, the last again."""
    if WIDTH == 1:
        LAST: tl.constexpr = len(x) - 1
        return x[min(FIRST, LAST)][:, None]
    else:
        HALF: tl.constexpr = WIDTH // 2
        both = tl.join(_stacked(x, FIRST, HALF), _stacked(x, FIRST + HALF, HALF))
        return tl.reshape(tl.permute(both, (0, 2, 1)), [both.shape[0], WIDTH])
