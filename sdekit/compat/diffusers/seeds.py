"""The seeds of a scheduler's runs: drawn from the user's generators, or counted."""

from __future__ import annotations

import hashlib
from typing import Any

import torch

__all__ = ["run_seeds"]


def run_seeds(generator: Any, seed: int, run: int, images: int) -> list[int]:
    """One seed for all images of a run, or one an image.

    generator: one, which gives the seed and is moved on by that, so that its next run is another;
    a list of ``images`` of them, one an image; None for the seed of run 0, 1, .. of this scheduler:
    ``seed`` itself, then hashes of it and the run.
    Raises TypeError for another generator, ValueError for a list of another length.
    """
    if isinstance(generator, list | tuple):
        if len(generator) not in (1, images):
            raise ValueError(f"there are {len(generator)} generators for {images} images")
        return [_drawn(g) for g in generator]
    if generator is not None:
        return [_drawn(generator)]
    if run == 0:
        return [seed]
    digest = hashlib.blake2b(f"{seed} {run}".encode(), digest_size=8).digest()
    return [int.from_bytes(digest, "little")]


def _drawn(generator: Any) -> int:
    """63 bits. The only place that asks torch for randomness: the user's generator, for a seed."""
    if not hasattr(generator, "initial_seed"):
        raise TypeError(f"generator must be a torch.Generator, got {type(generator).__name__}")
    most, device = 2**63 - 1, generator.device
    return int(torch.randint(0, most, (), generator=generator, device=device, dtype=torch.int64))
