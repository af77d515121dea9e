"""What the exact divergence of a wide network needs at its peak: a process of its own.

    python -m benchmarks.likelihood.memory_child

Prints one line of JSON: for each of ``ASKED`` the bytes at the peak beyond what was there, seconds,
and the largest difference from the divergence by eight directions at a time, relative to that.
"""

from __future__ import annotations

import json
import sys
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

import sdekit as sk
from benchmarks.memory import peak_memory
from sdekit.likelihood import field_divergence

DIM, BATCH, WIDTH, DEPTH = 784, 16, 128, 2
ASKED: dict[str, dict[str, int]] = {
    **{f"chunk={size}": {"chunk": size} for size in (8, 64, DIM)},
    **{f"memory={size} MiB": {"memory": size << 20} for size in (8, 32, 128)},
}


def main() -> int:
    """No arguments."""
    sde = sk.VP()
    net = sk.score.MLP((DIM,), WIDTH, DEPTH, sde=sde, data_std=0.5, seed=0).requires_grad_(False)
    x = sk.score.Gaussian(0.0, 0.5, sde).sample(BATCH, seed=0, event_shape=(DIM,))
    t = torch.tensor(0.3)

    def divergence(asked: dict[str, int]) -> Tensor:
        with torch.no_grad():
            return field_divergence(lambda y: net(t, y), x, **asked)[1]

    # Threads and machine code are there afterwards.
    truth = divergence({"chunk": 8})
    found: dict[str, dict[str, Any]] = {}
    for name, asked in ASKED.items():
        began = perf_counter()
        value = divergence(asked)
        seconds = perf_counter() - began
        error = float(((value - truth) / truth).abs().max())
        peak = peak_memory(lambda asked=asked: divergence(asked))
        found[name] = {"peak": peak, "seconds": seconds, "error": error}
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
