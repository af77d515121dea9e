"""A U-Net for images: diffusers' ``UNet2DModel`` within this library's preconditioning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, final

import torch
from torch import Tensor

from sdekit.score.preconditioned import Preconditioned
from sdekit.score.unet_parts import SIZES, build_unet, given_size, image_of, initialize_unet
from sdekit.sde import AffineSDE

__all__ = ["CLOCK", "SIZES", "UNet"]

CLOCK: Final = 100.0
"""Units of the network's own time in one of u = log(sigma / alpha) / 4: its sines and cosines then
have angles from 100 u down to 0.01 u, and u spans about 4 over the usual schedules."""


@final
class UNet(Preconditioned):
    r"""A score network (t, x) -> score for images x (B, C, H, W), or (B, H, W) of one channel.

    F of ``Preconditioned`` is the U-Net of Ho et al. 2020 as diffusers writes it: on each level of
    resolution, halved from one to the next, ``layers`` residual blocks (group norm, SiLU, 3 x 3
    convolution, twice, scale and shift by the time's features between); one block of self-attention
    at the lowest. The last convolution of F and of each residual block starts at zero, so that the
    first score is the exact one of N(offset, data_std^2) images.

    size: "tiny" (0.08 M weights), "small" (0.3 M: in the same minutes on two CPU cores it reaches a
    lower held-out loss than larger ones), "base" (1.1 M), "large" (6.6 M); ``channels``, ``layers``
    replace its numbers. seed: of the initial weights, normals of variance 1 / inputs from the
    library's own noise, one stream a parameter from ``keys.INIT``: torch's generator is not asked,
    so that a network is a function of its arguments.

    Raises ModuleNotFoundError, with what to install, without diffusers; TypeError or ValueError for
    an event that is no image, sides that cannot be halved so often, or channels that are no
    multiples of 8.
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        *,
        sde: AffineSDE,
        size: str = "small",
        channels: Sequence[int] | None = None,
        layers: int | None = None,
        data_std: float = 1.0,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(event_shape, sde=sde, data_std=data_std, seed=seed)
        given = given_size(size, channels, layers)
        self.channels, self.layers = given.channels, given.layers
        self._image = image_of(self.event_shape, self.channels)
        self.unet = build_unet(self._image[0], self._image[0], given, dtype=dtype, device=device)
        initialize_unet(self.unet, seed)

    def network(self, level: Tensor, unit: Tensor) -> Tensor:
        """F: (B or 1, 1) and (B, D...) to (B, D...)."""
        images = unit.view(-1, *self._image)
        clock = (CLOCK * level).flatten().expand(images.shape[0])
        out: Tensor = self.unet(images, clock, return_dict=False)[0]
        return out.reshape(unit.shape)

    def config(self) -> dict[str, Any]:
        """What ``UNet(**config, sde=sde)`` needs to build this network again: plain values."""
        return {
            "event_shape": list(self.event_shape),
            "channels": list(self.channels),
            "layers": self.layers,
            "data_std": self.data_std,
            "seed": self.seed,
        }
