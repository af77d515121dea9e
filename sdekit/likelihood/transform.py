"""From integer data to the space of the SDE and back, with the change of volume that it makes."""

from __future__ import annotations

import math
from typing import Any, final

import sdekit_kernels
import torch
from sdekit_kernels.checks import check_int_range
from torch import Tensor

from sdekit.likelihood.lattice import first_on_lattice
from sdekit.noise import keys

__all__ = ["DataTransform"]

_NO_BOUND = (
    "of data that was never dequantized are no bound, since a density on a lattice may be as high "
    "as it likes: write DataTransform(levels, low, high), and score x = transform.forward(k), "
    "which adds the noise; or leave transform= away for a density alone"
)


@final
class DataTransform:
    r"""x = low + (high - low) (k + u) / levels, for data k in {0, .., levels - 1}, u in [0, 1).

    u is uniform, drawn anew for each component (dequantization: Theis, van den Oord & Bethge 2016),
    or 1/2 with ``dequantize=False``. The log-probability of integers then has the bound

        log P(k) >= E_u[log p(x)] + D log((high - low) / levels),

    by Jensen's inequality; ``log_abs_det`` is the last logarithm, a component's share in nats, and
    all that bits per dimension need to know. Without dequantization the right side is a midpoint
    rule for P(k), no bound.

    levels: how many integers there are (256 for 8-bit images), low < high: the interval that they
    are mapped to. Raises TypeError or ValueError for levels < 2, or low, high not finite and in
    order.
    """

    def __init__(
        self, levels: int, low: float = -1.0, high: float = 1.0, *, dequantize: bool = True
    ) -> None:
        self.levels = check_int_range("levels", levels, 2, 1 << 31)
        try:
            self.low, self.high = float(low), float(high)
        except (TypeError, ValueError):
            raise TypeError(f"low and high must be numbers, got {low!r} and {high!r}") from None
        if not -math.inf < self.low < self.high < math.inf:
            raise ValueError(f"low < high must be finite numbers, got {low!r} and {high!r}")
        self.dequantize = bool(dequantize)

    def __repr__(self) -> str:
        return (
            f"DataTransform(levels={self.levels}, low={self.low}, high={self.high}, "
            f"dequantize={self.dequantize})"
        )

    @property
    def log_abs_det(self) -> float:
        """log |dx/dk| = log((high - low) / levels) of one component, in nats."""
        return math.log((self.high - self.low) / self.levels)

    def forward(
        self,
        k: Any,
        *,
        seed: int = 0,
        step: int = 0,
        first_sample: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """x of k's shape (B, D...), in [low, high).

        k: integers, in a tensor or array of any type. The noise of a sample is a function of the
        seed, the step (another one for each pass over the data) and the sample's number: stream
        DEQUANTIZE. So that rounding cannot move x into the next bin, u is kept off the bin's ends
        by a few roundings of x (1e-5 for 17 levels in float32).
        Raises ValueError naming the first value that is no integer of the range, or a ``dtype`` too
        coarse for so many levels; TypeError for complex or boolean k or a ``dtype`` of integers.
        """
        k = self._check(k)
        margin = self._margin(dtype)
        if self.dequantize:
            z = sdekit_kernels.normal(
                tuple(k.shape),
                seed=seed,
                stream=keys.DEQUANTIZE,
                step=step,
                first_sample=first_sample,
                dtype=torch.float64,
                device=k.device,
            )
            u = torch.special.ndtr(z).clamp(margin, 1.0 - margin)
        else:
            u = torch.full_like(k, 0.5)
        return (self.low + (self.high - self.low) * ((k + u) / self.levels)).to(dtype)

    def check_range(self, x: Tensor) -> None:
        """Raise ValueError, naming sample and distance, for x outside [low, high]; NaN passes."""
        below, above = self.low - x, x - self.high
        beyond = torch.maximum(below, above)
        wrong = beyond > 4.0 * torch.finfo(x.dtype).eps * max(abs(self.low), abs(self.high))
        if bool(wrong.any()):
            where = _first(wrong)
            raise ValueError(
                f"x must lie in [{self.low:g}, {self.high:g}], where its DataTransform puts data, "
                f"but x{list(where)} = {x[where].item():g} is {beyond[where].item():g} outside, "
                f"and so are {int(wrong.sum())} of {x.numel()} numbers: map the data with "
                "transform.forward(k), or leave transform= away for a density alone"
            )

    def check_dequantized(self, x: Tensor) -> None:
        """Raise ValueError for samples that are integers mapped, but never given their noise.

        Two signs, each with a chance below 1e-9 under noise: the numbers of a sample lie at one
        place within their bins, or they are equal far more often than noise of x's rounding is
        (grey levels on a scale of their own, such as k / 255). See ``sdekit.likelihood.lattice``.
        """
        if not self.dequantize:
            raise ValueError(f"bits per dimension {_NO_BOUND}")
        if x.shape[0] == 0:
            return
        width = (self.high - self.low) / self.levels
        found = first_on_lattice(
            x.detach().flatten(1), self.low, width, 0.25 * self._margin(x.dtype)
        )
        if found is not None:
            sample, why = found
            who = "the samples" if sample is None else f"sample {sample}"
            raise ValueError(f"{who} {why}: bits per dimension {_NO_BOUND}")

    def inverse(self, x: Tensor) -> Tensor:
        """The integers k of x's shape, int64: the bin that x lies in, the nearest one outside.

        Raises TypeError for what is no floating-point tensor and ValueError for NaN.
        """
        if not isinstance(x, Tensor) or not x.is_floating_point():
            raise TypeError(f"x must be a floating-point tensor, got {type(x).__name__}")
        if bool(x.isnan().any()):
            raise ValueError(f"x is NaN at {_first(x.isnan())}: NaN belongs to no bin")
        bins = (x.double() - self.low) / (self.high - self.low) * self.levels
        return bins.floor().clamp(0, self.levels - 1).to(torch.int64)

    def _margin(self, dtype: torch.dtype) -> float:
        """How far u keeps from 0 and 1, in bins: four roundings of the largest |x|."""
        if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
            raise TypeError(f"dtype must be a floating-point dtype, got {dtype!r}")
        largest = max(abs(self.low), abs(self.high)) / (self.high - self.low)
        margin = 4.0 * self.levels * torch.finfo(dtype).eps * largest
        if margin > 0.125:
            raise ValueError(
                f"{dtype} is too coarse for {self.levels} levels in [{self.low}, {self.high}): "
                "write dtype=torch.float32 or torch.float64"
            )
        return margin

    def _check(self, k: Any) -> Tensor:
        """k as float64 integers within the range."""
        k = torch.as_tensor(k)
        if k.is_complex() or k.dtype == torch.bool:
            raise TypeError(f"k must hold integers, got {k.dtype}")
        if k.ndim == 0:
            raise ValueError("k must have the shape (B, D...), got a single number")
        k = k.to(torch.float64)
        wrong = ~((k >= 0) & (k < self.levels) & (k == k.floor()))
        if bool(wrong.any()):
            where = _first(wrong)
            raise ValueError(
                f"k must hold integers in 0..{self.levels - 1}, got {k[where].item():g} at "
                f"{where}: levels is how many integers there are, {self.levels} here"
            )
        return k


def _first(mask: Tensor) -> tuple[int, ...]:
    """Index of the first true entry."""
    return tuple(int(i) for i in mask.nonzero()[0])
