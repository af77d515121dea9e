"""Squared norms of the score and of the very noise that a step will use, one pair a sample.

The noise is made in registers and never stored. Where a sample is made of whole Philox calls its
norm needs no sine: r^2 cos^2 + r^2 sin^2 = r^2 = -2 ln u, and one logarithm for four components:
ln u + ln v = ln(u v).
"""

from __future__ import annotations

import torch

from sdekit_kernels.dispatch import set_numba_threads
from sdekit_kernels.geometry import cpu_block
from sdekit_kernels.philox.normal import Draw
from sdekit_kernels.steps.affine import noise_like

__all__ = ["squared_norms"]

_CALLS = 1024
"""Philox calls of a tile of the GPU kernel: enough to hide what the two reductions cost."""


def squared_norms(s: torch.Tensor, draw: Draw, backend: str) -> tuple[torch.Tensor, torch.Tensor]:
    """(|s|^2, |z|^2), each of shape (B,): float64 for float64 and on the CPU, else float32.

    ``backend`` is a resolved one. A sample's sums depend on its own D numbers alone.
    """
    n = s.shape[0]
    if s.numel() == 0:
        zero = torch.zeros(n, dtype=torch.float64, device=s.device)
        return zero, zero.clone()
    if backend == "torch":
        flat = s.detach().reshape(n, -1).double()
        return flat.square().sum(1), noise_like(s, draw, "torch").reshape(
            n, -1
        ).double().square().sum(1)
    source = s.detach().contiguous()
    run = _run_numba if backend == "numba" else _run_triton
    return run(source, draw)


def _run_numba(s: torch.Tensor, draw: Draw) -> tuple[torch.Tensor, torch.Tensor]:
    import numpy as np

    from sdekit_kernels._cpu.arrays import flat_array, scalar_like
    from sdekit_kernels.steps._numba.norms import norms_kernel

    n, dim = s.shape[0], s.numel() // s.shape[0]
    block = cpu_block(dim)
    chunks = -(-dim // block.cols)
    partial = torch.empty((2, n, chunks), dtype=torch.float64)
    set_numba_threads(s.numel())
    norms_kernel(
        flat_array(s),
        s.dtype == torch.bfloat16,
        partial.numpy(),
        scalar_like(s.dtype),
        n,
        dim,
        block.rows,
        block.cols,
        np.uint64(draw.first_sample),
        np.uint32(draw.step),
        np.uint32(draw.key[0]),
        np.uint32(draw.key[1]),
    )
    total = partial[:, :, 0] if chunks == 1 else partial.sum(2)
    return total[0], total[1]


def _run_triton(s: torch.Tensor, draw: Draw) -> tuple[torch.Tensor, torch.Tensor]:
    from sdekit_kernels._gpu.launch import on_device
    from sdekit_kernels.steps._triton.norms import norms_kernel

    n, dim = s.shape[0], s.numel() // s.shape[0]
    lanes = 4 if dim >= 4 else 1
    per_row = -(-dim // lanes)
    width = min(_CALLS, 1 << (per_row - 1).bit_length())
    rows = _CALLS // width
    chunks = -(-per_row // width)
    dtype = torch.float64 if s.dtype == torch.float64 else torch.float32
    partial = torch.empty((2, n, chunks), dtype=dtype, device=s.device)
    with on_device(s.device):
        norms_kernel[(-(-n // rows), chunks)](
            s,
            partial,
            n,
            dim,
            per_row,
            chunks,
            draw.first_sample & 0xFFFFFFFF,
            draw.first_sample >> 32,
            draw.step,
            draw.key[0],
            draw.key[1],
            LANES=lanes,
            WHOLE=dim % 4 == 0,
            ROWS=rows,
            WIDTH=width,
            F64=dtype == torch.float64,
            enable_fp_fusion=False,
        )
    total = partial[:, :, 0] if chunks == 1 else partial.sum(2)
    return total[0], total[1]
