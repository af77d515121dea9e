"""Kernels on several cores, in torch's own threads.

A pool of Numba's own would fight with torch's: OpenMP workers spin for milliseconds after each
parallel region, so on a machine of few cores the workers of one pool keep those of the other from
running (measured on two cores: a 1 ms kernel between torch operations took 24 ms). Therefore a
kernel runs inside a parallel region of the OpenMP runtime that torch has loaded, whichever it is:
GNU, LLVM and Intel all export ``GOMP_parallel``. Where torch was built without OpenMP, kernels run
on one core.

A kernel takes (first block, end block, *arguments), releases the GIL while it runs, and treats its
blocks independently: how they are dealt out changes no bit.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import torch

__all__ = ["run_blocks"]

THREAD_ELEMENTS = 16384
"""Elements that a thread must have to be worth waking, some 25 us of work."""

_Body = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class _Runtime(NamedTuple):
    parallel: Callable[..., None]
    thread: Callable[[], int]
    threads: Callable[[], int]


@lru_cache(maxsize=1)
def _openmp() -> _Runtime | None:
    """torch's OpenMP runtime, found among what its CPU library depends on."""
    library = os.path.join(os.path.dirname(torch.__file__), "lib", "libtorch_cpu.so")
    if not os.path.exists(library):
        return None
    handle = ctypes.CDLL(library)
    names = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")
    if not all(hasattr(handle, name) for name in names):
        return None
    parallel, thread, threads = (getattr(handle, name) for name in names)
    parallel.argtypes = [_Body, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    parallel.restype = None
    thread.restype = threads.restype = ctypes.c_int
    return _Runtime(parallel, thread, threads)


def run_blocks(kernel: Callable[..., None], blocks: int, elements: int, *arguments: Any) -> None:
    """kernel(first, end, *arguments) over [0, blocks), on at most torch.get_num_threads() cores."""
    wanted = min(torch.get_num_threads(), blocks, elements // THREAD_ELEMENTS)
    runtime = _openmp() if wanted > 1 else None
    if runtime is None:
        kernel(0, blocks, *arguments)
        return
    errors: list[BaseException] = []

    def body(_: Any) -> None:
        try:
            # The runtime may give fewer threads than asked for.
            i, n = runtime.thread(), runtime.threads()
            kernel(blocks * i // n, blocks * (i + 1) // n, *arguments)
        except BaseException as error:
            errors.append(error)  # an exception cannot cross the C frames between here and there

    runtime.parallel(_Body(body), None, wanted, 0)
    if errors:
        raise errors[0]
