"""A field without a derivative is refused: its divergence would be a number, and a wrong one.

Under ``torch.no_grad``, after ``detach`` or through a Python number the chain rule ends without a
word, and v^T J v leaves out what came before. The first evaluation is watched for such places. A
place alone is no proof (the detached maximum of a softmax does no harm), so where there is one the
derivative is compared with a difference quotient, and only a plain contradiction is an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor
from torch.func import jvp, vjp
from torch.nn import Parameter
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from sdekit.likelihood.divergence.probes import draw_probes

__all__ = ["Watch", "check_derivative"]

Field = Callable[[Tensor], Tensor]

# What torch says where a tensor with a derivative is handed to numpy, or to a kernel by address.
_LEAVES_TORCH = r"numpy\(\)|data pointer|have storage|Inference tensors"

# Functions that ask a tensor for its type or shape alone: they lose nothing, and scores are full of
# them. Without these two lines each first evaluation would pay for the difference quotients.
_FACTORY = re.compile("_like$|^new_")
_TEMPLATES = ("to", "type_as", "expand_as", "view_as", "reshape_as")

# Steps of the difference quotient, times |x|'s size: 0.1, 0.025, ... 1e-4. Fields of a likelihood
# bend over lengths from 1e-3 (their smallest noise) to 1.
_STEPS = tuple(0.1 * 4.0**-j for j in range(6))
# Two steps whose quotients agree to 1 percent show a slope. The derivative contradicts it if it is
# 5 percent beside the quotients of every step: of every one, because sixteen-bit activations are
# flat at short steps, and right at long ones. It has to show in most samples: rounding alone can
# look like either in a few.
_AGREE, _CONTRADICT = 0.01, 0.05


def check_derivative(field: Field, x: Tensor, *, what: str = "the score", derivative: str) -> None:
    """Evaluates ``field`` once at x, (B, D...), and raises where its derivative does not reach x.

    derivative: "reverse" or "forward", which of the two will be asked for. Raises RuntimeError that
    names the operation at which the derivative was lost.
    """
    watch = Watch(field, what, derivative)
    if derivative == "forward":
        jvp(watch, (x,), (torch.ones_like(x),))
    else:
        vjp(watch, x)
    watch.conclude(x)


class Watch:
    """``field``, the first evaluation of which is watched: call it, then ``conclude``."""

    def __init__(self, field: Field, what: str, derivative: str) -> None:
        self.field, self.what, self.derivative = field, what, derivative
        self._lost: str | None = None
        self._done = False

    def __call__(self, x: Tensor) -> Tensor:
        """F(x). Raises RuntimeError if x is taken out of torch."""
        mode = nullcontext() if self._done else _Losses()
        try:
            with mode as losses:
                value = self.field(x)
        except RuntimeError as error:
            if not re.search(_LEAVES_TORCH, str(error)):
                raise
            raise RuntimeError(self._message(f"it leaves torch ({error})")) from error
        if losses is not None:
            # Also without a call that says so: nothing led from x to here.
            self._lost = losses.lost or (None if _tracked(value) else self.what)
            self._done = True
        return value

    def conclude(self, x: Tensor) -> None:
        """Raises RuntimeError if a derivative was lost on the way, and is missing in the slope."""
        lost, self._lost = self._lost, None
        if lost is not None and _contradicts(self.field, x, self.derivative):
            raise RuntimeError(self._message(f"`{lost}` returned numbers without it"))

    def _message(self, why: str) -> str:
        way = (
            ""
            if self.derivative == "forward"
            else (", or write derivative='forward', which no_grad does not stop")
        )
        return (
            f"{self.what} has no derivative with respect to x: {why}, and the divergence would "
            "leave a part out. Compute it from x in torch, without torch.no_grad(), "
            f"torch.inference_mode(), detach(), .item() or numpy{way}"
        )


class _Losses(TorchFunctionMode):
    """Notes the first function that takes a number with a derivative and returns one without."""

    def __init__(self) -> None:
        super().__init__()
        self.lost: str | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs the function."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        name = getattr(func, "__name__", str(func))
        if self.lost is None and any(map(_untracked_number, tree_leaves(out))):
            given = tree_leaves((args[:1] if name in _TEMPLATES else args, kwargs))
            if not _FACTORY.search(name) and any(map(_from_x, given)):
                self.lost = name
        return out


def _from_x(given: Any) -> bool:
    """A number that x's derivative leads to; weights have derivatives of their own."""
    return isinstance(given, Tensor) and not isinstance(given, Parameter) and _tracked(given)


def _untracked_number(out: Any) -> bool:
    """A float that left torch, or a tensor of them without a derivative."""
    if isinstance(out, Tensor):
        return out.is_floating_point() and not _tracked(out)
    return isinstance(out, float)


def _tracked(x: Tensor) -> bool:
    """Whether a derivative leads through x: backward, or forward at the present level."""
    if x.is_inference():
        return False
    if x.requires_grad:
        return True
    # Outside every level of forward mode there is nothing to unpack.
    if forward_ad._current_level < 0:
        return False
    # Inference mode would refuse the view that unpacking makes of a tensor with a derivative.
    with torch.inference_mode(False):
        return forward_ad.unpack_dual(x).tangent is not None


@torch.no_grad()
def _contradicts(field: Field, x: Tensor, derivative: str) -> bool:
    """Whether v^T J v differs from the difference quotients in most samples."""
    v = draw_probes(1, x)[0]
    size = (1.0 + x.flatten(1).square().mean(1).sqrt()).view(-1, *[1] * (x.ndim - 1))
    quotients = torch.stack(
        [
            (v * (field(x + h * size * v) - field(x - h * size * v)) / (2.0 * h * size))
            .flatten(1)
            .sum(1)
            for h in _STEPS
        ]
    )
    if derivative == "forward":
        form = (v * jvp(field, (x,), (v,))[1]).flatten(1).sum(1)
    else:
        form = (v * vjp(field, x)[1](v)[0]).flatten(1).sum(1)
    slope_is_known = (_apart(quotients[1:], quotients[:-1]) <= _AGREE).any(0)
    # NaN is no contradiction.
    wrong = slope_is_known & (_apart(quotients, form) > _CONTRADICT).all(0)
    return 2 * int(wrong.sum()) > x.shape[0]


def _apart(a: Tensor, b: Tensor) -> Tensor:
    """|a - b| relative to the larger; 0 where both are 0."""
    larger = torch.maximum(a.abs(), b.abs())
    return torch.where(larger == 0.0, 0.0, (a - b).abs() / larger)
