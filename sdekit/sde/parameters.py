"""Parameters of an equation: numbers, 0-d tensors, or one entry a component.

A per component parameter is kept with a leading axis of one, (1, D...), so that it multiplies x of
shape (B, D...) directly and can never be taken for one entry a sample, (B,).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

Parameter = float | Tensor


def parameter(
    name: str, given: Any, *, minimum: float | None = None, strict: bool = False
) -> Parameter:
    """Check ``given`` and return it as a float, a 0-d tensor, or a tensor (1, D...).

    ``minimum`` bounds it from below, strictly if ``strict``.
    Raises TypeError for what is no number, tensor or array; ValueError if it is not finite or below
    the bound.
    """
    if isinstance(given, Tensor):
        value = given if given.is_floating_point() else given.to(torch.get_default_dtype())
    elif isinstance(given, bool):
        raise TypeError(f"{name} must be a number or a tensor, got {given!r}")
    else:
        try:
            value = torch.as_tensor(given, dtype=torch.float64)
        except (TypeError, ValueError, RuntimeError):
            raise TypeError(f"{name} must be a number or a tensor, got {given!r}") from None
    if value.numel() == 0:
        raise ValueError(f"{name} must not be empty, got shape {tuple(value.shape)}")
    if not bool(torch.isfinite(value).all()):
        raise ValueError(f"{name} must be finite, got {given!r}")
    if minimum is not None:
        low = float(value.detach().min())
        if low < minimum or (strict and low == minimum):
            need = f"above {minimum:g}" if strict else f"{minimum:g} or more"
            raise ValueError(f"{name} must be {need}, got {given!r}")
    if value.ndim > 0:
        return value.unsqueeze(0)
    return value if isinstance(given, Tensor) else float(value)


def positive_number(name: str, given: Any) -> float:
    """``given`` as a finite float above zero; raises TypeError or ValueError otherwise."""
    return float(one_number(name, given, minimum=0.0, strict=True))


def one_number(
    name: str, given: Any, *, minimum: float | None = None, strict: bool = False
) -> Parameter:
    """``given`` as a float or a 0-d tensor; raises as ``parameter``, and TypeError for more."""
    value = parameter(name, given, minimum=minimum, strict=strict)
    if isinstance(value, Tensor) and value.ndim > 0:
        raise TypeError(f"{name} must be one number, got shape {tuple(value.shape[1:])}")
    return value


def shared_event_shape(**given: Parameter) -> tuple[int, ...] | None:
    """The event shape of the per component parameters together, None if there are none.

    Raises ValueError if two of them do not broadcast.
    """
    shapes = {k: p.shape[1:] for k, p in given.items() if isinstance(p, Tensor) and p.ndim > 0}
    if not shapes:
        return None
    if len({len(shape) for shape in shapes.values()}) == 1:
        try:
            # NumPy's: torch's own loads half a second of symbolic algebra.
            return tuple(np.broadcast_shapes(*shapes.values()))
        except ValueError:
            pass
    listed = ", ".join(f"{name} {tuple(shape)}" for name, shape in shapes.items())
    raise ValueError(f"per component parameters must have one common event shape, got {listed}")


def check_event(owner: str, own: tuple[int, ...] | None, x: Tensor) -> None:
    """Raises ValueError if x (B, D...) does not fit per component parameters of event shape own."""
    if own is None:
        return
    event = tuple(x.shape[1:])
    fits = len(own) == len(event) and all(p in (1, d) for p, d in zip(own, event, strict=True))
    if not fits:
        raise ValueError(
            f"{owner} has parameters for events of shape {own}, but x has shape "
            f"{tuple(x.shape)}, that is events of shape {event}: they must agree"
        )


def at(value: Parameter, t: Tensor) -> Parameter:
    """A parameter in the dtype and on the device of ``t``; floats stay floats."""
    return value.to(dtype=t.dtype, device=t.device) if isinstance(value, Tensor) else value


def event_tensors(*values: Parameter) -> tuple[Tensor, ...]:
    """Parameters in float64, all of the event's shape, or 0-d where none is per component."""
    tensors = [torch.as_tensor(v, dtype=torch.float64) for v in values]
    return torch.broadcast_tensors(*(v.squeeze(0) if v.ndim > 0 else v for v in tensors))


def shifted(x: Tensor, by: Parameter) -> Tensor:
    """x + by; x itself if ``by`` is the number 0."""
    if isinstance(by, float) and by == 0.0:
        return x
    return x + at(by, x)


def phi1(x: Tensor) -> Tensor:
    r"""\phi_1(x) = (e^x - 1) / x, with value 1 at 0; accurate and differentiable for every x.

    Below 1e-2 a Taylor polynomial of degree 6 is used: its remainder x^7 / 8! < 3e-19 is under the
    rounding of float64, while autograd of expm1(x) / x would cancel there (and divide 0 by 0 at 0).
    """
    small = x.abs() < 1e-2
    poly = torch.ones_like(x)
    for k in range(7, 1, -1):
        poly = 1.0 + poly * x / k
    away = torch.where(small, torch.ones_like(x), x)
    return torch.where(small, poly, torch.expm1(away) / away)


def log_normal_density(residual: Tensor, std: Tensor) -> Tensor:
    """Value of log N(residual; 0, std^2) of each component, in nats."""
    return -0.5 * ((residual / std).square() + math.log(2 * math.pi)) - std.log()


def event_sum(values: Tensor) -> Tensor:
    """The sum over the event of each sample: (B, D...) to (B,), and (B,) as it is."""
    return values.flatten(1).sum(1) if values.ndim > 1 else values
