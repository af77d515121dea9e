"""Which implementation of an operation runs, and why: stated conditions, never a caught exception.

=========  =============================================================================
backend    runs
=========  =============================================================================
"triton"   CUDA and ROCm tensors; CPU tensors only under TRITON_INTERPRET=1 (slow, for tests)
"numba"    CPU tensors
"torch"    any device: the readable reference
"auto"     triton on a GPU where Triton is installed, numba on the CPU, torch elsewhere
=========  =============================================================================
"""

from __future__ import annotations

import os
from functools import lru_cache
from importlib.util import find_spec
from typing import NamedTuple

import torch

from sdekit_kernels.checks import check_choice

__all__ = ["BACKENDS", "Choice", "compute_dtype", "resolve_backend"]

BACKENDS = ("auto", "numba", "triton", "torch")
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


class Choice(NamedTuple):
    """The backend that will run and the condition that chose it."""

    backend: str
    reason: str


@lru_cache(maxsize=8)
def _installed(package: str) -> bool:
    return find_spec(package) is not None


def resolve_backend(backend: str, device: torch.device) -> Choice:
    """Choose the implementation for tensors on ``device``.

    Raises ValueError for an unknown name, and RuntimeError for a backend asked for by name that
    cannot run on this device.
    """
    check_choice("backend", backend, BACKENDS)
    if backend == "auto":
        if device.type == "cpu":
            return Choice("numba", "CPU tensors")
        if device.type == "cuda":
            if _installed("triton"):
                return Choice("triton", "GPU tensors")
            return Choice("torch", "GPU tensors, but Triton is not installed")
        return Choice("torch", f"no kernels for device type {device.type!r}")
    if backend == "numba" and device.type != "cpu":
        raise RuntimeError(
            f"backend 'numba' runs on CPU tensors, these are on {device}: "
            "write backend='auto', or move them with .cpu()"
        )
    if backend == "triton":
        if not _installed("triton"):
            raise RuntimeError(
                "backend 'triton' needs the package triton: pip install triton, or backend='auto'"
            )
        interpreted = device.type == "cpu" and os.environ.get("TRITON_INTERPRET") == "1"
        if device.type != "cuda" and not interpreted:
            raise RuntimeError(
                f"backend 'triton' runs on GPU tensors, these are on {device}: write "
                "backend='auto', or set TRITON_INTERPRET=1 before Python starts (slow, for tests)"
            )
    return Choice(backend, "asked for by name")


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """float64 computes in float64; float32, bfloat16 and float16 in float32.

    Raises TypeError for every other type.
    """
    if dtype not in DTYPES:
        raise TypeError(f"dtype must be one of {', '.join(str(d) for d in DTYPES)}, got {dtype!r}")
    return torch.float64 if dtype == torch.float64 else torch.float32
