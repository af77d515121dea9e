"""The steps' CPU kernels as functions of tensors: what each kernel takes, in its order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from sdekit_kernels._cpu.arrays import filled, flat_array, scalar_like
from sdekit_kernels._cpu.parallel import run_blocks
from sdekit_kernels.geometry import cpu_block
from sdekit_kernels.philox._block import ready
from sdekit_kernels.philox.normal import Draw
from sdekit_kernels.steps._numba.affine import launch_affine
from sdekit_kernels.steps._numba.langevin import launch_langevin
from sdekit_kernels.steps._numba.norms import launch_norms
from sdekit_kernels.steps.coefficients import Coefficient

__all__ = ["run_affine", "run_langevin", "run_norms"]


def _state(x: torch.Tensor, s: torch.Tensor, out: torch.Tensor, mean: torch.Tensor | None) -> Any:
    target = flat_array(out)
    return (
        flat_array(x),
        x.dtype == torch.bfloat16,
        flat_array(s),
        s.dtype == torch.bfloat16,
        target,
        target if mean is None else flat_array(mean),
        mean is not None,
    )


def _entries(c: Coefficient, dtype: torch.dtype) -> Any:
    return filled(c.number, dtype) if c.flat is None else c.flat.numpy()


def _noise(draw: Draw) -> Any:
    key = draw.key
    return np.uint64(draw.first_sample), np.uint32(draw.step), np.uint32(key[0]), np.uint32(key[1])


def run_affine(
    x: torch.Tensor,
    s: torch.Tensor,
    *,
    coefficients: Sequence[Coefficient],
    root: bool,
    draw: Draw,
    out: torch.Tensor,
    mean: torch.Tensor | None,
) -> None:
    """``affine_kernel`` on contiguous tensors of at least one sample."""
    elements = x.numel()
    n, dim = x.shape[0], elements // x.shape[0]
    block = cpu_block(dim)
    a, b, c = coefficients
    run_blocks(
        launch_affine,
        block.count(n, dim),
        elements,
        *_state(x, s, out, mean),
        _entries(a, x.dtype),
        a.stride_b,
        a.stride_d,
        _entries(b, x.dtype),
        b.stride_b,
        b.stride_d,
        _entries(c, x.dtype),
        c.stride_b,
        c.stride_d,
        root,
        c.noisy,
        ready(scalar_like(x.dtype)),
        n,
        dim,
        block.rows,
        block.cols,
        *_noise(draw),
    )


def run_langevin(
    x: torch.Tensor,
    s: torch.Tensor,
    *,
    scale: Coefficient,
    draw: Draw,
    out: torch.Tensor,
    mean: torch.Tensor | None,
) -> None:
    """``langevin_kernel`` on contiguous tensors whose samples each fit into a block."""
    elements = x.numel()
    n, dim = x.shape[0], elements // x.shape[0]
    block = cpu_block(dim)
    run_blocks(
        launch_langevin,
        block.count(n, dim),
        elements,
        *_state(x, s, out, mean),
        _entries(scale, x.dtype),
        scale.stride_b,
        ready(scalar_like(x.dtype)),
        n,
        dim,
        block.rows,
        *_noise(draw),
    )


def run_norms(s: torch.Tensor, compute: torch.dtype, draw: Draw) -> torch.Tensor:
    """Sums of s^2 and z^2 over pieces of a sample, shape (2, B, pieces), float64."""
    n, dim = s.shape[0], s.numel() // s.shape[0]
    block = cpu_block(dim)
    partial = torch.empty((2, n, -(-dim // block.cols)), dtype=torch.float64)
    run_blocks(
        launch_norms,
        block.count(n, dim),
        s.numel(),
        flat_array(s),
        s.dtype == torch.bfloat16,
        partial.numpy(),
        ready(scalar_like(compute)),
        n,
        dim,
        block.rows,
        block.cols,
        *_noise(draw),
    )
    return partial
