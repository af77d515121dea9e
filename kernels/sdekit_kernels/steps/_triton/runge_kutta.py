"""Stages and the end of adaptive Runge-Kutta steps on the GPU; see ``steps/runge_kutta.py``."""

import math

import triton
import triton.language as tl

from sdekit_kernels._gpu.ops import fma, negative
from sdekit_kernels.philox._triton_tile import locate
from sdekit_kernels.steps import runge_kutta as rk

_RUNNING: tl.constexpr = tl.constexpr(rk.RUNNING)
_DONE: tl.constexpr = tl.constexpr(rk.DONE)
_NONFINITE: tl.constexpr = tl.constexpr(rk.NONFINITE)
_UNDERFLOW: tl.constexpr = tl.constexpr(rk.UNDERFLOW)
_MAX_STEPS: tl.constexpr = tl.constexpr(rk.MAX_STEPS)
_STIFF: tl.constexpr = tl.constexpr(rk.STIFF)
_SAFETY: tl.constexpr = tl.constexpr(rk.SAFETY)
_AGAIN: tl.constexpr = tl.constexpr(rk.AGAIN)
_SHRINK: tl.constexpr = tl.constexpr(rk.SHRINK)
_GROW: tl.constexpr = tl.constexpr(rk.GROW)
_LOG_LEAST: tl.constexpr = tl.constexpr(math.log2(rk.LEAST_ERROR))
_PATIENCE: tl.constexpr = tl.constexpr(rk.PATIENCE)
_INF: tl.constexpr = tl.constexpr(float("inf"))


@triton.jit
def _wide(value: tl.constexpr, x):
    """A constant in float64 and the shape of x; written bare it would be rounded to float32."""
    return tl.full(x.shape, value, tl.float64)


@triton.jit
def combine(slopes, stride, weights, offset, inside, COUNT: tl.constexpr, USED: tl.constexpr,
            DTYPE: tl.constexpr):  # fmt: skip
    """sum_j weights[j] slopes[j] over the j whose bit is set in USED, one rounding a term."""
    total = tl.zeros(offset.shape, DTYPE)
    for j in tl.static_range(COUNT):
        if (USED >> j) & 1 == 1:
            a = tl.load(weights + j).to(DTYPE)
            k = tl.load(slopes + j * stride + offset, mask=inside, other=0.0)
            total = fma(tl.zeros(offset.shape, DTYPE) + a, k, total)
    return total


@triton.jit(do_not_specialize=["magic", "shift"])
def stage_kernel(
    y,
    slopes,
    stride: tl.int64,
    weights,
    dt,
    out,
    n_elements,
    dim,
    magic: tl.uint32,
    shift: tl.uint32,
    COUNT: tl.constexpr,
    USED: tl.constexpr,
    BLOCK: tl.constexpr,
    F64: tl.constexpr,
):
    """out = y + dt sum_j weights[j] slopes[j] on the BLOCK elements of a program.

    Where n_elements and stride are multiples of 16, which Triton looks at, a thread moves 16 bytes.
    """
    DTYPE: tl.constexpr = tl.float64 if F64 else tl.float32
    element, row, _ = locate(dim, magic, shift, BLOCK)
    inside = element < n_elements
    given = tl.load(y + element, mask=inside, other=0.0)
    step = tl.load(dt + row, mask=inside, other=0.0).to(DTYPE)
    total = combine(slopes, stride, weights, element, inside, COUNT, USED, DTYPE)
    tl.store(out + element, fma(step, total, given), mask=inside)


@triton.jit
def next_step(t, h, stops, n_stops, sign):
    """``runge_kutta.next_step``, an entry a sample."""
    left = tl.load(stops + n_stops - 1) - t
    for i in range(0, n_stops - 1):
        ahead = tl.load(stops + (n_stops - 2 - i)) - t
        left = tl.where(sign * ahead > 0.0, ahead, left)
    size, rest = tl.abs(h), tl.abs(left)
    whole = size * _wide(1.01, h) >= rest
    return tl.where(whole, left, tl.where(2.0 * size > rest, 0.5 * left, h))


