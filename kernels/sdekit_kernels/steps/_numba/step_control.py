"""What the end of an adaptive step decides, on the CPU: time, next step and status of each sample.

Column by column over the samples of a block, so that each loop vectorizes: taken sample by sample,
the same decisions cost 59 ns each instead of 15. ``error`` is NaN where a sample is not running, so
that both e <= 1 and e > 1 are false there.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sdekit_kernels._cpu.jit import inline
from sdekit_kernels.fuse._numba.math import exp64, log64
from sdekit_kernels.steps.runge_kutta import (
    AGAIN,
    DONE,
    GROW,
    LEAST_ERROR,
    MAX_STEPS,
    NONFINITE,
    PATIENCE,
    RUNNING,
    SAFETY,
    SHRINK,
    STIFF,
    UNDERFLOW,
)

__all__ = ["advance", "conclude", "errors", "factors", "find_tense", "propose"]


@inline
def errors(
    error: Any, first: Any, second: Any, dt: Any, status: Any, n: int, share_1: Any, share_2: Any
) -> None:
    """Each sample's E from the sums over its two groups, infinite where it is no number."""
    for r in range(n):
        e = np.sqrt(max(first[r] * share_1, second[r] * share_2)) * abs(dt[r])
        # False for NaN as well.
        e = e if (first[r] + second[r] < np.inf) & (e < np.inf) else np.inf
        error[r] = e if status[r] == RUNNING else np.nan


@inline
def factors(
    factor: Any, error: Any, last: Any, n: int, alpha: Any, beta: Any, inverse: Any
) -> None:
    """What the controller multiplies dt by, not clipped yet."""
    for r in range(n):
        e = error[r]
        logarithm = log64(max(e, 1e-10))
        exponent = beta * log64(abs(last[r])) - alpha * logarithm
        factor[r] = SAFETY * exp64(exponent if e <= 1.0 else -inverse * logarithm)


@inline
def propose(h: Any, last: Any, error: Any, factor: Any, dt: Any, kept: Any, n: int) -> None:
    """The step that accuracy allows next, and the controller's memory."""
    for r in range(n):
        step, old = dt[r], h[r]
        at_least = max(factor[r], SHRINK)
        grown = min(at_least, 1.0 if last[r] < 0.0 else GROW)
        longer = step * grown
        # A step that a stop cut short says nothing against the longer one, unless it was hard.
        cut = (abs(step) < abs(old)) & (grown >= 1.0) & (abs(old) > abs(longer))
        taken = old if cut else longer
        kept[r] = cut
        refused = step * min(at_least, AGAIN if last[r] < 0.0 else SAFETY)
        e = error[r]
        h[r] = taken if e <= 1.0 else (refused if e > 1.0 else old)
    for r in range(n):
        e = error[r]
        memory = abs(last[r])
        remembered = memory if kept[r] else max(e, LEAST_ERROR)
        last[r] = remembered if e <= 1.0 else (-memory if e > 1.0 else last[r])


@inline
def advance(t: Any, dt: Any, h: Any, error: Any, left: Any, stops: Any, sign: Any, n: int) -> None:
    """The time of each sample, and its next step as in ``runge_kutta.next_step``."""
    for r in range(n):
        left[r] = t[r] + dt[r]
    for i in range(len(stops)):  # a step that was cut to a stop ends there, to the bit
        stop = stops[i]
        for r in range(n):
            left[r] = stop if dt[r] == stop - t[r] else left[r]
    for r in range(n):
        t[r] = left[r] if error[r] <= 1.0 else t[r]
    stop = stops[len(stops) - 1]
    for r in range(n):
        left[r] = stop - t[r]
    for i in range(len(stops) - 1):
        stop = stops[len(stops) - 2 - i]
        for r in range(n):
            ahead = stop - t[r]
            left[r] = ahead if sign * ahead > 0.0 else left[r]
    for r in range(n):
        size, rest = abs(h[r]), abs(left[r])
        step = 0.5 * left[r] if 2.0 * size > rest else h[r]
        step = left[r] if 1.01 * size >= rest else step
        dt[r] = step if error[r] == error[r] else dt[r]


@inline
def conclude(
    taken: Any,
    status: Any,
    accepted: Any,
    rejected: Any,
    stiff: Any,
    tense: Any,
    watched: bool,
    error: Any,
    t: Any,
    h: Any,
    end: Any,
    floor: Any,
    max_steps: int,
    n: int,
) -> int:
    """Counters and status of each sample; how many steps were accepted."""
    gone = 0
    for r in range(n):
        e = error[r]
        taken[r] = e <= 1.0
        if e == e:
            if e <= 1.0:
                gone += 1
                accepted[r] += 1
                if watched:
                    stiff[r] = stiff[r] + 1 if tense[r] else max(stiff[r] - 1, 0)
            else:
                rejected[r] += 1
            code = STIFF if stiff[r] >= PATIENCE else RUNNING
            if accepted[r] + rejected[r] >= max_steps:
                code = MAX_STEPS
            if e > 1.0 and abs(h[r]) < floor:
                code = NONFINITE if e == np.inf else UNDERFLOW
            if e <= 1.0 and t[r] == end:
                code = DONE
            status[r] = code
    return gone


@inline
def find_tense(tense: Any, gaps: Any, turns: Any, dt: Any, bound: Any, n: int) -> None:
    """Whether |dt| |slope - previous slope| > bound |y_new - before|, from the norms' squares."""
    for r in range(n):
        tense[r] = dt[r] * dt[r] * turns[r] > bound * bound * gaps[r]
