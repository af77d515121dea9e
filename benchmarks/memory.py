"""How much memory does a call need at its peak?

On Linux the kernel keeps the most that a process ever had resident (VmHWM), and forgets it when
asked to (writing 5 to /proc/self/clear_refs, Linux 4.0). So the peak of one call is the mark after
it less what was resident before it, whoever allocates: torch, Numba, XLA or C++. Memory that the
allocator holds free is given back before, or the call would reuse it unseen. Inputs do not count,
results do. Exact to about 0.5 MiB: the kernel counts pages by batches.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

STATUS, FORGET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_memory(run: Callable[[], Any]) -> int | None:
    """Bytes that ``run`` needs beyond what is there before it; None where nobody counts them.

    Call it once before, so that what is made once only (threads, caches, machine code) is there.
    """
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
        FORGET.write_text("5")
        before = _kibibytes("VmRSS")
        result = run()
        peak = _kibibytes("VmHWM")
    except (OSError, AttributeError):
        return None  # no Linux, no glibc, or a container that forbids it
    del result
    return max(peak - before, 0) * 1024


def _kibibytes(field: str) -> int:
    for line in STATUS.read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise OSError(f"{STATUS} has no {field}")