@triton.jit
def squared_errors(mean_1, mean_2, dt):
    """E^2 of each sample, infinite where a square was no finite number.

    No root is taken of it: that calls a subroutine, around which numbers leave their registers.
    """
    square = tl.maximum(mean_1, mean_2) * (dt * dt)
    return tl.where((mean_1 + mean_2 < _INF) & (square < _INF), square, _wide(_INF, square))


@triton.jit
def control(square, last, alpha, beta, inverse):
    """The factors of dt after an accepted and a rejected step, and what is remembered of E."""
    logarithm = 0.5 * tl.log2(tl.maximum(square, _wide(1e-20, square)))
    exponent = beta * tl.log2(tl.abs(last)) - alpha * logarithm
    factor = tl.exp2(tl.where(square <= 1.0, exponent, negative(inverse) * logarithm))
    factor = tl.maximum(factor * _wide(_SAFETY, square), _wide(_SHRINK, square))
    grown = tl.minimum(factor, _wide(_GROW, square))
    grown = tl.where(last < 0.0, tl.minimum(grown, _wide(1.0, square)), grown)
    memory = tl.exp2(tl.maximum(logarithm, _wide(_LOG_LEAST, square)))
    most = tl.where(last < 0.0, _wide(_AGAIN, square), _wide(_SAFETY, square))
    return grown, tl.minimum(factor, most), memory


