"""Mixed precision: the network in half precision, everything around it in its weights' own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from sdekit_kernels.checks import check_choice
from torch import Tensor

Score = Callable[[Tensor, Tensor], Tensor]

PRECISIONS: Final[dict[str, torch.dtype | None]] = {
    "full": None,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def quickest_precision(device: torch.device | str = "cpu") -> str:
    """The name of bfloat16 where the processor multiplies in it, of full precision elsewhere.

    On a CPU with AVX-512 BF16 a U-Net's step takes 0.6 of its time in float32; without such
    instructions it would take longer.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "full"
    known = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return "bfloat16" if device.type == "cpu" and known is not None and known() else "full"


def check_precision(precision: str, device: torch.device) -> str:
    """``precision``; raises ValueError for an unknown one, or for float16 outside of CUDA."""
    check_choice("precision", precision, PRECISIONS)
    if precision == "float16" and device.type != "cuda":
        raise ValueError(
            f"precision='float16' is for CUDA, where its gradients are scaled, not for {device}: "
            "write precision='bfloat16'"
        )
    return precision


def in_precision(score: Score, precision: str, device: torch.device) -> Score:
    """``score`` with matrix products and convolutions in this precision; its value as x is."""
    dtype = PRECISIONS[precision]
    if dtype is None:
        return score

    def mixed(t: Tensor, x: Tensor) -> Tensor:
        with torch.autocast(device.type, dtype):
            out = score(t, x)
        return out.to(x.dtype)

    return mixed


def gradient_scaler(precision: str, device: torch.device) -> torch.amp.GradScaler:
    """Scales float16's gradients into its range; does nothing for the other precisions."""
    return torch.amp.GradScaler(device.type, enabled=precision == "float16")
