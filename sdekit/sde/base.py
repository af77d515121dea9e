"""What an equation is: drift, diffusion, and what kind of noise drives it.

Notation, here and everywhere: ``t`` time (0-d, or one entry a sample), ``x`` state of shape
(B, D...), ``B`` samples of event shape ``D...``, ``s <= t`` two times of a transition.
"""

from __future__ import annotations

import math
import numbers
from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import EllipsisType
from typing import Any, Literal

import torch
from sdekit_kernels.dispatch import compute_dtype
from torch import Tensor

NoiseType = Literal["additive", "diagonal", "scalar", "general"]
Interpretation = Literal["ito", "stratonovich"]
TimeDirection = Literal["forward", "backward", "either"]
Time = float | Tensor


class SDE(ABC):
    r"""A stochastic differential equation dx = f(t, x) dt + G(t, x) dW.

    ``drift`` and ``diffusion`` get t as a 0-d tensor or one entry a sample, (B,), and x of shape
    (B, D...). What ``diffusion`` returns depends on ``noise_type``:

    - "additive", "diagonal": broadcastable to x.shape, multiplies dW (B, D...) elementwise;
      additive noise must not depend on x;
    - "scalar": broadcastable to x.shape, one Brownian motion a sample drives all components;
    - "general": (B, D..., M), applied to dW of shape (B, M).

    ``deterministic`` says that the diffusion is zero everywhere: the equation is an ODE.
    ``time_direction`` says over which grids it may be solved: an Ito equation means something in
    one direction of time only.

    What an equation may tell beyond that, and any object with ``drift`` and ``diffusion`` too:

    - ``nonnegative``: the components that are never below zero, as a tuple of their flat indices
      in the event, or ... for all; see ``nonnegative_mask``;
    - ``elementwise``: whether component i of a diagonal diffusion depends on t and x_i alone, so
      that one directional derivative gives all d g_i / d x_i;
    - ``linear_part()``: (lambda, mu), the eigenvalues of the drift's linear part (complex, if need
      be) and the coefficients of noise that is linear in x, zero for other noise: the numbers of
      the test equation dx = lambda x dt + mu x dW, in the equation's own interpretation, which say
      what step sizes are stable. Each has the event's shape, or is 0-d for all components.
    """

    noise_type: NoiseType = "diagonal"
    interpretation: Interpretation = "ito"
    deterministic: bool = False
    time_direction: TimeDirection = "forward"
    nonnegative: tuple[int, ...] | EllipsisType = ()
    elementwise: bool = False

    @abstractmethod
    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """f(t, x), of x's shape."""

    @abstractmethod
    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        """G(t, x), of the shape that ``noise_type`` says."""

    # The two forms are equations themselves: their module stands on this one.
    def to_ito(self, *, elementwise: bool | None = None) -> SDE:
        """The Ito form of this equation, see ``sdekit.sde.to_ito``."""
        from sdekit.sde.interpretation import to_ito

        return to_ito(self, elementwise=elementwise)

    def to_stratonovich(self, *, elementwise: bool | None = None) -> SDE:
        """The Stratonovich form of this equation, see ``sdekit.sde.to_stratonovich``."""
        from sdekit.sde.interpretation import to_stratonovich

        return to_stratonovich(self, elementwise=elementwise)


@dataclass(frozen=True, slots=True)
class Marginal:
    """First two moments of a law: mean and std of x's shape, cov (B, D, D) where one is kept."""

    mean: Tensor
    std: Tensor
    cov: Tensor | None = None

    @property
    def var(self) -> Tensor:
        """Variance of each component, of x's shape."""
        return self.std.square()


def nonnegative_mask(sde: Any, x: Tensor) -> Tensor:
    """Which components of x (B, D...) the equation keeps at zero or above: booleans (1, D...).

    From the attribute ``nonnegative``; all false without it. Raises ValueError for an index that is
    none of a component.
    """
    event = tuple(x.shape[1:])
    count, given = math.prod(event), getattr(sde, "nonnegative", ())
    chosen = range(count) if given is ... else [int(i) for i in given]
    for i in chosen:
        if not 0 <= i < count:
            raise ValueError(
                f"nonnegative of {type(sde).__name__} names component {i}, but x of shape "
                f"{tuple(x.shape)} has the components 0 to {count - 1}"
            )
    mask = [i in chosen for i in range(count)]
    return torch.tensor(mask, dtype=torch.bool, device=x.device).view(1, *event)


