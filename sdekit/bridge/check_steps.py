"""Whether the steps of a grid are short enough where its paths arrive."""

from __future__ import annotations

import warnings
from typing import Final

from sdekit.bridge.counters import MEASURED
from sdekit.bridge.grid import Direction, opposite
from sdekit.bridge.monitor import BridgeWarning
from sdekit.bridge.trajectories import chain_noise
from sdekit.bridge.transport import Transport

DRAWN: Final = 1_000
"""Points of an end that tell its size."""
WAYS: Final[tuple[Direction, Direction]] = ("forward", "backward")


def warn_of_loud_steps(transport: Transport, seed: int) -> None:
    """A ``BridgeWarning`` for a last step whose noise is larger than what it arrives at.

    No drift takes that noise away again: a VP or VE equation, whose g is largest at T, needs steps
    that are short there.
    """
    if transport.reference is None:
        return
    for way in WAYS:
        end, grid = transport.end(opposite(way)), transport.grid
        points = end.draw(seed, MEASURED, 0, DRAWN).double().flatten(1)
        size = float(points.var(0, correction=0).mean().sqrt())
        g = chain_noise(grid, transport.reference, way, transport.noise, end.like)[-1]
        noise = float((g.square().mean() * grid.lengths(way)[-1].to(g.device)).sqrt())
        if noise <= size:
            continue
        warnings.warn(
            f"the last step {way} adds noise of std {noise:.3g} to points whose own std is "
            f'{size:.3g}, and nothing takes it away: write gammas="ramp" (short steps at both '
            "ends), more steps=, or a reference with less noise there",
            BridgeWarning,
            stacklevel=4,
        )
