"""How far a training has come: by its steps, by the clock, or by whichever is further."""

from __future__ import annotations

import math
import time
from typing import final

from sdekit_kernels.checks import check_int_range, check_positive


@final
class Budget:
    """``way`` in [0, 1] = the largest of steps done / steps and seconds passed / seconds.

    done, before: steps and seconds of the runs that this one goes on from. led: whether the clock
    was ever ahead of the steps, so that the result depends on the machine's speed.
    Raises ValueError or TypeError for a budget that is missing or not positive.
    """

    def __init__(self, steps: int | None, seconds: float | None) -> None:
        if steps is None and seconds is None:
            raise ValueError("how long? write steps=..., seconds=..., or both")
        self.steps = None if steps is None else check_int_range("steps", steps, 1, 1 << 31)
        self.seconds = None if seconds is None else check_positive("seconds", seconds)
        self.done, self.before, self.led = 0, 0.0, False
        self.way = 0.0
        self._start = time.perf_counter()

    def start(self, done: int = 0, before: float = 0.0, led: bool = False) -> None:
        """Begin, or go on after so many steps and seconds."""
        self.done, self.before, self.led = done, before, led
        self._start = time.perf_counter()
        self.move(before)

    @property
    def elapsed(self) -> float:
        """Seconds of training, those of earlier runs included."""
        return self.before + time.perf_counter() - self._start

    def move(self, elapsed: float) -> None:
        """Take the steps and the seconds until now into ``way``."""
        by_steps = 0.0 if self.steps is None else self.done / self.steps
        by_clock = 0.0 if self.seconds is None else elapsed / self.seconds
        self.led = self.led or by_clock > by_steps
        self.way = min(1.0, max(by_steps, by_clock))

    @property
    def stopped_by(self) -> str:
        """What the budget ended by: "steps" or "seconds"."""
        return "steps" if self.steps is not None and self.done >= self.steps else "seconds"


def learning_rate_factor(way: float, warmup: float) -> float:
    """Linear from 0 to 1 over [0, warmup], then half a cosine down to 0 at way = 1."""
    if way < warmup:
        return way / warmup
    return 0.5 * (1.0 + math.cos(math.pi * (way - warmup) / max(1.0 - warmup, 1e-12)))
