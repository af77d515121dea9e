"""Where every random number of a bridge's fit comes from: (seed, half-step, step, sample).

Paths are numbered: path i of half-step n is sample n 2^48 + i of the seed, of its starting point
where a law draws it, and of its Brownian motion. What else is drawn has the streams
HALF_STEP + 16 n + j of ``sdekit.noise.keys``, one j for each consumer. So nothing depends on what
was drawn before: a half-step can be begun, stopped and begun again in the middle.
"""

from __future__ import annotations

from typing import Final

from sdekit_kernels.checks import check_int_range

from sdekit.noise import keys

HALF_STEPS: Final = 1 << 13
"""Half-steps of a fit: 1, 2, .. below this. 0 is for samples that a user draws."""
MEASURED: Final = HALF_STEPS
"""The half-step as whose paths all measurements are numbered: the same ones after each half-step,
so that what differs between two measurements is the bridge."""
BACK: Final = HALF_STEPS + 1
"""The half-step as whose paths the backward samples that a user draws are numbered: there and back
by one Brownian motion would not be there and back by the bridge."""
MOMENTS: Final = HALF_STEPS + 2
"""The half-step as whose starting points the moments of laws are taken."""
PATHS: Final = 1 << 48
"""Paths of a half-step."""

SOURCE_ORDER: Final = 0
"""The order of the source's data."""
TARGET_ORDER: Final = 1
"""The order of the target's data."""
CACHE_ORDER: Final = 2
"""The order in which cached paths are seen."""
POINT: Final = 3
"""The point of a reference's bridge, or of its transition, at which a drift is fitted."""
TIME: Final = 4
"""The times at which a drift is fitted, where they are not the grid's."""
COUPLING: Final = 5
"""Which points of a minibatch an optimal plan couples."""
TRANSITION: Final = 6
"""The ends of a start that is the reference itself."""


def stream(half_step: int, consumer: int) -> int:
    """The stream of a consumer in a half-step."""
    n = check_int_range("half_step", half_step, 0, 2 * HALF_STEPS)
    return keys.HALF_STEP + 16 * n + consumer


def path_number(half_step: int, i: int) -> int:
    """The number, as a sample of the seed, of path i of a half-step."""
    n = check_int_range("half_step", half_step, 0, 2 * HALF_STEPS)
    return n * PATHS + check_int_range("a path's number", i, 0, PATHS)
