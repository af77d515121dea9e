"""A U-Net for the drifts of a bridge between images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, final

import torch
from sdekit_kernels.checks import check_int_range, check_positive
from torch import Tensor, nn

from sdekit.bridge.grid import Direction
from sdekit.score.unet_parts import build_unet, given_size, image_of, initialize_unet
from sdekit.sde import as_time
from sdekit.train.precision import check_precision, in_precision

CLOCK: Final = 100.0
"""The network's own time at T: its sines and cosines have angles from 100 t / T downwards."""


@final
class DriftUNet(nn.Module):
    r"""F(t, x) of diffusers' U-Net (see ``sdekit.score.UNet``), for images (B, C, H, W), (B, H, W).

    The drift is v = s F, with the spread of what it is fitted to,

        s(t)^2 = scale^2 + sigma^2 p / (T q),   p, q: the time behind x and before it (p + q = T),

    so that F has outputs of unit size at all times: the target of bridge matching with sigma dW,
    (x_T - x) / (T - t) forward, consists of the ends' distance and of noise of that second
    variance. sigma = 0 is for chains, where s is the noise of a step divided by its length.
    ``forward`` gives F; ``drift_unit`` is 1 / s, from which ``NetworkDrift`` knows v.

    drifts: 1, or 2 for a network of both directions, whose output is (B, 2, D...). size: of
    ``sdekit.score.UNet``; channels, layers replace its numbers. precision: of the products,
    "full" or "bfloat16", in training and in simulation. seed: of the initial weights, as there; the
    last convolution is zero, so that the first drift is.
    Raises as ``sdekit.score.UNet`` does, and for another precision.
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        *,
        drifts: int = 1,
        size: str = "small",
        channels: Sequence[int] | None = None,
        layers: int | None = None,
        T: float = 1.0,
        scale: float = 1.0,
        sigma: float = 0.0,
        precision: str = "full",
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__()
        self.event_shape = tuple(check_int_range("event_shape", d, 1, 1 << 31) for d in event_shape)
        self.drifts = check_int_range("drifts", drifts, 1, 3)
        self.size = given_size(size, channels, layers)
        self._image = image_of(self.event_shape, self.size.channels)
        self.T, self.scale = check_positive("T", T), check_positive("scale", scale)
        self.sigma = check_positive("sigma", sigma, allow_zero=True)
        self.precision = check_precision(precision, torch.device(device))
        self.seed = check_int_range("seed", seed, 0, 1 << 64)
        colours = self._image[0]
        self.unet = build_unet(
            colours, colours * self.drifts, self.size, dtype=dtype, device=device
        )
        initialize_unet(self.unet, self.seed)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        """F: (B, D...) for x (B, D...), or (B, 2, D...); t is 0-d or (B,)."""
        if tuple(x.shape[1:]) != self.event_shape:
            raise ValueError(
                f"this network is for events of shape {self.event_shape}, x has {tuple(x.shape)}"
            )
        out = in_precision(self._network, self.precision, x.device)(as_time(t, x), x)
        return out.reshape(len(x), *([2] if self.drifts == 2 else []), *self.event_shape)

    def _network(self, t: Tensor, x: Tensor) -> Tensor:
        images = x.reshape(-1, *self._image)
        clock = (CLOCK / self.T * t).to(x.dtype).reshape(-1).expand(len(images))
        out: Tensor = self.unet(images, clock, return_dict=False)[0]
        return out

    def drift_unit(self, t: Tensor, direction: Direction) -> Tensor:
        """1 / s(t), of t's shape; 0 at the time at which a direction arrives, for sigma > 0."""
        if self.sigma == 0.0:
            return torch.full_like(t, 1.0 / self.scale)
        before = self.T - t if direction == "forward" else t
        noise = self.sigma**2 / self.T * (self.T - before)
        return (before / (self.scale**2 * before + noise)).sqrt()

    def config(self) -> dict[str, Any]:
        """What ``DriftUNet(**config)`` needs to build this network again: plain values."""
        return {
            "event_shape": list(self.event_shape),
            "drifts": self.drifts,
            "channels": list(self.size.channels),
            "layers": self.size.layers,
            "T": self.T,
            "scale": self.scale,
            "sigma": self.sigma,
            "precision": self.precision,
            "seed": self.seed,
        }
