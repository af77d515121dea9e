"""sdekit's loop beside the schedulers of diffusers: the same numbers, and the time of a step.

The answers of both are compared first, with the same noise where there is any. The clock runs with
a model that costs nothing, so that what is timed is the step besides the network.
"""

from __future__ import annotations

from typing import Any

import pytest
import sdekit_kernels

from benchmarks.schedulers import pairs, with_our_noise

pytest.importorskip("diffusers")

STEPS = 50
SHAPES = ((64, 1, 28, 28), (64, 3, 32, 32), (4, 3, 64, 64))
PAIRS = {pair.name: pair for pair in pairs(STEPS)}


@pytest.mark.parametrize("contender", ["sdekit", "diffusers"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", PAIRS)
def test_step(clock: Any, name: str, shape: tuple[int, ...], contender: str) -> None:
    pair = PAIRS[name]
    x = pair.start * sdekit_kernels.normal(shape, seed=0)
    mine = pair.ours(False)(x)
    want = with_our_noise(pair.theirs(False), x, pair.noise)
    difference = float((mine - want).abs().max())
    run = (pair.ours if contender == "sdekit" else pair.theirs)(True)
    clock(
        lambda: run(x),
        group=f"{name}, {shape}",
        contender=contender,
        error=difference,
        limit=1e-4,
        what="largest difference of the two results",
        work=STEPS,
        unit="steps",
        seconds=1.5,
    )
