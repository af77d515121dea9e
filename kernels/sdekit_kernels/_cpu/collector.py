"""Python's garbage collector, paused while Numba is imported, and while it loads or compiles.

Each makes some hundred thousand objects, nearly all of which stay, or go when their last reference
does. The collector counts how many are made, and goes through all objects of the process, torch's
too, again and again: 0.13 s of the 0.43 s of a first solve whose kernel is on disk, 0.2 to 0.4 s
where it is compiled. Pausing costs 6 to 30 MiB.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["collector_paused"]


@contextmanager
def collector_paused() -> Iterator[None]:
    """No collection by itself within the block; afterwards it is as it was before.

    It is one for all threads: where two blocks overlap, the collector works again from the end of
    the one that began first.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
