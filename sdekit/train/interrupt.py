"""Ctrl-C during a training that keeps its state: first the step is ended and the state saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupt:
    """``asked``: whether Ctrl-C was pressed; pressed again it interrupts at once."""

    def __init__(self) -> None:
        self.asked = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """The signal's handler."""
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


@contextmanager
def interruptible(active: bool) -> Iterator[Interrupt]:
    """Within the block Ctrl-C only marks the interrupt, where ``active`` and in the main thread.

    Elsewhere it does what it did.
    """
    interrupt = Interrupt()
    if not active or threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    old = signal.signal(signal.SIGINT, interrupt)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, old)
