"""The three implementations on words and counters of the test's choice, and a fourth to judge them.

``normal`` chooses its counters itself, so extreme words would never be seen through it.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
import torch
from sdekit_kernels.philox._numba import (
    cos_sin_f32,
    cos_sin_f64,
    philox,
    radius_squared_f32,
    radius_squared_f64,
)
from sdekit_kernels.philox.reference import (
    cos_sin_torch,
    derive_key,
    philox_int,
    philox_torch,
    radius_squared_torch,
)

__all__ = [
    "extreme_words",
    "naive_normal",
    "numba_pairs",
    "numba_words",
    "torch_pairs",
    "torch_words",
    "triton_pairs",
    "triton_roots",
    "triton_words",
]


def naive_normal(seed: int, stream: int, step: int, sample: int, component: int, dim: int) -> float:
    """One normal by the definition, in Python integers and double precision."""
    sample_low, sample_high = sample & 0xFFFFFFFF, sample >> 32
    if dim >= 4:
        counter, lane = (component // 4, step, sample_low, sample_high), component % 4
    else:
        counter, lane = (component, step // 4, sample_low, sample_high), step % 4
    words = philox_int(counter, derive_key(seed, stream))
    w_radius, w_angle = words[lane // 2 * 2], words[lane // 2 * 2 + 1]
    radius = math.sqrt(-2.0 * math.log((w_radius + 0.5) / 2**32))
    angle = 2.0 * math.pi * w_angle / 2**32
    return radius * (math.sin(angle) if lane % 2 else math.cos(angle))


def extreme_words(near: int = 64) -> torch.Tensor:
    """Words at which a polynomial, a threshold or a quadrant begins or ends (int64)."""
    borders = {0, 1 << 32, 3037000500, 0xFFFFFF80, *(1 << i for i in range(32))}
    borders |= {(1 << 32) - (1 << i) for i in range(32)}
    borders |= {i << 29 for i in range(9)}
    # Where float32(w + 1/2) passes m = sqrt(1/2) 2^e, and the exponent changes.
    borders |= {int(math.sqrt(0.5) * 2.0**i) for i in range(33)}
    words = {b + d for b in borders for d in range(-near, near + 1)}
    return torch.tensor(sorted(w for w in words if 0 <= w < 1 << 32))


@numba.njit
def _numba_words(counters: Any, keys: Any, out: Any) -> None:
    for i in range(counters.shape[0]):
        c, k = counters[i], keys[i]
        w = philox(c[0], c[1], c[2], c[3], k[0], k[1])
        for j in range(4):
            out[i, j] = w[j]


def numba_words(counters: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """(n, 4) words of (n, 4) counters and (n, 2) keys, all int64."""
    out = np.empty(counters.shape, np.int64)
    _numba_words(counters.numpy().astype(np.uint32), keys.numpy().astype(np.uint32), out)
    return torch.from_numpy(out)


def torch_words(counters: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """The same by the torch reference, whose second counter and keys are Python integers."""
    rows = []
    for c, k in zip(counters, keys.tolist(), strict=True):
        rows.append(torch.stack(philox_torch(c[0], int(c[1]), c[2], c[3], k[0], k[1])))
    return torch.stack(rows)


def triton_words(
    counters: torch.Tensor, keys: torch.Tensor, device: torch.device, block: int = 128
) -> torch.Tensor:
    """The same by Triton."""
    from tests.kernels.probes_triton import words_kernel

    out = torch.empty(counters.shape, dtype=torch.int64, device=device)
    n = counters.shape[0]
    grid = (-(-n // block),)
    words_kernel[grid](counters.to(device), keys.to(device), out, n, BLOCK=block)
    return out.cpu()


@numba.njit
def _numba_pairs32(w0: Any, w1: Any, z: Any) -> None:
    for i in range(w0.shape[0]):
        r = np.sqrt(radius_squared_f32(w0[i]))
        x, y = cos_sin_f32(w1[i])
        z[0, i], z[1, i] = r * x, r * y


@numba.njit
def _numba_pairs64(w0: Any, w1: Any, z: Any) -> None:
    for i in range(w0.shape[0]):
        r = np.sqrt(radius_squared_f64(w0[i]))
        x, y = cos_sin_f64(w1[i])
        z[0, i], z[1, i] = r * x, r * y


def numba_pairs(w0: torch.Tensor, w1: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(2, n) normals of n pairs of words (int64)."""
    z = torch.empty((2, w0.numel()), dtype=dtype)
    fill = _numba_pairs64 if dtype == torch.float64 else _numba_pairs32
    fill(w0.numpy().astype(np.uint32), w1.numpy().astype(np.uint32), z.numpy())
    return z


def torch_pairs(w0: torch.Tensor, w1: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The same by the torch reference."""
    r = torch.sqrt(radius_squared_torch(w0, dtype))
    if dtype == torch.float32:
        r = r.float().double()
    c, s = cos_sin_torch(w1, dtype)
    return torch.stack([r * c, r * s]).to(dtype)


def triton_pairs(
    w0: torch.Tensor,
    w1: torch.Tensor,
    dtype: torch.dtype,
    device: torch.device,
    block: int = 4096,
) -> torch.Tensor:
    """The same by Triton."""
    from tests.kernels.probes_triton import pairs_kernel

    z = torch.empty((2, w0.numel()), dtype=dtype, device=device)
    n = w0.numel()
    grid = (-(-n // block),)
    pairs_kernel[grid](
        w0.to(device),
        w1.to(device),
        z,
        n,
        F64=dtype == torch.float64,
        BLOCK=block,
        enable_fp_fusion=False,
    )
    return z.cpu()


def triton_roots(x: torch.Tensor, device: torch.device, block: int = 4096) -> torch.Tensor:
    """The noise's square root of float32 numbers, whole blocks of them, by Triton."""
    from tests.kernels.probes_triton import root_kernel

    x = x.to(device)
    out = torch.empty_like(x)
    root_kernel[(x.numel() // block,)](x, out, STOCK=False, BLOCK=block, enable_fp_fusion=False)
    return out.cpu()
