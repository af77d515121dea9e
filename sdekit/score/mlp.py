"""A small time-conditioned network for events of a few hundred components."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, final

import sdekit_kernels
import torch
from sdekit_kernels.checks import check_int_range, check_positive
from torch import Tensor, nn
from torch.nn.utils import skip_init

from sdekit.noise import keys
from sdekit.sde import AffineSDE, as_time, expand


@final
class MLP(nn.Module):
    r"""A score network (t, x) -> score of x's shape (B, D...), for t 0-d or (B,).

    With y = x - offset, s_d = ``data_std`` and n = sqrt(alpha^2 s_d^2 + sigma^2), the std of x_t
    for such data:

        eps = (sigma / n) (y / n) + (alpha s_d / n) F(y / n, log(sigma / alpha)),
        score = -eps / sigma,

    which is the preconditioning of Karras et al. 2022 written for the noise, and the v of Salimans
    & Ho 2022 for VP with s_d = 1: the network F sees inputs and has targets of unit size at every
    level of noise. Its last layer starts at zero, so that the first score is the exact one of
    N(offset, s_d^2) data.

    F: a residual MLP; each of ``depth`` blocks is layer norm, a linear map, plus a map of the
    time's features, SiLU, a linear map. Time enters as u = log(sigma / alpha) / 4 and sines and
    cosines of ``features`` frequencies.

    event_shape: D... width: of the hidden layers. dtype: of the weights, which x must share. seed:
    of the initial weights, He-scaled normals from the library's own noise, one stream a parameter
    from ``keys.INIT``.
    Raises TypeError or ValueError for sizes that are no positive integers, an event without axes,
    or a seed that is no integer.
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        width: int = 128,
        depth: int = 3,
        *,
        sde: AffineSDE,
        features: int = 16,
        data_std: float = 1.0,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
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
        self.width = check_int_range("width", width, 1, 1 << 20)
        self.depth = check_int_range("depth", depth, 1, 1 << 10)
        self.features = check_int_range("features", features, 1, 1 << 10)
        self.data_std = check_positive("data_std", data_std)
        self.seed = check_int_range("seed", seed, 0, 1 << 64)
        d = math.prod(self.event_shape)
        like: dict[str, Any] = {"dtype": dtype, "device": device}
        # u spans about 4 over the usual schedules: from a quarter of a period to eight of them.
        spectrum = 2 * math.pi * torch.logspace(-4, 1, self.features, base=2.0, **like)
        self.register_buffer("frequencies", spectrum, persistent=False)
        self.inlet = _linear(d, self.width, like)
        self.clock = _linear(2 * self.features + 1, self.width, like)
        self.blocks = nn.ModuleList(_Block(self.width, like) for _ in range(self.depth))
        self.norm = nn.LayerNorm(self.width, **like)
        self.outlet = _linear(self.width, d, like)
        self._initialize()

    @torch.no_grad()
    def _initialize(self) -> None:
        """Weights N(0, 1 / inputs), biases 0; the last layer 0, layer norms as they come."""
        linear = [m for m in self.modules() if isinstance(m, nn.Linear)]
        for i, layer in enumerate(linear):
            layer.bias.zero_()
            z = sdekit_kernels.normal(
                tuple(layer.weight.shape),
                seed=self.seed,
                stream=keys.INIT + i,
                dtype=layer.weight.dtype,
                device=layer.weight.device,
            )
            layer.weight.copy_(z / math.sqrt(layer.in_features))
        self.outlet.weight.zero_()

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
        raw = self._network(self._level(alpha, std), unit.flatten(1)).view_as(x)
        # sigma cancels from the first term, so that only the network's part is divided by it.
        return -(unit + alpha * self.data_std / std * raw) / norm

    def config(self) -> dict[str, Any]:
        """What ``MLP(**config, sde=sde)`` needs to build this network again: plain values."""
        return {
            "event_shape": list(self.event_shape),
            "width": self.width,
            "depth": self.depth,
            "features": self.features,
            "data_std": self.data_std,
            "seed": self.seed,
        }

    def _level(self, alpha: Tensor, std: Tensor) -> Tensor:
        """``u`` = log(sigma / alpha) / 4, averaged over components that differ: (B or 1, 1)."""
        tiny = torch.finfo(std.dtype).tiny
        level = 0.25 * (std / alpha).clamp(min=tiny).log()
        return level.flatten(1).mean(1, keepdim=True) if level.ndim else level.view(1, 1)

    def _network(self, level: Tensor, h: Tensor) -> Tensor:
        """F: (B or 1, 1) and (B, D) to (B, D)."""
        phase = level * self.get_buffer("frequencies")
        clock = self.clock(torch.cat([level, phase.sin(), phase.cos()], 1))
        clock = nn.functional.silu(clock)
        h = self.inlet(h)
        for block in self.blocks:
            h = block(h, clock)
        out: Tensor = self.outlet(nn.functional.silu(self.norm(h)))
        return out

    def _check(self, x: Tensor) -> None:
        if tuple(x.shape[1:]) != self.event_shape:
            raise ValueError(
                f"this network is for events of shape {self.event_shape}, but x has shape "
                f"{tuple(x.shape)}: it must be (B, {', '.join(map(str, self.event_shape))})"
            )
        if x.dtype != self.outlet.weight.dtype:
            raise TypeError(
                f"x is {x.dtype}, but the network's weights are {self.outlet.weight.dtype}: "
                f"write x.to({self.outlet.weight.dtype}) or convert the network"
            )


def _linear(inputs: int, outputs: int, like: dict[str, Any]) -> nn.Linear:
    """A linear layer whose weights are not drawn: torch's own draws are no part of the seed."""
    build: Any = skip_init
    layer: nn.Linear = build(nn.Linear, inputs, outputs, **like)
    return layer


class _Block(nn.Module):
    """h + W2 silu(W1 norm(h) + W3 clock)."""

    def __init__(self, width: int, like: dict[str, Any]) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, **like)
        self.first = _linear(width, width, like)
        self.clock = _linear(width, width, like)
        self.second = _linear(width, width, like)

    def forward(self, h: Tensor, clock: Tensor) -> Tensor:
        """(B, width) and (B or 1, width) to (B, width)."""
        out: Tensor = h + self.second(
            nn.functional.silu(self.first(self.norm(h)) + self.clock(clock))
        )
        return out
