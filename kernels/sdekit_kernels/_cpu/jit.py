"""How Numba functions are compiled here: one place for the flags and for the cache.

No fast-math anywhere: it would let LLVM replace the square root by an estimate and contract
products with sums, and the noise would no longer be the same on every machine.

Numba's disk cache looks only at the file in which a kernel stands, not at the files whose functions
it inlines, so a change in a helper would leave stale machine code behind; ``cache_folder`` is
therefore another one for each version of this package's sources.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any, TypeVar

import numba
from numba.core import config
from numba.core.caching import FunctionCache

from sdekit_kernels._cpu.light_numba import import_arrays
from sdekit_kernels.cache import cache_folder

import_arrays()  # before the first kernel is read or compiled, which imports them otherwise

F = TypeVar("F", bound=Callable[..., Any])

__all__ = ["inline", "kernel"]


def inline(function: F) -> F:
    """Compile a device function that is always inlined into the kernel that calls it."""
    return numba.njit(forceinline=True, fastmath=False, error_model="numpy")(function)  # type: ignore[no-any-return]


_DAMAGED = (OSError, EOFError, pickle.UnpicklingError)


class _Cache(FunctionCache):  # type: ignore[misc]
    """Numba's cache of compiled functions, for which a full disk or a damaged file is no error.

    What cannot be read is compiled again; what cannot be written is compiled again by the next
    process.
    """

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled function, or None."""
        try:
            return super().load_overload(sig, target_context)
        except _DAMAGED:
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled function; a damaged index is started anew."""
        try:
            super().save_overload(sig, data)
        except _DAMAGED:
            try:
                self.flush()
                super().save_overload(sig, data)
            except _DAMAGED:
                return


def kernel(function: F) -> F:
    """Compile a kernel over a range of blocks, kept on disk between processes.

    It releases the GIL; its launcher runs it on several cores (``parallel.fork``). Where the cache
    cannot be written, the kernel is compiled anew in each process.
    """
    compiled = numba.njit(fastmath=False, error_model="numpy", nogil=True)(function)
    folder = cache_folder("numba")
    if folder is not None:
        before = config.CACHE_DIR
        config.CACHE_DIR = str(folder)
        try:
            compiled._cache = _Cache(function)
        finally:
            config.CACHE_DIR = before
    return compiled  # type: ignore[no-any-return]
