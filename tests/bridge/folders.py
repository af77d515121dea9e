"""Small bridges for the tests of folders: each fit takes a fraction of a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sdekit_kernels
import torch
from torch import Tensor

from sdekit.bridge import DSB, DSBM, Adam, Cache, DriftMLP, LeastSquares
from sdekit.bridge.driver import Driver
from sdekit.bridge.keeper import Keeper
from sdekit.bridge.transport import Transport
from sdekit.train.budget import Budget
from sdekit.train.learner import Learner

X = sdekit_kernels.normal((100, 2), seed=1, stream=9)
Y = 1.0 + 0.5 * sdekit_kernels.normal((100, 2), seed=2, stream=9)


def net(direction: str = "forward", **more: Any) -> DriftMLP:
    return DriftMLP((2,), **({"width": 8, "depth": 1, "seed": len(direction)} | more))


def make(algorithm: str, ends: tuple[Any, Any] = (X, Y), **more: Any) -> Driver:
    """A bridge of 3 half-steps of 20 steps each, over 5 steps of time.

    algorithm: "dsb", "dsbm"; "one net" and "both", DSBM's, by turns and with two caches; "fresh"
    and "least squares", DSB's.
    """
    options: dict[str, Any] = {
        "steps": 5,
        "cache": Cache(paths=64, refresh=11),
        "half_steps": 3,
        "measure": 8,
        "seed": 1,
        "fuse": False,
        "regression": Adam(steps=20, batch=16),
    }
    if algorithm == "least squares":
        options |= {"regression": LeastSquares(), "first": "paths"}
    elif algorithm in ("one net", "both"):
        options |= {"nets": net(drifts=2)}
    elif not more.keys() & {"nets", "make_net"} and not isinstance(
        more.get("regression"), LeastSquares
    ):
        options |= {"make_net": net}
    if algorithm == "fresh":
        options |= {"fresh": True}
    if algorithm == "both":
        options |= {"sweep": "both"}
    kind: Any = DSBM if algorithm in ("dsbm", "one net", "both") else DSB
    made: Driver = kind(*ends, **options | more)
    return made


def samples(bridge: Driver | Transport) -> Tensor:
    """The bits of both drifts, as far as there, and the ranges of their networks."""
    made = bridge if isinstance(bridge, Transport) else bridge.transport
    drifts = {"forward": made.forward, "backward": made.backward}
    ways = [way for way, drift in drifts.items() if drift is not None]
    moved = [made.sample(X.to(made.ends[0].like), direction=way, method="sde") for way in ways]
    nets = [getattr(drifts[way], "net", None) for way in ways]
    seen = [
        torch.stack([net.get_buffer("low"), net.get_buffer("high")])
        for net in nets
        if isinstance(net, DriftMLP)
    ]
    return torch.cat([*moved, *seen])


class Crash(Exception):
    pass


class Crashing:
    """Within the block a fit crashes after so many steps of its regressions, all together."""

    def __init__(self, at: int) -> None:
        self.left, self._after = at, Keeper.after

    def __enter__(self) -> None:
        def after(keeper: Keeper, learner: Learner, budget: Budget) -> None:
            self._after(keeper, learner, budget)
            self.left -= 1
            if self.left == 0:
                raise Crash

        Keeper.after = after  # type: ignore[method-assign]

    def __exit__(self, kind: Any, *_: Any) -> bool:
        Keeper.after = self._after  # type: ignore[method-assign]
        assert kind is Crash, kind
        return True


def begun(folder: Path, algorithm: str = "dsb", at: int = 33, **more: Any) -> Driver:
    """A fit that crashed; with 33, in half-step 2 after its checkpoint of step 10."""
    bridge = make(algorithm, **more)
    with Crashing(at):
        bridge.fit(folder=folder, save_steps=5)
    return bridge
