"""What solvers with several stages share: weighted sums, and a promise that a scheme rests on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import add
from typing import Any

from torch import Tensor

from sdekit.solvers.equation import Equation

__all__ = ["combine", "mixed_diffusion"]


def combine(weights: Sequence[float], values: Sequence[Any]) -> Any:
    """The sum of weight * value, without the terms of weight 0; 0.0 if no term is left.

    As many terms as there are values: a row of a tableau is summed over the stages made so far.
    """
    pairs = [(a, v) for a, v in zip(weights, values, strict=False) if a != 0.0]
    return reduce(add, [v if a == 1.0 else a * v for a, v in pairs]) if pairs else 0.0


def mixed_diffusion(sde: Equation, t: Tensor, x: Tensor) -> str:
    """The obstacle for methods that need g_i(t, x_i) of diagonal noise; "" where it is so."""
    if sde.deterministic or sde.noise_type != "diagonal" or not sde.mixes("diffusion", t, x):
        return ""
    ito = sde.interpretation == "ito"
    instead, general = ("euler_maruyama", "dri1") if ito else ("heun", "milstein_area")
    return (
        "of diagonal noise the diffusion's component i must depend on t and x_i alone, and that of "
        f"{sde.name} mixes components: use {instead!r}, or write the noise as general, "
        f"torch.diag_embed(g), for {general!r}"
    )
