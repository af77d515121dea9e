r"""Data with noise, as the losses of this folder see it.

    x_t = offset + alpha(t) (x_0 - offset) + sigma(t) z,    z normal.

Coefficients are made in float64: 1 - exp(-B(t)) near t = 0 is what the smallest noise levels are.
Squared errors are in float32, or float64 for float64 data, whatever type the network runs in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import sdekit_kernels
import torch
from sdekit_kernels.dispatch import compute_dtype
from torch import Tensor

from sdekit.likelihood.pointwise import check_affine
from sdekit.noise import keys
from sdekit.sde import AffineSDE, check_output, expand
from sdekit.sde.base import check_batched
from sdekit.train.times import Times

__all__ = [
    "NOISE_STREAM",
    "Diffused",
    "Net",
    "check_data",
    "diffuse",
    "evaluate",
    "noise_like",
    "weighted_mean",
]

Net = Callable[[Tensor, Tensor], Tensor]
"""(t, x) -> x's shape, with t (B,) in float32, or float64 for float64 data."""

NOISE_STREAM: Final = keys.TRAIN + 2


@dataclass(frozen=True, slots=True)
class Diffused:
    """A batch x (B, D...) at its times: x_0, the noise z in it, and the coefficients.

    t, factor: (B,) float64, see ``TimeSampler``. alpha, std: float64, to multiply x: (B, 1, ..), or
    (B, D...) for an SDE with parameters per component.
    """

    sde: AffineSDE
    x0: Tensor
    z: Tensor
    x: Tensor
    t: Tensor
    factor: Tensor
    alpha: Tensor
    std: Tensor

    def predict(self, what: str, net: Net) -> Tensor:
        """What the network says at (t, x), of x's shape; raises as ``evaluate``."""
        return evaluate(what, net, self.t, self.x)

    def wide(self, coefficient: Tensor) -> Tensor:
        """A coefficient of times, (B,) or (B, D...), in float64, to multiply x."""
        return expand(coefficient, _like64(self.x))

    def weight(self, weigh: Callable[[AffineSDE, Tensor], Tensor]) -> Tensor:
        """factor(t) lambda(t), float64, to multiply x."""
        return self.wide(self.factor) * self.wide(weigh(self.sde, self.t))


def diffuse(sde: AffineSDE, x0: Tensor, times: Times, *, seed: int, step: int) -> Diffused:
    """x0 (B, D...) at times drawn by ``times``, with noise of the stream ``NOISE_STREAM``.

    Raises TypeError for an SDE that is not affine, and as ``check_data``.
    """
    check_affine(sde)
    n = check_data(x0).shape[0]
    t, factor = (part.to(x0.device) for part in times(n, seed=seed, step=step))
    z = noise_like(x0, seed=seed, step=step)
    like = _like64(x0)
    alpha, std = expand(sde.mean_coefficient(t), like), expand(sde.std(t), like)
    x = sde.uncentered(alpha.to(x0.dtype) * sde.centered(x0) + std.to(x0.dtype) * z)
    return Diffused(sde, x0, z, x, t, factor, alpha, std)


def check_data(x0: Any) -> Tensor:
    """``x0`` if it is a floating-point tensor (B, D...) with B and D of 1 or more.

    NaN passes: the loss of that sample is NaN, and the others are unharmed.
    Raises TypeError or ValueError otherwise.
    """
    shape = tuple(check_batched(x0).shape)
    if len(shape) < 2 or x0.shape[1:].numel() == 0:
        raise ValueError(
            f"x0 must have the shape (B, D...) with D >= 1, got {shape}: write x0.view(-1, 1) for "
            "samples of one number"
        )
    if shape[0] == 0:
        raise ValueError(f"x0 has no samples, its shape is {shape}: a loss needs one or more")
    tensor: Tensor = x0
    return tensor


def noise_like(x0: Tensor, *, seed: int, step: int, stream: int = NOISE_STREAM) -> Tensor:
    """Normals of x0's shape, dtype and device."""
    return sdekit_kernels.normal(
        tuple(x0.shape), seed=seed, stream=stream, step=step, dtype=x0.dtype, device=x0.device
    )


def evaluate(what: str, net: Net, t: Tensor, x: Tensor) -> Tensor:
    """net(t, x) of x's shape, in float32 or float64; t (B,) comes in that type, too.

    Raises TypeError for a net that is not callable or returns no tensor, ValueError for an output
    of another shape than x's.
    """
    if not callable(net):
        raise TypeError(f"{what} must be callable as {what}(t, x), got {type(net).__name__}")
    dtype = compute_dtype(x.dtype)
    return check_output(what, net(t.to(dtype), x), x).to(dtype)


def weighted_mean(weight: Tensor, squares: Tensor) -> Tensor:
    """The mean of weight times squares over the components: (B, D...) to (B,)."""
    return (weight.to(squares.dtype) * squares).flatten(1).mean(1)


def _like64(x: Tensor) -> Tensor:
    """A float64 tensor of x's shape that takes the memory of one number."""
    return x.new_zeros((), dtype=torch.float64).expand(x.shape)
