"""How an (n_samples, dim) array is cut into blocks, on the CPU and on the GPU.

None of these numbers changes a bit of any result.
"""

from __future__ import annotations

from typing import NamedTuple

CPU_BLOCK = 1024
"""Elements a CPU block: scratch arrays of this length stay in a 32 KiB first-level cache."""
GPU_BLOCK = 256
"""Philox calls a GPU program."""
_LANES = 16
"""Rows of a block by multiples of which loops over it leave nothing over for scalar code."""
MAX_CALLS = 1 << 31
"""Calls in one GPU launch; larger arrays take several."""


MAX_DIM = 1 << 31
"""Components of one sample are fewer: the GPU counts them in 32 bits with a sign."""


class CpuBlock(NamedTuple):
    """A block is ``rows`` whole samples (cols = dim), or ``cols`` components of one sample."""

    rows: int
    cols: int

    def count(self, n_samples: int, dim: int) -> int:
        """Blocks of an (n_samples, dim) array."""
        return -(-n_samples // self.rows) * -(-dim // self.cols)


def cpu_block(dim: int, elements: int = CPU_BLOCK) -> CpuBlock:
    """The block of at most about ``elements`` elements; cols is dim or a multiple of 4."""
    padded = 4 * ((dim + 3) // 4) if dim >= 4 else max(dim, 1)
    if padded > elements:
        return CpuBlock(1, max(4, elements // 4 * 4))
    rows = max(1, elements // padded)
    return CpuBlock(rows - rows % _LANES if rows > _LANES else rows, max(dim, 1))


class GpuTiling(NamedTuple):
    """What the GPU kernels need to find their tile; see ``philox/_triton_tile.py``."""

    per_row: int
    lanes: int
    aligned: bool
    magic: int
    shift: int


def gpu_tiling(dim: int) -> GpuTiling:
    """Philox calls a sample, elements a call, whether rows are whole calls, and the division."""
    lanes = 4 if dim >= 4 else 1
    per_row = -(-dim // lanes)
    return GpuTiling(per_row, lanes, dim % lanes == 0, *magic_division(per_row))


def magic_division(d: int) -> tuple[int, int]:
    """(m, l) with n // d = (((n m) >> 32) + n) >> l for all 0 <= n < 2^31.

    Granlund & Montgomery 1994, "Division by invariant integers using multiplication".
    """
    shift = (d - 1).bit_length()
    return ((1 << 32) * ((1 << shift) - d)) // d + 1, shift
