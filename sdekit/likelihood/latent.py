"""Where a flow's draws start: the prior's own draws, or a latent that somebody gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from sdekit_kernels.checks import check_float_tensor, check_int_range
from torch import Tensor

from sdekit.likelihood.flow import Flow
from sdekit.likelihood.pointwise import check_points

__all__ = ["check_latent", "draw_prior"]


def draw_prior(
    flow: Flow,
    shape: Any,
    seed: int,
    first_sample: int,
    dtype: torch.dtype | None,
    device: torch.device | str | None,
) -> Tensor:
    """Draws of the flow's prior, (B, D...): its own ``sample``, or the SDE's ``prior_sample``.

    Raises TypeError for a prior without either, TypeError or ValueError for a shape that does not
    fit, saying what to write.
    """
    prior, sde = flow.prior, flow.sde
    sampler = getattr(prior, "sample", None)
    if not callable(sampler):
        own = sde is not None and getattr(prior, "sde", None) is sde
        known = getattr(sde, "prior_sample", None) if own else None
        if not callable(known):
            who = type(sde if own else prior).__name__
            raise TypeError(
                f"{who} has no way to draw from the prior: write sample_flow(..., latent=z) with "
                "z drawn from it, or give a prior with sample(n, seed=...)"
            )
        size = _size(shape, getattr(sde, "event_shape", None))
        if callable(getattr(sde, "check_event", None)):
            sde.check_event(torch.empty(size, device="meta"))
        like = {
            "dtype": torch.float32 if dtype is None else dtype,
            "device": "cpu" if device is None else device,
        }
        z: Tensor = known(size, seed=seed, first_sample=first_sample, **like)
        return z
    size = _size(shape, ())
    numbers = {"seed": seed, **({"first_sample": first_sample} if first_sample else {})}
    try:
        z = sampler(size[0], **numbers)
    except TypeError as error:
        raise TypeError(
            f"the prior must draw by sample(n, {', '.join(f'{name}=...' for name in numbers)}), "
            f"and {type(prior).__name__} does not ({error}): write sample_flow(..., latent=z) with "
            "z drawn from it"
        ) from error
    if not isinstance(z, Tensor) or z.ndim < 2 or z.shape[0] != size[0]:
        given = tuple(z.shape) if isinstance(z, Tensor) else type(z).__name__
        raise ValueError(f"the prior's sample(n) must return (n, D...), n = {size[0]}, got {given}")
    if len(size) > 1 and tuple(z.shape) != size:
        raise ValueError(f"the prior draws events {tuple(z.shape[1:])}, not {size[1:]}")
    return z.to(dtype=dtype, device=device)


def _size(shape: Any, event: Sequence[int] | None) -> tuple[int, ...]:
    """``shape`` as (B, D...); a number B alone goes with the ``event`` that is known."""
    if isinstance(shape, int) and not isinstance(shape, bool):
        if event is None:
            raise ValueError(
                f"the prior has any shape: write shape=({shape}, D...) with that of a sample"
            )
        shape = (shape, *event)
    if not isinstance(shape, Sequence) or isinstance(shape, str) or len(shape) == 0:
        raise TypeError(f"shape must be (B, D...) or a number of samples, got {shape!r}")
    size = tuple(check_int_range("an entry of shape", n, 0, 1 << 62) for n in shape)
    if 0 in size[1:]:
        raise ValueError(f"a sample must have one component or more, got shape {size}")
    return size


def check_latent(
    z: Any, shape: Any, dtype: torch.dtype | None, device: torch.device | str | None
) -> None:
    """Raise TypeError or ValueError for a latent that is no batch, or not what is asked for."""
    check_points(check_float_tensor("latent", z))
    if dtype is not None or device is not None:
        raise TypeError("latent has a dtype and a device of its own: leave dtype= and device= away")
    if shape is not None:
        size = _size(shape, tuple(z.shape[1:]))
        if tuple(z.shape) != size:
            raise ValueError(
                f"latent has the shape {tuple(z.shape)}, but shape={size} is asked for"
            )
