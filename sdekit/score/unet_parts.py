"""The parts of diffusers' ``UNet2DModel`` as this library uses it: sizes, building, weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import sdekit_kernels
import torch
from sdekit_kernels.checks import check_choice, check_int_range
from torch import Tensor, nn

from sdekit.noise import keys

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


def given_size(size: str, channels: Sequence[int] | None, layers: int | None) -> Size:
    """The size of this name, with these channels and layers in the place of its own.

    Raises TypeError or ValueError for an unknown name and for what are no positive integers.
    """
    named = SIZES[check_choice("size", size, SIZES)]
    return Size(
        tuple(
            check_int_range("channels", c, 1, 1 << 20)
            for c in (named.channels if channels is None else channels)
        ),
        check_int_range("layers", named.layers if layers is None else layers, 1, 1 << 10),
    )


def image_of(event_shape: tuple[int, ...], channels: tuple[int, ...]) -> tuple[int, int, int]:
    """(C, H, W) of an event (C, H, W) or (H, W) that a U-Net of these channels can take.

    Raises ValueError for an event that is no image, sides that cannot be halved so often, or
    channels that are no multiples of 8.
    """
    if len(event_shape) not in (2, 3):
        raise ValueError(
            f"a U-Net is for images, (C, H, W) or (H, W), got event_shape {event_shape}: "
            "use MLP for vectors"
        )
    colours = event_shape[0] if len(event_shape) == 3 else 1
    height, width = event_shape[-2:]
    if not channels or any(c % _GROUPS for c in channels):
        raise ValueError(
            f"channels must be multiples of {_GROUPS}, the groups of its norms, one a level, "
            f"got {channels}"
        )
    halved = 1 << (len(channels) - 1)
    if height % halved or width % halved:
        raise ValueError(
            f"images of {height} x {width} cannot be halved "
            f"{len(channels) - 1} times: both sides must be multiples of {halved}; give "
            "fewer channels, or images of another size"
        )
    return colours, height, width


def build_unet(
    inputs: int, outputs: int, size: Size, *, dtype: torch.dtype, device: torch.device | str
) -> Any:
    """The network (B, inputs, H, W), times (B,) -> (B, outputs, H, W), its weights not set yet.

    Raises ModuleNotFoundError, with what to install, without diffusers.
    """
    build: Any = _require_diffusers()
    n = len(size.channels)
    # On no device: torch's initial weights are never drawn.
    with torch.device("meta"):
        net = build(
            in_channels=inputs,
            out_channels=outputs,
            block_out_channels=size.channels,
            layers_per_block=size.layers,
            down_block_types=("DownBlock2D",) * n,
            up_block_types=("UpBlock2D",) * n,
            norm_num_groups=_GROUPS,
            attn_norm_num_groups=_GROUPS,
            attention_head_dim=size.channels[-1],
            resnet_time_scale_shift="scale_shift",
        )
    # Not its own `to`, which warns of modules that it would keep in float32: it has none.
    net = nn.Module.to(net, dtype).to_empty(device=device)
    _allow_derivatives(net)
    return net


@torch.no_grad()
def initialize_unet(net: nn.Module, seed: int) -> None:
    """Weights N(0, 1 / inputs), biases 0; the ends of all residual branches 0; norms 1.

    The normals are the library's own, one stream a layer from ``keys.INIT``. The last convolution
    is zero, and so is the network.
    """
    layers = [m for m in net.modules() if list(m.parameters(recurse=False))]
    for i, layer in enumerate(layers):
        if isinstance(layer, nn.GroupNorm):
            layer.reset_parameters()
            continue
        assert isinstance(layer, (nn.Linear, nn.Conv2d)), layer
        weight = layer.weight
        z = sdekit_kernels.normal(
            tuple(weight.shape),
            seed=seed,
            stream=keys.INIT + i,
            dtype=weight.dtype,
            device=weight.device,
        )
        weight.copy_(z / math.sqrt(weight[0].numel()))
        if layer.bias is not None:
            layer.bias.zero_()
    for name, layer in net.named_modules():
        if name.rsplit(".", 1)[-1] in ("conv2", "conv_out") or name.endswith(".to_out.0"):
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
