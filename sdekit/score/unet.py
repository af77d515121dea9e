"""A U-Net for images: diffusers' ``UNet2DModel`` within this library's preconditioning."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import sdekit_kernels
import torch
from sdekit_kernels.checks import check_choice, check_int_range
from torch import Tensor, nn

from sdekit.noise import keys
from sdekit.score.preconditioned import Preconditioned
from sdekit.sde import AffineSDE

CLOCK: Final = 100.0
"""Units of the network's own time in one of u = log(sigma / alpha) / 4: its sines and cosines then
have angles from 100 u down to 0.01 u, and u spans about 4 over the usual schedules."""

_GROUPS: Final = 8


@dataclass(frozen=True, slots=True)
class Size:
    """Channels of each level, from full resolution downwards; residual blocks a level."""

    channels: tuple[int, ...]
    layers: int


SIZES: Final[dict[str, Size]] = {
    "tiny": Size((8, 16, 16), 1),
    "small": Size((16, 32, 32), 1),
    "base": Size((32, 64, 64), 1),
    "large": Size((64, 128, 128), 2),
}


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
        given = SIZES[check_choice("size", size, SIZES)]
        self.channels = tuple(
            check_int_range("channels", c, 1, 1 << 20)
            for c in (given.channels if channels is None else channels)
        )
        self.layers = check_int_range(
            "layers", given.layers if layers is None else layers, 1, 1 << 10
        )
        self._check_sizes()
        build: Any = _require_diffusers()
        n = len(self.channels)
        # On no device: torch's initial weights are never drawn.
        with torch.device("meta"):
            net = build(
                in_channels=self._image[0],
                out_channels=self._image[0],
                block_out_channels=self.channels,
                layers_per_block=self.layers,
                down_block_types=("DownBlock2D",) * n,
                up_block_types=("UpBlock2D",) * n,
                norm_num_groups=_GROUPS,
                attn_norm_num_groups=_GROUPS,
                attention_head_dim=self.channels[-1],
                resnet_time_scale_shift="scale_shift",
            )
        # Not its own `to`, which warns of modules that it would keep in float32: it has none.
        net = nn.Module.to(net, dtype).to_empty(device=device)
        _allow_derivatives(net)
        self.unet = net
        self._initialize()

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

    @property
    def _image(self) -> tuple[int, ...]:
        """(C, H, W)."""
        return self.event_shape if len(self.event_shape) == 3 else (1, *self.event_shape)

    def _check_sizes(self) -> None:
        if len(self.event_shape) not in (2, 3):
            raise ValueError(
                f"a U-Net is for images, (C, H, W) or (H, W), got event_shape {self.event_shape}: "
                "use MLP for vectors"
            )
        if not self.channels or any(c % _GROUPS for c in self.channels):
            raise ValueError(
                f"channels must be multiples of {_GROUPS}, the groups of its norms, one a level, "
                f"got {self.channels}"
            )
        halved = 1 << (len(self.channels) - 1)
        if self._image[1] % halved or self._image[2] % halved:
            raise ValueError(
                f"images of {self._image[1]} x {self._image[2]} cannot be halved "
                f"{len(self.channels) - 1} times: both sides must be multiples of {halved}; give "
                "fewer channels, or images of another size"
            )

    @torch.no_grad()
    def _initialize(self) -> None:
        """Weights N(0, 1 / inputs), biases 0; the ends of all residual branches 0; norms 1."""
        layers = [m for m in self.modules() if list(m.parameters(recurse=False))]
        for i, layer in enumerate(layers):
            if isinstance(layer, nn.GroupNorm):
                layer.reset_parameters()
                continue
            assert isinstance(layer, (nn.Linear, nn.Conv2d)), layer
            weight = layer.weight
            z = sdekit_kernels.normal(
                tuple(weight.shape),
                seed=self.seed,
                stream=keys.INIT + i,
                dtype=weight.dtype,
                device=weight.device,
            )
            weight.copy_(z / math.sqrt(weight[0].numel()))
            if layer.bias is not None:
                layer.bias.zero_()
        for name, layer in self.named_modules():
            if name.endswith((".conv2", ".to_out.0", ".conv_out")):
                layer.weight.zero_()


def _allow_derivatives(net: Any) -> None:
    """Make forward-mode and second derivatives possible, which divergences and losses take.

    The fused attention has neither: matrix products instead. Group norms have the forward mode for
    contiguous images alone, and convolutions may return others.
    """
    from diffusers.models.attention_processor import AttnProcessor

    for module in net.modules():
        if hasattr(module, "set_processor"):
            module.set_processor(AttnProcessor())
            # It would make float32 of float64; of half precision autocast makes float32 anyway.
            module.upcast_softmax = False
        if isinstance(module, nn.GroupNorm):
            module.register_forward_pre_hook(_contiguous)


def _contiguous(_: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(x.contiguous() for x in arguments)


def _require_diffusers() -> Any:
    """diffusers' ``UNet2DModel``."""
    try:
        from diffusers import UNet2DModel
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'the U-Net is built from diffusers, which is not installed: write pip install "sdekit['
            'images]"'
        ) from error
    return UNet2DModel
