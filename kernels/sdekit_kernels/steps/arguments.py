"""The checks that every step operation makes at its door."""

from __future__ import annotations

import torch

from sdekit_kernels.checks import check_float_tensor, check_same_device, check_same_shape
from sdekit_kernels.dispatch import compute_dtype

__all__ = ["check_output", "check_state"]


def check_state(x: torch.Tensor, name: str, force: torch.Tensor) -> None:
    """x and what moves it: floating point, same shape and device, a batch dimension.

    The two may differ in floating type (a bfloat16 network moves a float32 state).

    Raises TypeError or ValueError that names the argument.
    """
    check_float_tensor("x", x)
    check_float_tensor(name, force)
    compute_dtype(x.dtype)
    compute_dtype(force.dtype)
    if x.ndim == 0:
        raise ValueError("x must have shape (B, D...), got a 0-d tensor: write x[None]")
    check_same_shape(name, force, "x", x)
    check_same_device(name, force, "x", x)


def check_output(
    name: str, given: torch.Tensor | None, x: torch.Tensor, other: torch.Tensor | None = None
) -> None:
    """An output must look like x, and be another tensor than ``other``; TypeError or ValueError."""
    if given is None:
        return
    if given is other:
        raise ValueError(f"out and {name} are the same tensor, which cannot hold both results")
    check_float_tensor(name, given)
    check_same_shape(name, given, "x", x)
    check_same_device(name, given, "x", x)
    if given.dtype != x.dtype:
        raise TypeError(f"{name} has dtype {given.dtype}, but x has {x.dtype}: they must agree")