def as_time(t: Any, like: Tensor | None = None) -> Tensor:
    """``t`` as a floating-point tensor, 0-d or (B,); numbers take the dtype and device of ``like``.

    Of bfloat16 and float16 they take float32: 0.997 would be 1 in bfloat16.
    Raises TypeError for what is no number and no floating-point tensor, ValueError for a tensor
    with more than one axis.
    """
    if isinstance(t, Tensor):
        if not t.is_floating_point():
            raise TypeError(f"time must be a floating-point tensor, got {t.dtype}: write t.float()")
        if t.ndim > 1:
            raise ValueError(
                f"time must be a number, a 0-d tensor or one entry a sample, got {tuple(t.shape)}"
            )
        return t
    if isinstance(t, bool) or not isinstance(t, numbers.Real):
        raise TypeError(f"time must be a number or a floating-point tensor, got {t!r}")
    if like is None:
        return torch.tensor(float(t), dtype=torch.get_default_dtype())
    _check_floating(like)
    return torch.full((), float(t), dtype=compute_dtype(like.dtype), device=like.device)


def time_pair(s: Time, t: Time, like: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Two times as tensors; a number takes the dtype of the other one, else that of ``like``.

    Raises as ``as_time``.
    """
    s = as_time(s, t if isinstance(t, Tensor) and t.is_floating_point() else like)
    return s, as_time(t, s)


def law_times(s: Time, t: Time, like: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The times of a law of x_t given x_s, as ``time_pair`` has them.

    Raises as that, and ValueError for numbers that go back or are not finite; values of a tensor
    would have to come from its device.
    """
    pair = time_pair(s, t, like)
    if not (isinstance(s, Tensor) or isinstance(t, Tensor)) and not 0.0 <= t - s < math.inf:
        raise ValueError(
            f"a law goes from a time to a later one, both finite, got from {s} to {t}: write times "
            "0 <= s <= t"
        )
    return pair


def expand(coef: Tensor, x: Tensor) -> Tensor:
    """A coefficient in the shape and dtype in which it multiplies x.

    0-d stays, one entry a sample (B,) becomes (B, 1, .., 1), and what already has the batch axis
    first ((1, D...) or (B, D...)) stays. Raises ValueError if the batch or the device is not x's,
    TypeError if x is not of a floating-point type.
    """
    _check_floating(x)
    if coef.ndim > 0 and (x.ndim == 0 or coef.shape[0] not in (1, x.shape[0])):
        raise ValueError(
            f"time or coefficient has one entry for each of {coef.shape[0]} samples, "
            f"but x has shape {tuple(x.shape)}: its first axis must be the same"
        )
    if coef.device != x.device and (coef.ndim > 0 or coef.device.type != "cpu"):
        raise ValueError(
            f"time or coefficient is on {coef.device}, but x is on {x.device}: write t.to(x.device)"
        )
    if coef.ndim == 1:
        coef = coef.view(-1, *([1] * (x.ndim - 1)))
    return coef.to(x.dtype)


def check_output(what: str, out: Any, x: Tensor) -> Tensor:
    """``out`` if it is a tensor of x's shape.

    Raises TypeError if it is no tensor, ValueError if the shape differs.
    """
    if not isinstance(out, Tensor):
        raise TypeError(f"{what} must return a tensor, got {type(out).__name__}")
    if out.shape != x.shape:
        raise ValueError(
            f"{what} returned shape {tuple(out.shape)} for x of shape {tuple(x.shape)}: "
            "it must return one value for each component, of x's own shape"
        )
    return out


def check_batched(x: Any) -> Tensor:
    """``x`` if it is a floating-point tensor of shape (B, D...).

    Raises TypeError for what is no floating-point tensor, ValueError for a 0-d one.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"x must be a torch.Tensor, got {type(x).__name__}: write torch.as_tensor")
    _check_floating(x)
    if x.ndim == 0:
        raise ValueError("x must have the shape (B, D...), got a 0-d tensor: write x.view(1, 1)")
    return x


def _check_floating(x: Tensor) -> None:
    if not x.is_floating_point():
        raise TypeError(f"x must be a floating-point tensor, got {x.dtype}: write x.float()")
