"""Coefficients of a step: numbers, 0-d tensors, one entry a sample, or one a component.

Kernels find the entry for (sample b, component d) at ``flat[b stride_b + d stride_d]``, so that one
kernel serves every kind. A tensor on the GPU is never read by the host.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from sdekit_kernels.checks import check_same_device

__all__ = ["Coefficient", "Number", "as_coefficient", "coefficient_view"]

Number = float | int | torch.Tensor


class Coefficient(NamedTuple):
    """One coefficient as a kernel takes it.

    kind 0: ``number`` holds it; kind 1: one entry in ``flat``; kind 2: one a sample;
    kind 3: one a component; kind 4: one an element.
    """

    kind: int
    number: float
    flat: torch.Tensor | None
    stride_b: int
    stride_d: int

    @property
    def noisy(self) -> bool:
        """Whether noise times this may be anything but zero, as far as the host knows."""
        return self.flat is not None or self.number != 0.0


def coefficient_view(what: str, given: Number, x: torch.Tensor) -> torch.Tensor | float:
    """The coefficient as a float, or as a tensor that broadcasts against x with the batch first.

    A tensor of shape (B,) is one entry a sample, whatever the shape of x.

    Raises:
        TypeError: neither a number nor a real floating-point tensor.
        ValueError: a shape that does not broadcast, or another device than x's.
    """
    if not isinstance(given, torch.Tensor):
        try:
            return float(given)
        except (TypeError, ValueError):
            raise TypeError(f"{what} must be a number or a tensor, got {given!r}") from None
    if given.ndim == 0 and given.device.type == "cpu" and not given.requires_grad:
        return float(given)  # torch lets 0-d CPU tensors meet any device; no synchronization
    if not given.is_floating_point():
        raise TypeError(f"{what} must be a floating-point tensor, got {given.dtype}")
    if given.ndim == 0:
        if given.device.type != "cpu":
            check_same_device(what, given, "x", x)
        return given
    check_same_device(what, given, "x", x)
    if given.shape == x.shape[:1]:
        return given.reshape(-1, *(1,) * (x.ndim - 1))
    if given.ndim == x.ndim and all(n in (1, m) for n, m in zip(given.shape, x.shape, strict=True)):
        return given
    batch, event = x.shape[0], tuple(x.shape[1:])
    raise ValueError(
        f"{what} has shape {tuple(given.shape)}, but x has shape {tuple(x.shape)}: give a number, "
        f"a 0-d tensor, one entry a sample ({batch},), one a component {(1, *event)}, "
        f"or one an element {tuple(x.shape)}"
    )


def as_coefficient(
    view: torch.Tensor | float, x: torch.Tensor, compute: torch.dtype
) -> Coefficient:
    """What ``coefficient_view`` gave, laid out for a kernel on x of shape (B, D...)."""
    if not isinstance(view, torch.Tensor):
        return Coefficient(0, view, None, 0, 0)
    value = view.detach().to(device=x.device, dtype=compute)
    if value.numel() == 1:
        return Coefficient(1, 0.0, value.reshape(1), 0, 0)
    event = x.shape[1:]
    if math.prod(value.shape[1:]) == 1:
        return Coefficient(2, 0.0, value.reshape(-1).contiguous(), 1, 0)
    flat = value.expand(value.shape[0], *event).reshape(-1).contiguous()
    if value.shape[0] == 1:
        return Coefficient(3, 0.0, flat, 0, 1)
    return Coefficient(4, 0.0, flat, math.prod(event), 1)
