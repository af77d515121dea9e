"""Progress where no bar can be drawn: plain lines now and then, for the log of a cluster's job."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final, final

TENTH: Final = 10.0
"""Least seconds between lines for tenths: a job that is done before says enough by its result."""
MINUTE: Final = 60.0


def redraws() -> bool:
    """Whether stderr can redraw a line, as a bar does: on a terminal, or in a notebook."""
    return (sys.stderr is not None and sys.stderr.isatty()) or "ipykernel" in sys.modules


@final
class Lines:
    """Lines on stderr, ``training: 30%, step 300, loss 0.1234, 0:01:02``.

    One for each tenth of the way, but not within 10 seconds of the last; one a minute in any case;
    and those that are asked for. The time is that of this run alone. start: how much of the way was
    done before.
    """

    def __init__(
        self, what: str, start: float = 0.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._what, self._clock = what, clock
        self._began = self._last = clock()
        self._told = start

    def __call__(self, way: float, text: str, *, always: bool = False) -> None:
        """Print ``text`` if it is time to: way is the fraction that is done, in [0, 1]."""
        now = self._clock()
        # 0.3 * 10 is below 3: a tenth counts from a rounding before it.
        tenth = int(way * 10.0 + 1e-9) > int(self._told * 10.0 + 1e-9)
        waited = now - self._last
        if sys.stderr is None:  # a program without a console
            return
        if not (always or waited >= MINUTE or (tenth and waited >= TENTH)):
            return
        self._last, self._told = now, way
        passed = timedelta(seconds=int(now - self._began))
        print(f"{self._what}: {100.0 * way:.0f}%, {text}, {passed}", file=sys.stderr, flush=True)
