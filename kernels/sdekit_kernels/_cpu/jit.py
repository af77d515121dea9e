"""How Numba functions are compiled here: one place for the flags and for the cache.

No fast-math anywhere: it would let LLVM replace the square root by an estimate and contract
products with sums, and the noise would no longer be the same on every machine.

Numba's disk cache looks only at the file in which a kernel stands, not at the files whose functions
it inlines, so a change in a helper would leave stale machine code behind; ``cache_folder`` is
therefore another one for each version of this package's sources.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numba
from numba.core import config
from numba.core.caching import FunctionCache
from numba.core.ccallback import CFunc
from numba.core.compiler import Compiler

from sdekit_kernels._cpu.collector import collector_paused
from sdekit_kernels._cpu.light_numba import import_arrays
from sdekit_kernels.cache import cache_folder

with collector_paused():
    import_arrays()  # before the first kernel is read or compiled, which imports them otherwise

F = TypeVar("F", bound=Callable[..., Any])

__all__ = ["callback", "inline", "kernel"]


def inline(function: F) -> F:
    """Compile a device function that is always inlined into the kernel that calls it."""
    return numba.njit(forceinline=True, fastmath=False, error_model="numpy")(function)


_DAMAGED = (OSError, EOFError, pickle.UnpicklingError)


class _Cache(FunctionCache):
    """Numba's cache of compiled functions, for which a full disk or a damaged file is no error.

    What cannot be read is compiled again; what cannot be written is compiled again by the next
    process.
    """

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled function, or None."""
        try:
            with collector_paused():
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


@contextmanager
def _setting(name: str, value: Any) -> Iterator[None]:
    """One of Numba's settings changed for a while."""
    before = getattr(config, name)
    setattr(config, name, value)
    try:
        yield
    finally:
        setattr(config, name, before)


class _Compiler(Compiler):
    """Numba's compiler at LLVM's level 2.

    Level 3 copies a loop for each condition in it that does not change, such as whether a thread's
    share is empty. Measured on kernels of sosri: twice the code, made in 0.5 s more of 1.8 s, and
    no faster.
    """

    def compile_extra(self, function: Any) -> Any:
        """Called by dispatchers, which hold Numba's lock."""
        with collector_paused(), _setting("OPT", min(config.OPT, type(config.OPT)(2))):
            return super().compile_extra(function)


def kernel(function: F) -> F:
    """Compile a kernel over a range of blocks, kept on disk between processes.

    It releases the GIL; its launcher runs it on several cores (``parallel.fork``). Where the cache
    cannot be written, the kernel is compiled anew in each process.
    """
    compiled = numba.njit(
        fastmath=False, error_model="numpy", nogil=True, pipeline_class=_Compiler
    )(function)
    _keep_on_disk(compiled, function)
    return compiled


def callback(signature: Any) -> Callable[[F], CFunc]:
    """Compile a function that kernels call by its address, kept on disk between processes."""

    def compiled(function: F) -> CFunc:
        options = dict(nopython=True, fastmath=False, error_model="numpy")
        made = CFunc(
            function,
            (signature.args, signature.return_type),
            locals={},
            options=options,
            pipeline_class=_Compiler,
        )
        _keep_on_disk(made, function)
        made.compile()
        return made

    return compiled


def _keep_on_disk(compiled: Any, function: Any) -> None:
    folder = cache_folder("numba")
    if folder is not None:
        with _setting("CACHE_DIR", str(folder)):
            compiled._cache = _Cache(function)
