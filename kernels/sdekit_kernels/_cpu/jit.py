"""How Numba functions are compiled here: one place for the flags and for the cache.

No fast-math anywhere: it would let LLVM replace the square root by an estimate and contract
products with sums, and the noise would no longer be the same on every machine.

Numba's disk cache looks only at the file in which a kernel stands, not at the files whose functions
it inlines, so a change in a helper would leave stale machine code behind. The cache folder is
therefore named after a hash over all sources of this package.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba.core import config

F = TypeVar("F", bound=Callable[..., Any])

__all__ = ["inline", "kernel"]


def inline(function: F) -> F:
    """Compile a device function that is always inlined into the kernel that calls it."""
    return numba.njit(forceinline=True, fastmath=False, error_model="numpy")(function)  # type: ignore[no-any-return]


@lru_cache(maxsize=1)
def _cache_folder() -> str:
    root = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for source in sorted(root.rglob("*.py")):
        digest.update(source.relative_to(root).as_posix().encode())
        digest.update(source.read_bytes())
    base = os.environ.get("SDEKIT_CACHE_DIR")
    if base is None:
        home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        base = os.path.join(home, "sdekit")
    return os.path.join(base, f"numba-{digest.hexdigest()[:16]}")


def kernel(function: F) -> F:
    """Compile a kernel over a range of blocks, kept on disk between processes.

    It releases the GIL; its launcher runs it on several cores (``parallel.fork``).
    The cache is ``$SDEKIT_CACHE_DIR`` or ``~/.cache/sdekit``; where that cannot be written, the
    kernel is compiled anew in each process.
    """
    compiled = numba.njit(fastmath=False, error_model="numpy", nogil=True)(function)
    folder = _cache_folder()
    try:
        os.makedirs(folder, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError:
        writable = False
    if writable:
        before = config.CACHE_DIR
        config.CACHE_DIR = folder
        try:
            compiled.enable_caching()
        finally:
            config.CACHE_DIR = before
    return compiled  # type: ignore[no-any-return]
