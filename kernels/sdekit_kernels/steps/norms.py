"""Squared norms of the score and of the very noise that a step will use, one pair a sample.

The noise is made in registers and never stored. Where a sample is made of whole Philox calls its
norm needs no sine: r^2 cos^2 + r^2 sin^2 = r^2 = -2 ln u, and one logarithm for four components:
ln u + ln v = ln(u v).
"""

from __future__ import annotations

import torch

from sdekit_kernels.dispatch import compute_dtype
from sdekit_kernels.philox.normal import Draw
from sdekit_kernels.steps.affine import noise_like
from sdekit_kernels.steps.coefficients import Coefficient
from sdekit_kernels.tracing import transformed

__all__ = ["snr_step_size", "squared_norms"]

_CALLS = 1024
"""Philox calls of a tile of the GPU kernel: enough to hide what the two reductions cost."""


def squared_norms(
    s: torch.Tensor, dtype: torch.dtype, draw: Draw, backend: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """(|s|^2, |z|^2), each of shape (B,), for a state of type ``dtype``.

    float64 for float64 states and on the CPU, else float32. ``backend`` is a resolved one. A
    sample's sums depend on its own D numbers alone.
    """
    n = s.shape[0]
    if s.numel() == 0:
        zero = torch.zeros(n, dtype=torch.float64, device=s.device)
        return zero, zero.clone()
    if backend == "torch" or transformed():
        z = noise_like(s.to(dtype), draw, backend).reshape(n, -1).double()
        return s.detach().reshape(n, -1).double().square().sum(1), z.square().sum(1)
    total = _partial_sums(s, dtype, draw, backend).sum(2)
    return total[0], total[1]


def snr_step_size(
    s: torch.Tensor, dtype: torch.dtype, scale: Coefficient, draw: Draw, backend: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """eps = scale |z|^2 / |s|^2 (0 where |s| = 0) and sqrt(2 eps), shape (B,), in two kernels.

    ``scale``: a number, one entry, or one a sample. ``backend``: "numba" or "triton".
    """
    partial = _partial_sums(s, dtype, draw, backend)
    _, n, chunks = partial.shape
    eps = torch.empty(n, dtype=compute_dtype(dtype), device=s.device)
    root = torch.empty_like(eps)
    if backend == "numba":
        from sdekit_kernels._cpu.arrays import filled
        from sdekit_kernels._cpu.parallel import run_blocks
        from sdekit_kernels.steps._numba.norms import launch_step_size

        flat = filled(scale.number, dtype) if scale.flat is None else scale.flat.numpy()
        run_blocks(
            launch_step_size,
            n,
            n,
            partial.numpy(),
            flat,
            scale.stride_b,
            eps.numpy(),
            root.numpy(),
        )
        return eps, root
    from sdekit_kernels._gpu.launch import on_device
    from sdekit_kernels.steps._triton.norms import step_size_kernel as kernel

    width = min(64, 1 << (chunks - 1).bit_length())
    rows = 256 // width
    with on_device(s.device):
        kernel[(-(-n // rows),)](
            partial,
            partial if scale.flat is None else scale.flat,
            scale.number,
            eps,
            root,
            n,
            chunks,
            KIND=scale.kind,
            ROWS=rows,
            WIDTH=width,
            F64=eps.dtype == torch.float64,
            enable_fp_fusion=False,
        )
    return eps, root


def _partial_sums(s: torch.Tensor, dtype: torch.dtype, draw: Draw, backend: str) -> torch.Tensor:
    """Sums of s^2 and z^2 over pieces of a sample, shape (2, B, pieces)."""
    if backend == "numba":
        from sdekit_kernels.steps._numba.run import run_norms as run
    else:
        run = _run_triton
    return run(s.detach().contiguous(), compute_dtype(dtype), draw)


def _run_triton(s: torch.Tensor, compute: torch.dtype, draw: Draw) -> torch.Tensor:
    from sdekit_kernels._gpu.launch import on_device
    from sdekit_kernels.steps._triton.norms import norms_kernel

    n, dim = s.shape[0], s.numel() // s.shape[0]
    lanes = 4 if dim >= 4 else 1
    per_row = -(-dim // lanes)
    width = min(_CALLS, 1 << (per_row - 1).bit_length())
    rows = _CALLS // width
    chunks = -(-per_row // width)
    partial = torch.empty((2, n, chunks), dtype=compute, device=s.device)
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
            F64=compute == torch.float64,
            enable_fp_fusion=False,
        )
    return partial
