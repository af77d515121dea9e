"""What a trajectory kernel reduces where it need not keep states.

Of a group of K state components it makes, over the paths on which all of them are finite, the
entries of a Gram matrix and counts in equal bins,

    G_ij = sum over paths of w_i w_j,   w = (1, x_1 - c_1, ..., x_K - c_K),
    place = clamp(floor((x_j - low_j) scale_j), -1, bins) + 1,

in float64: G_00 is the number of those paths, G_0j and G_jj give mean and variance, and nothing
cancels if the centre c lies within a few standard deviations of the mean (Chan, Golub & LeVeque
1983). Without products between components only G_00, G_0j and G_jj are made.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sdekit_kernels.fuse.program import Program

__all__ = ["Group", "Statistics", "obstacle", "parts_of", "reduce_torch", "sum_halves"]

_PARTS = 256
"""Partial sums of a launch on the CPU, at most: no machine has more cores to share them."""
_PARTIAL_NUMBERS = 1 << 21
"""Numbers of all partial sums, above which there are fewer of them, down to 16."""


_MAX_SUMS = 256
"""Sums of one kernel on the GPU: each is some 20 instructions that stand in its loop."""


class Group(NamedTuple):
    """Components first, ..., first + size - 1 of the state. products: between all of them."""

    first: int
    size: int
    products: bool

    @property
    def entries(self) -> list[tuple[int, int]]:
        """(i, j) of the entries of G that are made, in their order."""
        k = self.size + 1
        return [(i, j) for i in range(k) for j in range(i, k) if self.products or i in (0, j)]


class Statistics(NamedTuple):
    """Where the sums and counts of a launch go, for R results of groups of W components at most.

    groups: the first is reduced after each step with a slot, into the result that the slot names;
    each of the others, if ``last``, after the last step, into one of the last results. at: (3, R,
    W) float64, centre, lower end and bins per unit. moments: (parts, R, M) float64, ``entries`` of
    the group, to be summed over the parts; the launch adds to it. counts: (shards, R, W, bins + 3)
    int64, to be summed over the shards; the launch adds to it. The last bin is for what is left
    out; bins = 0 counts nothing.
    """

    groups: tuple[Group, ...]
    bins: int
    at: Tensor
    moments: Tensor
    counts: Tensor
    last: bool

    @staticmethod
    def of(
        groups: tuple[Group, ...], bins: int, results: int, shards: int, device: torch.device
    ) -> Statistics:
        """Nothing counted yet; ``launch_into`` gives it the rest."""
        wide = max(g.size for g in groups)
        shape = (shards, results, wide, bins + 3) if bins else (1, 1, 1, 1)
        counts = torch.zeros(shape, dtype=torch.int64, device=device)
        at = torch.zeros((3, results, wide), dtype=torch.float64, device=device)
        return Statistics(groups, bins, at, at.new_empty((0, 0, 0)), counts, last=False)

    def launch_into(self, parts: int) -> Statistics:
        """The same with sums of zero, in so many parts."""
        entries = max(len(g.entries) for g in self.groups)
        return self._replace(moments=self.at.new_zeros((parts, self.at.shape[1], entries)))


def obstacle(groups: tuple[Group, ...], backend: str) -> str:
    """What keeps kernels from reducing these groups, or nothing."""
    sums = sum(len(g.entries) for g in groups)
    if backend == "triton" and sums > _MAX_SUMS:
        return f"{sums} sums are more than the {_MAX_SUMS} that a GPU kernel makes"
    return ""


def parts_of(program: Program, n: int, backend: str, device: torch.device, numbers: int) -> int:
    """Partial sums that a launch over n paths makes, each of so many numbers.

    Their number depends on neither threads nor what else runs, so that the sums have fixed bits.
    """
    if backend == "numba":
        from sdekit_kernels.fuse._numba.printer import block_rows

        few = max(16, min(_PARTS, _PARTIAL_NUMBERS // numbers))
        return min(few, -(-n // block_rows(program)))
    from sdekit_kernels.fuse._triton.build import gpu_of, launch_shape

    return -(-n // launch_shape(program, n, gpu_of(device), sums=True).block)


def sum_halves(x: Tensor) -> Tensor:
    """The sum over dimension 1, by adding the upper half to the lower one again and again.

    Elementwise sums have the same bits on any number of threads, and rounding grows with log n.
    """
    while x.shape[1] > 1:
        half = (x.shape[1] + 1) // 2
        lower = x[:, :half].clone()
        lower[:, : x.shape[1] - half] += x[:, half:]
        x = lower
    return x.sum(1)


def reduce_torch(x: Tensor, at: Tensor, products: bool, bins: int) -> tuple[Tensor, Tensor]:
    """The readable reference of the kernels: one group of x (R, n, K), at (3, R, K).

    Returns the entries (R, M) and the counts (R, K, bins + 3).
    """
    x = x.double()
    r, _, k = x.shape
    finite = torch.isfinite(x).all(-1, keepdim=True)
    away = torch.where(finite, x - at[0, :, None], 0.0)
    number, square = sum_halves(finite.double()), sum_halves(away.square())
    first = [number, sum_halves(away)]
    if products:
        upper = torch.ones(k, k, dtype=torch.bool, device=x.device).triu()
        square = _gram(away, square)[:, upper]
    entries = torch.cat([*first, square], 1)
    if not bins:
        return entries, torch.zeros((r, k, 0), dtype=torch.int64, device=x.device)
    width = bins + 3  # the last is for what is left out
    place = ((x - at[1, :, None]) * at[2, :, None]).floor_().clamp_(-1, bins).add_(1.0)
    place = torch.where(finite & ~place.isnan(), place, width - 1)
    offset = torch.arange(r * k, device=x.device).view(r, 1, k) * width
    flat = (place.long() + offset).reshape(-1)
    counts = torch.bincount(flat, minlength=r * k * width)
    return entries, counts.view(r, k, width)


def _gram(d: Tensor, square: Tensor) -> Tensor:
    """Sums of d_i d_j (R, K, K) for d (R, n, K), in pieces of 1024 paths.

    square: (R, K), those of d_i^2, of which the bits are known not to depend on threads.
    """
    pieces = [sum_halves((p.mT @ p)[:, None]) for p in d.split(1024, 1)]
    whole = sum_halves(torch.stack(pieces, 1))
    return whole.diagonal_scatter(square, dim1=-2, dim2=-1)
