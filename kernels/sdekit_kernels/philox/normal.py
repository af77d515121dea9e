"""Standard normals, each a pure function of (seed, stream, sample, step, component)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from sdekit_kernels.checks import check_int_range
from sdekit_kernels.dispatch import compute_dtype, resolve_backend
from sdekit_kernels.geometry import CPU_BLOCK, GPU_BLOCK, MAX_CALLS, MAX_DIM, cpu_block, gpu_tiling
from sdekit_kernels.philox.reference import derive_key, normal_torch
from sdekit_kernels.tracing import around_compiler, outside_transforms

__all__ = ["Draw", "check_draw", "normal"]


class Draw:
    """Whose noise: a checked (seed, stream, step, first_sample) and its Philox key."""

    __slots__ = ("first_sample", "key", "seed", "step", "stream")

    def __init__(self, seed: int, stream: int, step: int, first_sample: int) -> None:
        self.seed, self.stream, self.step, self.first_sample = seed, stream, step, first_sample
        self.key = derive_key(seed, stream)


def check_draw(seed: int, stream: int, step: int, first_sample: int, n_samples: int) -> Draw:
    """Check the numbers that name a piece of noise.

    Raises TypeError for what is no integer and ValueError outside the ranges: seed 64 bits (a
    negative one is read as its two's complement), stream and step 32 bits, samples below 2^63.
    """
    seed = check_int_range("seed", seed, -(1 << 63), 1 << 64) % (1 << 64)
    stream = check_int_range("stream", stream, 0, 1 << 32)
    step = check_int_range("step", step, 0, 1 << 32)
    first_sample = check_int_range("first_sample", first_sample, 0, (1 << 63) - n_samples + 1)
    return Draw(seed, stream, step, first_sample)


@around_compiler
def normal(
    shape: Sequence[int],
    *,
    seed: int = 0,
    stream: int = 0,
    step: int = 0,
    first_sample: int = 0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    backend: str = "auto",
) -> torch.Tensor:
    """Independent standard normals of shape (n_samples, *event).

    z[i, d] depends on (seed, stream, first_sample + i, step, d) alone: the same bits on every
    device and backend in float32, however the batch is split. The words are Philox4x32-10 (Salmon
    et al. 2011), the transform is Box & Muller (1958); components of an event are numbered in
    row-major order. float64 evaluates the same words in float64 (backends agree to a few units in
    the last place); bfloat16 and float16 are the float32 value, rounded once.

    Args:
        shape: (n_samples, *event); an event of no dimensions has one component.
        seed: 64-bit. stream: 32-bit, one for each consumer of randomness.
        step: 32-bit, the time step. first_sample: number of the first row, below 2^63.
        backend: "auto", "numba", "triton" or "torch"; see ``sdekit_kernels.dispatch``.

    Raises:
        TypeError: a dtype that is none of the four, or a seed, step... that is no integer.
        ValueError: a number out of its range, an empty shape, an unknown backend.
        RuntimeError: a backend asked for by name that cannot run on this device.
    """
    if not isinstance(shape, Sequence) or isinstance(shape, str):
        raise TypeError(
            f"shape must be (n_samples, *event), got {shape!r}: write (n,) for n numbers"
        )
    sizes = [check_int_range("an entry of shape", n, 0, 1 << 63) for n in shape]
    if not sizes:
        raise ValueError("shape must be (n_samples, *event), got (): write (n,) for n numbers")
    draw = check_draw(seed, stream, step, first_sample, sizes[0])
    compute_dtype(dtype)
    device = torch.device(device)
    choice = resolve_backend(backend, device)
    n = sizes[0]
    dim = check_int_range("the number of components of a sample", math.prod(sizes[1:]), 0, MAX_DIM)
    if choice.backend == "torch":
        z = normal_torch(
            n,
            dim,
            seed=draw.seed,
            stream=draw.stream,
            step=draw.step,
            first_sample=draw.first_sample,
            dtype=dtype,
            device=device,
        )
        return z.reshape(sizes)
    with outside_transforms():
        out = torch.empty((n, dim), dtype=dtype, device=device)
        if out.numel() > 0:
            fill = _fill_numba if choice.backend == "numba" else _fill_triton
            fill(out, draw)
        return out.view(sizes)


def _fill_numba(out: torch.Tensor, draw: Draw, block: int = CPU_BLOCK) -> None:
    """Fill a contiguous (n_samples, dim) CPU tensor."""
    import numpy as np

    from sdekit_kernels._cpu.arrays import flat_array, scalar_like
    from sdekit_kernels._cpu.parallel import run_blocks
    from sdekit_kernels.philox._block import ready
    from sdekit_kernels.philox._numba_normal import launch_normals

    n, dim = out.shape
    shape = cpu_block(dim, block)
    run_blocks(
        launch_normals,
        shape.count(n, dim),
        out.numel(),
        flat_array(out),
        out.dtype == torch.bfloat16,
        ready(scalar_like(out.dtype)),
        n,
        dim,
        shape.rows,
        shape.cols,
        np.uint64(draw.first_sample),
        np.uint32(draw.step),
        np.uint32(draw.key[0]),
        np.uint32(draw.key[1]),
    )


def _fill_triton(out: torch.Tensor, draw: Draw, block: int = GPU_BLOCK) -> None:
    """Fill a contiguous (n_samples, dim) GPU tensor."""
    from sdekit_kernels._gpu.launch import on_device
    from sdekit_kernels.philox._triton_normal import fill_normals

    n, dim = out.shape
    tiling = gpu_tiling(dim)
    rows = max(1, (MAX_CALLS - block) // tiling.per_row)
    with on_device(out.device):
        for r0 in range(0, n, rows):
            part = out[r0 : r0 + rows]
            first = draw.first_sample + r0
            calls = part.shape[0] * tiling.per_row
            fill_normals[(-(-calls // block),)](
                part,
                calls,
                dim,
                tiling.per_row,
                tiling.magic,
                tiling.shift,
                first & 0xFFFFFFFF,
                first >> 32,
                draw.step,
                draw.key[0],
                draw.key[1],
                LANES=tiling.lanes,
                ALIGNED=tiling.aligned,
                BLOCK=block,
                F64=out.dtype == torch.float64,
                enable_fp_fusion=False,
            )
