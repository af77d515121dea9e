r"""The first step of each sample (Hairer, Norsett & Wanner, Solving ODEs I, II.4).

    h_0 = |y| / |F| / 100,   h_1 = (0.01 / max(|F|, |F(t + h_0, y + h_0 F) - F| / h_0))^(1 / order)

in the norm of the error test; the smaller of 100 h_0 and h_1, and never more than the whole way.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from sdekit_kernels.steps.runge_kutta import Rule
from torch import Tensor

__all__ = ["first_step"]


def first_step(
    slope_at: Callable[[Tensor, Tensor], Tensor],
    t: Tensor,
    y: Tensor,
    slope: Tensor,
    rule: Rule,
) -> Tensor:
    """h (B,) in the type of t, towards the last stop; one evaluation. y, slope: (B, n)."""
    left = rule.stops[-1] - t
    most, split = left.abs(), rule.split
    scale = rule.atol + rule.rtol * y.abs()
    if rule.rest is not None:
        rtol, atol = rule.rest
        scale[:, split:] = atol + rtol * y[:, split:].abs()

    def size(v: Tensor) -> Tensor:
        v = v / scale
        whole = v[:, :split].square().mean(1).sqrt()
        if split < v.shape[1]:
            whole = torch.maximum(whole, v[:, split:].square().mean(1).sqrt())
        return whole.to(t.dtype)

    of_y, of_slope = size(y), size(slope)
    guess = torch.where((of_y < 1e-5) | (of_slope < 1e-5), 1e-6 * most, 0.01 * of_y / of_slope)
    guess = torch.minimum(guess, 0.1 * most).copysign(left)
    there = slope_at(t + guess, y + guess.to(y.dtype)[:, None] * slope)
    steep = torch.maximum(of_slope, size(there - slope) / guess.abs())
    h = (0.01 / steep) ** (1.0 / rule.order)
    h = torch.where(steep <= 1e-15, (1e-3 * guess.abs()).clamp_min(1e-6), h)
    h = torch.minimum(h, 100.0 * guess.abs())
    h = torch.where(h.isfinite(), h, 1e-6 * most)
    return torch.minimum(h, most).copysign(left)
