r"""Fields whose divergence is known, at which the estimators are measured.

F(x) = W diag(l) tanh(V x) has the trace \sum_k l_k (1 - tanh(V x)_k^2) (V W)_kk. ``steep``: W an
orthogonal matrix, V its transpose and l_k = D k^(-3/2) / 3, so that a few directions hold most of
the trace, as around the means of a mixture: Hutch++ and XTrace find them. ``flat``: independent
normal W and V and l = 1, a Jacobian without a subspace that matters: sketches find nothing there,
and all estimators are worth about the same number of plain probes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import torch
from torch import Tensor

__all__ = ["BATCH", "FIELDS", "FieldCase", "flat", "steep"]

BATCH: Final = 8


class FieldCase(NamedTuple):
    """A field x -> F(x), points (B, D) float64, and div F there, (B,)."""

    field: Callable[[Tensor], Tensor]
    x: Tensor
    truth: Tensor


def steep(dim: int) -> FieldCase:
    """A symmetric Jacobian, its eigenvalues falling with the power 3/2."""
    normals = _normals()
    w = torch.linalg.qr(normals(dim, dim))[0]
    sizes = dim * torch.arange(1, dim + 1, dtype=torch.float64) ** -1.5 / 3.0
    return _case(w * sizes, w.mT, 0.5 * normals(BATCH, dim))


def flat(dim: int) -> FieldCase:
    """Independent factors."""
    normals = _normals()
    w, v = normals(dim, dim) / dim**0.5, normals(dim, dim) / dim**0.5
    return _case(w, v, normals(BATCH, dim))


def _case(w: Tensor, v: Tensor, x: Tensor) -> FieldCase:
    slope = 1.0 - (x @ v.mT).tanh().square()
    return FieldCase(lambda y: (y @ v.mT).tanh() @ w.mT, x, slope @ (v * w.mT).sum(1))


def _normals() -> Callable[..., Tensor]:
    generator = torch.Generator().manual_seed(0)
    return lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)


FIELDS: Final = {"steep spectrum": steep, "flat spectrum": flat}
