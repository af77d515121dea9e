"""A small time-conditioned network for events of a few hundred components."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, final

import sdekit_kernels
import torch
from sdekit_kernels.checks import check_int_range
from torch import Tensor, nn
from torch.nn.utils import skip_init

from sdekit.noise import keys
from sdekit.score.preconditioned import Preconditioned
from sdekit.sde import AffineSDE


@final
class MLP(Preconditioned):
    r"""A score network (t, x) -> score of x's shape (B, D...), for t 0-d or (B,).

    F of ``Preconditioned`` is a residual MLP; each of ``depth`` blocks is layer norm, a linear map,
    plus a map of the time's features, SiLU, a linear map. Time enters as u = log(sigma / alpha) / 4
    and sines and cosines of ``features`` frequencies. Its last layer starts at zero, so that the
    first score is the exact one of N(offset, data_std^2) data.

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
        super().__init__(event_shape, sde=sde, data_std=data_std, seed=seed)
        self.width = check_int_range("width", width, 1, 1 << 20)
        self.depth = check_int_range("depth", depth, 1, 1 << 10)
        self.features = check_int_range("features", features, 1, 1 << 10)
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

    def network(self, level: Tensor, unit: Tensor) -> Tensor:
        """F: (B or 1, 1) and (B, D...) to (B, D...)."""
        phase = level * self.get_buffer("frequencies")
        clock = self.clock(torch.cat([level, phase.sin(), phase.cos()], 1))
        clock = nn.functional.silu(clock)
        h = self.inlet(unit.flatten(1))
        for block in self.blocks:
            h = block(h, clock)
        out: Tensor = self.outlet(nn.functional.silu(self.norm(h)))
        return out.view_as(unit)


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
