"""Tensors as the arrays that Numba kernels take."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch

__all__ = ["filled", "flat_array", "scalar_like"]

_LIKE = {True: np.zeros(1, np.float64), False: np.zeros(1, np.float32)}


def flat_array(x: torch.Tensor) -> Any:
    """A contiguous CPU tensor as a flat array on its memory; 16-bit floats as their bits."""
    # NumPy's reshape costs a fifth of torch's: a step makes four of these.
    x = x.detach() if x.requires_grad else x
    return (x.view(torch.uint16) if x.element_size() == 2 else x).numpy().reshape(-1)


@lru_cache(maxsize=256)
def filled(value: float, dtype: torch.dtype) -> Any:
    """A number as the array of one entry that kernels take for a coefficient; never written to."""
    return np.full(1, value, np.float64 if dtype == torch.float64 else np.float32)


def scalar_like(dtype: torch.dtype) -> Any:
    """An array whose type tells a kernel what to compute in."""
    return _LIKE[dtype == torch.float64]
