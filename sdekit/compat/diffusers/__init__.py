"""diffusers' networks and schedulers as (sde, score), and this library's samplers as a scheduler.

``SdekitScheduler`` imports diffusers when it is first named; the rest needs diffusers only to load
a folder, since networks and configurations are handed in.
"""

from __future__ import annotations

from typing import Any

from sdekit.compat.diffusers.network import DiffusersScore, from_diffusers
from sdekit.compat.diffusers.pipeline import load_pipeline

__all__ = ["DiffusersScore", "SdekitScheduler", "from_diffusers", "load_pipeline"]


def __getattr__(name: str) -> Any:
    if name == "SdekitScheduler":
        from sdekit.compat.diffusers.scheduler import SdekitScheduler

        return SdekitScheduler
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
