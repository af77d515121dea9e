r"""Rate against distortion of a chain as a progressive code (Ho et al. 2020, section 4.3).

A receiver that was sent x_N, x_{N-1}, .., x_k has paid L_T + L_{N-1} + .. + L_k bits and guesses
x0_hat = (x_k - s_k eps_hat) / a_k: rate and distortion at level k (their figure 5 and table 4).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from sdekit_kernels.checks import check_int_range
from torch import Tensor

from sdekit.likelihood.transform import DataTransform
from sdekit.likelihood.variational.bound import variational_bound
from sdekit.likelihood.variational.result import VariationalBound
from sdekit.sde import DDPM

__all__ = ["RateDistortion", "rate_distortion"]


@dataclass(frozen=True, slots=True)
class RateDistortion:
    """Rate and distortion by level from the noise to the data: entry 0 is level N, the last 1.

    levels: (N,) int64, N..1. rate: (N,) bits per dimension, mean over the samples, of what has been
    sent to reach x_k. distortion: (N,) RMSE of x0_hat from x_k, over samples and components, in
    the data's units (see ``unit``). rates, distortions: (B, N), each sample's own. lossless: mean
    bits per dimension with L_0, where the distortion is 0; None where there is no such number.
    unit: how many of the data's units are one of x: levels / (high - low) of the transform.
    bound: what it was made from.
    """

    levels: Tensor
    rate: Tensor
    distortion: Tensor
    rates: Tensor
    distortions: Tensor
    lossless: float | None
    unit: float
    bound: VariationalBound

    def table(self, rows: int = 11) -> list[dict[str, float]]:
        """``rows`` levels evenly spaced from N to 1: step (N - k + 1), level, rate, distortion."""
        rows = min(check_int_range("rows", rows, 1, 1 << 31), len(self.levels))
        marks = torch.linspace(0, len(self.levels) - 1, rows, dtype=torch.float64).round().long()
        return [
            {
                "step": int(i) + 1,
                "level": int(self.levels[i]),
                "rate": float(self.rate[i]),
                "distortion": float(self.distortion[i]),
            }
            for i in marks
        ]

    def to_dict(self) -> dict[str, Any]:
        """What JSON can hold: the curve, its table, the total and how they were made."""
        return {
            "levels": self.levels.tolist(),
            "rate_bits_per_dim": self.rate.tolist(),
            "distortion_rmse": self.distortion.tolist(),
            "table": self.table(),
            "lossless_bits_per_dim": self.lossless,
            "unit": self.unit,
            "samples": len(self.rates),
            "decoder": self.bound.decoder,
            "variance": self.bound.variance,
            "nfe": self.bound.nfe,
        }


def rate_distortion(
    process: DDPM,
    eps_model: Callable[[Tensor, Tensor], Any],
    x0: Tensor,
    *,
    transform: DataTransform | None = None,
    decoder: str = "discretized",
    **options: Any,
) -> RateDistortion:
    """Rate and distortion at all levels, for N evaluations of the network a draw and sample.

    Arguments as for ``variational_bound``, ``levels`` excepted. The distortion is in the data's
    units: those of the integers if there is a transform (the published one for a discretized
    decoder without), of x otherwise.
    Raises TypeError for ``levels``: rates are sums over all of them; and as ``variational_bound``.
    """
    if options.get("levels") is not None:
        raise TypeError("rate_distortion visits all levels: leave levels= away")
    bound = variational_bound(
        process, eps_model, x0, transform=transform, decoder=decoder, **options
    )
    return _from_bound(bound)


def _from_bound(bound: VariationalBound) -> RateDistortion:
    steps = bound.terms.shape[1] - 1
    known = bound.transform
    unit = 1.0 if known is None else known.levels / (known.high - known.low)
    bits = bound.terms / (bound.dim * math.log(2.0))
    rates = bits[:, 1:].flip(1).cumsum(1)
    errors = bound.squared_error.flip(1)
    lossless = float(bits.sum(1).mean()) if bound.decoder != "gaussian" else None
    return RateDistortion(
        levels=torch.arange(steps, 0, -1),
        rate=rates.mean(0),
        distortion=unit * errors.mean(0).sqrt(),
        rates=rates,
        distortions=unit * errors.sqrt(),
        lossless=lossless,
        unit=unit,
        bound=bound,
    )
