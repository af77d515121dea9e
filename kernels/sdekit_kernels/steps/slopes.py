"""The slopes of a Runge-Kutta step as kernels take them: which are read, with which weights.

Slopes have shape (s, B, n). A batch from which finished samples were taken out may leave them
further apart than B n entries: kernels find slope j at ``flat[j stride]``.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import torch

__all__ = ["device_numbers", "flat_slopes", "has_rows", "used_mask", "used_weights"]


def has_rows(slopes: torch.Tensor) -> bool:
    """Whether each slope's (B, n) lies contiguous in memory."""
    _, n_samples, dim = slopes.shape
    _, between_rows, between = slopes.stride()
    return (between == 1 or dim == 1) and (between_rows == dim or n_samples == 1)


def flat_slopes(slopes: torch.Tensor) -> Any:
    """Slopes that ``has_rows`` as one flat array on their memory; none is empty."""
    slopes = slopes.detach() if slopes.requires_grad else slopes
    if slopes.is_contiguous():
        return slopes.numpy().reshape(-1)
    count, n_samples, dim = slopes.shape
    return slopes.as_strided(((count - 1) * slopes.stride(0) + n_samples * dim,), (1,)).numpy()


@lru_cache(maxsize=1024)
def used_weights(weights: tuple[float, ...], dtype: torch.dtype) -> tuple[Any, Any]:
    """Places and values of the weights that are not zero, as arrays that kernels only read.

    Raises ValueError if a weight is not finite.
    """
    _check_weights(weights)
    places = [j for j, a in enumerate(weights) if a != 0.0]
    kind = np.float64 if dtype == torch.float64 else np.float32
    return np.array(places, np.int64), np.array([weights[j] for j in places], kind)


@lru_cache(maxsize=1024)
def used_mask(weights: tuple[float, ...]) -> int:
    """Bit j says whether weight j is not zero. Raises ValueError if a weight is not finite."""
    _check_weights(weights)
    return sum(1 << j for j, a in enumerate(weights) if a != 0.0)


@lru_cache(maxsize=1024)
def device_numbers(values: tuple[float, ...], device: torch.device) -> torch.Tensor:
    """Numbers in float64 on a GPU, copied there once."""
    return torch.tensor(values, dtype=torch.float64, device=device)


def _check_weights(weights: tuple[float, ...]) -> None:
    if not all(math.isfinite(a) for a in weights):
        raise ValueError(f"weights must be finite numbers, got {weights}")
