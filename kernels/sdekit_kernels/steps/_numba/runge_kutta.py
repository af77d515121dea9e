"""Stages and the end of adaptive Runge-Kutta steps on the CPU; see ``steps/runge_kutta.py``.

A block holds whole samples, or a piece of one long sample, in scratch arrays that stay in the
first-level cache. A sample is summed along its own row, piece after piece: the order of the
additions depends on n and the split alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sdekit_kernels._cpu.block import spread
from sdekit_kernels._cpu.jit import inline, kernel
from sdekit_kernels._cpu.ops import fma
from sdekit_kernels._cpu.parallel import fork
from sdekit_kernels.steps._numba.norms import _LONG, _sum
from sdekit_kernels.steps._numba.step_control import (
    advance,
    conclude,
    errors,
    factors,
    find_tense,
    propose,
)
from sdekit_kernels.steps.runge_kutta import RUNNING


@inline
def combine(
    total: Any, slopes: Any, stride: int, start: int, index: Any, weights: Any, n: int
) -> None:
    """total[:n] = sum_j weights[j] slopes[index[j]], one rounding a term, in the order of j."""
    zero = total.dtype.type(0)
    for i in range(n):
        total[i] = zero
    count = len(index)
    for j in range(0, count - 1, 2):  # two at a time: the sum itself moves half as often
        first, second = index[j] * stride + start, index[j + 1] * stride + start
        p, q = slopes[first : first + n], slopes[second : second + n]
        a, b = weights[j], weights[j + 1]
        for i in range(n):
            total[i] = fma(b, q[i], fma(a, p[i], total[i]))
    if count % 2 == 1:
        first = index[count - 1] * stride + start
        p = slopes[first : first + n]
        a = weights[count - 1]
        for i in range(n):
            total[i] = fma(a, p[i], total[i])


@kernel
def stage_kernel(
    block0: int,
    block1: int,
    y: Any,
    slopes: Any,
    stride: int,
    index: Any,
    weights: Any,
    dt: Any,
    out: Any,
    n_samples: int,
    dim: int,
    rows: int,
    cols: int,
) -> None:
    """out = y + dt sum_j weights[j] slopes[index[j]]; all arrays are flat, out may be y."""
    per_sample = (dim + cols - 1) // cols
    total, step = np.empty(rows * cols, y.dtype), np.empty(rows * cols, y.dtype)
    for block in range(block0, block1):
        r0 = (block // per_sample) * rows
        c0 = (block % per_sample) * cols
        nr, nc = min(rows, n_samples - r0), min(cols, dim - c0)
        n, start = nr * nc, r0 * dim + c0
        combine(total, slopes, stride, start, index, weights, n)
        spread(step, dt, 1, 0, r0, nr, c0, nc)
        given, target = y[start : start + n], out[start : start + n]
        for i in range(n):
            target[i] = fma(step[i], total[i], given[i])


@inline
def spread_tolerances(
    relative: Any, least: Any, rows: int, cols: int, border: int, given: Any
) -> None:
    """rtol and atol of each entry; those of the first group end at ``border`` of a row."""
    for r in range(rows):
        for c in range(cols):
            group = 0 if c < border else 2
            relative[r * cols + c], least[r * cols + c] = given[group], given[group + 1]


@inline
def square_errors(
    squares: Any, total: Any, y: Any, y_new: Any, slope: Any, n: int, relative: Any, least: Any
) -> None:
    """squares = (total / scale)^2 in float64; NaN where y_new or its slope is not finite."""
    for i in range(n):
        scale = fma(relative[i], max(abs(y[i]), abs(y_new[i])), least[i])
        ratio = np.float64(total[i] / scale)
        # A finite number less itself is 0, any other is NaN.
        poison = np.float64((y_new[i] - y_new[i]) + (slope[i] - slope[i]))
        squares[i] = ratio * ratio + poison


@inline
def square_differences(squares: Any, a: Any, b: Any, n: int) -> None:
    """squares = (a - b)^2 in float64."""
    for i in range(n):
        gap = np.float64(a[i] - b[i])
        squares[i] = gap * gap


@inline
def add_rows(total: Any, v: Any, rows: int, cols: int, first: int, end: int) -> None:
    """total[r] += the sum of v[r, first:end], rows of ``cols`` entries one after the other."""
    if end - first >= _LONG:
        for r in range(rows):
            total[r] += _sum(v, r * cols + first, end - first)
    else:
        for r in range(rows):
            row = 0.0
            for c in range(r * cols + first, r * cols + end):
                row += v[c]
            total[r] += row


@inline
def move(target: Any, to: int, source: Any, start: int, n: int) -> None:
    """target[to : to + n] = source[start : start + n]."""
    here, there = target[to : to + n], source[start : start + n]
    for i in range(n):
        here[i] = there[i]


@kernel
def finish_kernel(
    block0: int,
    block1: int,
    y: Any,
    y_new: Any,
    before: Any,
    slopes: Any,
    stride: int,
    count: int,
    index: Any,
    weights: Any,
    t: Any,
    dt: Any,
    h: Any,
    last: Any,
    status: Any,
    accepted: Any,
    rejected: Any,
    stiff: Any,
    numbers: Any,
    stops: Any,
    split: int,
    max_steps: int,
    n_samples: int,
    dim: int,
    rows: int,
    cols: int,
) -> None:
    """A block is ``rows`` samples, looked at ``cols`` components at a time.

    numbers: alpha, beta, 1 / order, rtol, atol, floor, sign of time, stability, and rtol, atol of
    the second group.
    """
    given = np.empty(4, y.dtype)
    given[0], given[1], given[2], given[3] = numbers[3], numbers[4], numbers[8], numbers[9]
    relative, least = np.empty(rows * cols, y.dtype), np.empty(rows * cols, y.dtype)
    known_border, known_cols = -1, -1
    floor, sign, stability = numbers[5], numbers[6], numbers[7]
    watched = stability > 0.0
    share_1, share_2 = 1.0 / split, 1.0 / max(dim - split, 1)
    total, squares = np.empty(rows * cols, y.dtype), np.empty(rows * cols)
    sums, error, factor, left = np.empty((4, rows)), np.empty(rows), np.empty(rows), np.empty(rows)
    taken, tense = np.empty(rows, np.bool_), np.empty(rows, np.bool_)
    final, previous = (count - 1) * stride, (count - 2) * stride
    for block in range(block0, block1):
        r0 = block * rows
        nr = min(rows, n_samples - r0)
        running = 0
        for r in range(nr):
            running += status[r0 + r] == RUNNING
        if running == 0:
            continue
        sums[:] = 0.0
        for c0 in range(0, dim, cols):
            nc = min(cols, dim - c0)
            start, n = r0 * dim + c0, nr * nc
            end = start + n
            new, slope = y_new[start:end], slopes[final + start : final + end]
            combine(total, slopes, stride, start, index, weights, n)
            border = min(max(split - c0, 0), nc)
            if border != known_border or nc != known_cols:
                # Laid out for whole blocks: what the last, shorter one takes is its beginning.
                spread_tolerances(relative, least, rows, nc, border, given)
                known_border, known_cols = border, nc
            square_errors(squares, total, y[start:end], new, slope, n, relative, least)
            add_rows(sums[0], squares, nr, nc, 0, border)
            if border < nc:
                add_rows(sums[1], squares, nr, nc, border, nc)
            if watched:
                square_differences(squares, new, before[start:end], n)
                add_rows(sums[2], squares, nr, nc, 0, nc)
                other = slopes[previous + start : previous + end]
                square_differences(squares, slope, other, n)
                add_rows(sums[3], squares, nr, nc, 0, nc)
        end = r0 + nr
        step, size, time, memory = dt[r0:end], h[r0:end], t[r0:end], last[r0:end]
        errors(error, sums[0], sums[1], step, status[r0:end], nr, share_1, share_2)
        factors(factor, error, memory, nr, numbers[0], numbers[1], numbers[2])
        if watched:
            find_tense(tense, sums[2], sums[3], step, stability, nr)
        propose(size, memory, error, factor, step, taken, nr)
        advance(time, step, size, error, left, stops, sign, nr)
        gone = conclude(
            taken,
            status[r0:end],
            accepted[r0:end],
            rejected[r0:end],
            stiff[r0:end],
            tense,
            watched,
            error,
            time,
            size,
            stops[len(stops) - 1],
            floor,
            max_steps,
            nr,
        )
        if gone == nr:
            move(y, r0 * dim, y_new, r0 * dim, nr * dim)
            move(slopes, r0 * dim, slopes, final + r0 * dim, nr * dim)
        elif gone > 0:
            for r in range(nr):
                if taken[r]:
                    start = (r0 + r) * dim
                    move(y, start, y_new, start, dim)
                    move(slopes, start, slopes, final + start, dim)


@kernel
def launch_stage(threads: int, blocks: int, *arguments: Any) -> bool:
    """``stage_kernel`` over all blocks, on several threads."""
    return fork(stage_kernel, threads, blocks, arguments)


@kernel
def launch_finish(threads: int, blocks: int, *arguments: Any) -> bool:
    """``finish_kernel`` over all blocks, on several threads."""
    return fork(finish_kernel, threads, blocks, arguments)
