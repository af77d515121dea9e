"""What every Triton launch shares."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

__all__ = ["on_device"]


def on_device(device: torch.device) -> AbstractContextManager[object]:
    """Make ``device`` current: Triton launches on the current GPU, not on that of its arguments."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()
