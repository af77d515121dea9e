"""What every network of the library has around it: inputs and targets of unit size."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from sdekit_kernels.checks import check_int_range, check_positive
from torch import Tensor, nn

from sdekit.sde import AffineSDE, as_time, expand


class Preconditioned(nn.Module, ABC):
    r"""A score network (t, x) -> score of x's shape (B, D...), for t 0-d or (B,), around a plain F.

    With y = x - offset, s_d = ``data_std`` and n = sqrt(alpha^2 s_d^2 + sigma^2), the std of x_t
    for such data:

        eps = (sigma / n) (y / n) + (alpha s_d / n) F(y / n, log(sigma / alpha)),
        score = -eps / sigma,

    which is the preconditioning of Karras et al. 2022 written for the noise, and the v of Salimans
    & Ho 2022 for VP with s_d = 1: the network F sees inputs and has targets of unit size at every
    level of noise. A subclass gives F as ``network``; where F starts at zero, the first score is
    the exact one of N(offset, s_d^2) data.

    event_shape: D... seed: of the initial weights, which come from the library's own noise.
    Raises TypeError or ValueError for an SDE that is not affine, an event without axes, a
    data_std that is not above zero or a seed that is no integer.
    """

    def __init__(
        self, event_shape: Sequence[int], *, sde: AffineSDE, data_std: float, seed: int
    ) -> None:
        super().__init__()
        if not isinstance(sde, AffineSDE):
            raise TypeError(f"sde must be an AffineSDE, got {sde!r}")
        self.sde = sde
        if not isinstance(event_shape, Sequence) or len(event_shape) == 0:
            raise TypeError(
                f"event_shape must be (D...), a sequence of sizes, got {event_shape!r}: "
                "write (D,) for vectors of D components"
            )
        self.event_shape = tuple(check_int_range("event_shape", d, 1, 1 << 31) for d in event_shape)
        self.data_std = check_positive("data_std", data_std)
        self.seed = check_int_range("seed", seed, 0, 1 << 64)

    @abstractmethod
    def network(self, level: Tensor, unit: Tensor) -> Tensor:
        """F: log(sigma / alpha) / 4, (B or 1, 1), and y / n, (B, D...), to (B, D...)."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """What the class needs, beside ``sde``, to build this network again: plain values."""

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        """The score at (t, x), of x's shape; t must be above 0.

        Raises ValueError if x's event shape is not ``event_shape``, TypeError if its dtype is not
        the weights'.
        """
        self._check(x)
        t = as_time(t, x)
        alpha, std = expand(self.sde.mean_coefficient(t), x), expand(self.sde.std(t), x)
        norm = ((alpha * self.data_std).square() + std.square()).sqrt()
        unit = self.sde.centered(x) / norm
        # Under autocast F ends in half precision; what is divided by sigma must not.
        raw = self.network(_level(alpha, std), unit).to(unit.dtype)
        # sigma cancels from the first term, so that only the network's part is divided by it.
        return -(unit + alpha * self.data_std / std * raw) / norm

    def _check(self, x: Tensor) -> None:
        if tuple(x.shape[1:]) != self.event_shape:
            raise ValueError(
                f"this network is for events of shape {self.event_shape}, but x has shape "
                f"{tuple(x.shape)}: it must be (B, {', '.join(map(str, self.event_shape))})"
            )
        dtype = next(self.parameters()).dtype
        if x.dtype != dtype:
            raise TypeError(
                f"x is {x.dtype}, but the network's weights are {dtype}: "
                f"write x.to({dtype}) or convert the network"
            )


def _level(alpha: Tensor, std: Tensor) -> Tensor:
    """``u`` = log(sigma / alpha) / 4, averaged over components that differ: (B or 1, 1)."""
    tiny = torch.finfo(std.dtype).tiny
    level = 0.25 * (std / alpha).clamp(min=tiny).log()
    return level.flatten(1).mean(1, keepdim=True) if level.ndim else level.view(1, 1)
