"""Comparing floats by their bits."""

from __future__ import annotations

import torch

__all__ = ["same_bits", "ulp_distance"]

_INTEGER = {8: torch.int64, 4: torch.int32, 2: torch.int16}


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Same shape, type and bits: NaN equals itself, -0 differs from 0."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    kind = _INTEGER[a.element_size()]
    return torch.equal(a.cpu().contiguous().view(kind), b.cpu().contiguous().view(kind))


def _ordered(x: torch.Tensor) -> torch.Tensor:
    """Integers in which neighbouring floats are neighbours; both zeros are 0."""
    bits = x.cpu().contiguous().view(_INTEGER[x.element_size()]).to(torch.int64)
    sign = torch.iinfo(_INTEGER[x.element_size()]).min
    return torch.where(bits < 0, sign - bits, bits)


def ulp_distance(a: torch.Tensor, b: torch.Tensor) -> int:
    """How many floats lie between a and b where they are furthest apart (0: equal)."""
    assert a.shape == b.shape and a.dtype == b.dtype
    if a.numel() == 0:
        return 0
    return int((_ordered(a) - _ordered(b)).abs().max())