@triton.jit(do_not_specialize=["n_stops", "split", "max_steps", "n_samples"])
def finish_kernel(
    y,
    y_new,
    before,
    slopes,
    stride: tl.int64,
    weights,
    t_in,
    dt_in,
    h_in,
    last_in,
    status_in,
    accepted_in,
    rejected_in,
    stiff_in,
    numbers,
    n_stops,
    split,
    max_steps,
    n_samples,
    dim,
    COUNT: tl.constexpr,
    USED: tl.constexpr,
    WATCHED: tl.constexpr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    F64: tl.constexpr,
):
    """A program decides about ROWS samples, WIDTH components at a time.

    numbers: alpha, beta, 1 / order, rtol, atol, floor, sign of time, stability, rtol and
    atol of the second group, one over the components of each group, then the stops.
    No row is written before the sums over it are known, and they need all that was read of it.
    """
    DTYPE: tl.constexpr = tl.float64 if F64 else tl.float32
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    live = row < n_samples
    status = tl.load(status_in + row, mask=live, other=0)
    running = live & (status == _RUNNING)
    base = row.to(tl.int64)[:, None] * dim

    t = tl.load(t_in + row, mask=live, other=0.0)
    dt = tl.load(dt_in + row, mask=live, other=0.0)
    h = tl.load(h_in + row, mask=live, other=0.0)
    last = tl.load(last_in + row, mask=live, other=1.0)
    accepted = tl.load(accepted_in + row, mask=live, other=0)
    rejected = tl.load(rejected_in + row, mask=live, other=0)
    stiff = tl.load(stiff_in + row, mask=live, other=0)
    rtol, atol = tl.load(numbers + 3).to(DTYPE), tl.load(numbers + 4).to(DTYPE)
    rtol_2, atol_2 = tl.load(numbers + 8).to(DTYPE), tl.load(numbers + 9).to(DTYPE)
    floor, sign = tl.load(numbers + 5), tl.load(numbers + 6)

    sum_1 = tl.zeros([ROWS, WIDTH], tl.float64)
    sum_2 = tl.zeros([ROWS, WIDTH], tl.float64)
    gaps = tl.zeros([ROWS, WIDTH], tl.float64)
    turns = tl.zeros([ROWS, WIDTH], tl.float64)
    final = slopes + (COUNT - 1) * stride
    for c in range(0, dim, WIDTH):
        column = (c + tl.arange(0, WIDTH))[None, :]
        inside = live[:, None] & (column < dim)
        offset = base + column
        old = tl.load(y + offset, mask=inside, other=0.0)
        new = tl.load(y_new + offset, mask=inside, other=0.0)
        slope = tl.load(final + offset, mask=inside, other=0.0)
        total = combine(slopes, stride, weights, offset, inside, COUNT, USED, DTYPE)
        largest = tl.maximum(tl.abs(old), tl.abs(new))
        wide = tl.zeros([ROWS, WIDTH], DTYPE)
        first = column < split
        relative = wide + tl.where(first, rtol, rtol_2)
        least = wide + tl.where(first, atol, atol_2)
        ratio = (total / fma(relative, largest, least)).to(tl.float64)
        finite = (tl.abs(new) < _INF) & (tl.abs(slope) < _INF)
        part = tl.where(finite, ratio * ratio, tl.full([ROWS, WIDTH], float("nan"), tl.float64))
        sum_1 += tl.where(inside & first, part, 0.0)
        sum_2 += tl.where(inside & (column >= split), part, 0.0)
        if WATCHED:
            gap = (new - tl.load(before + offset, mask=inside, other=0.0)).to(tl.float64)
            turn = slope - tl.load(final - stride + offset, mask=inside, other=0.0)
            gaps += gap * gap
            turns += turn.to(tl.float64) * turn.to(tl.float64)

    mean_1 = tl.sum(sum_1, axis=1) * tl.load(numbers + 10)
    mean_2 = tl.sum(sum_2, axis=1) * tl.load(numbers + 11)
    square = squared_errors(mean_1, mean_2, dt)
    alpha, beta, inverse = tl.load(numbers), tl.load(numbers + 1), tl.load(numbers + 2)
    grown, shrunk, memory = control(square, last, alpha, beta, inverse)
    accept = running & (square <= 1.0)
    reject = running & (square > 1.0)

    t_next = t + dt
    for i in range(0, n_stops):  # a step that was cut to a stop ends there, to the bit
        stop = tl.load(numbers + 12 + i)
        t_next = tl.where(dt == stop - t, stop, t_next)
    # A step that a stop cut short says nothing against the longer one, unless it was hard itself.
    longer = dt * grown
    keep = (tl.abs(dt) < tl.abs(h)) & (grown >= 1.0) & (tl.abs(h) > tl.abs(longer))
    h = tl.where(accept, tl.where(keep, h, longer), dt * shrunk)
    t = tl.where(accept, t_next, t)
    last = tl.where(accept, tl.where(keep, tl.abs(last), memory), negative(tl.abs(last)))
    accepted += accept.to(tl.int32)
    rejected += reject.to(tl.int32)
    if WATCHED:
        bound = tl.load(numbers + 7)
        tense = dt * dt * tl.sum(turns, axis=1) > bound * bound * tl.sum(gaps, axis=1)
        counted = tl.where(tense, stiff + 1, tl.maximum(stiff - 1, 0))
        stiff = tl.where(accept, counted, stiff)

    code = tl.where(stiff >= _PATIENCE, _STIFF, _RUNNING)
    code = tl.where(accepted + rejected >= max_steps, _MAX_STEPS, code)
    small = tl.where(square == _INF, _NONFINITE, _UNDERFLOW)
    code = tl.where(reject & (tl.abs(h) < floor), small, code)
    code = tl.where(accept & (t == tl.load(numbers + 11 + n_stops)), _DONE, code)
    tl.store(t_in + row, t, mask=running)
    tl.store(dt_in + row, next_step(t, h, numbers + 12, n_stops, sign), mask=running)
    tl.store(h_in + row, h, mask=running)
    tl.store(last_in + row, last, mask=running)
    tl.store(status_in + row, code.to(tl.int8), mask=running)
    tl.store(accepted_in + row, accepted, mask=running)
    tl.store(rejected_in + row, rejected, mask=running)
    if WATCHED:
        tl.store(stiff_in + row, stiff, mask=running)
    for c in range(0, dim, WIDTH):
        column = (c + tl.arange(0, WIDTH))[None, :]
        inside = accept[:, None] & (column < dim)
        offset = base + column
        tl.store(y + offset, tl.load(y_new + offset, mask=inside, other=0.0), mask=inside)
        tl.store(slopes + offset, tl.load(final + offset, mask=inside, other=0.0), mask=inside)
