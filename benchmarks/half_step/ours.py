"""The parts of the library's half-step, each as one call."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

import sdekit as sk
from benchmarks.half_step.cases import GRID, Case, times
from sdekit.bridge.drifts import NetworkDrift
from sdekit.bridge.monitor import measure
from sdekit.bridge.state import Measures
from sdekit.bridge.trajectories import Motion


class Ours:
    """A bridge of ``case`` after its first two half-steps, so that both networks are there."""

    def __init__(self, case: Case) -> None:
        self.case = case
        source, target = case.ends()
        self.bridge = sk.bridge.DSB(
            source,
            target,
            steps=GRID,
            matching="drift",
            first="paths",
            # As the plain loop does it, and as it was published.
            antithetic=False,
            nets=(case.net(0), case.net(1)),
            regression=sk.bridge.Adam(steps=case.size.fits, batch=case.size.batch),
            cache=sk.bridge.Cache(paths=case.size.paths),
            half_steps=1 << 12,
            measure=case.size.measured,
            fuse=False,
        )
        for _ in range(2):
            self.bridge.advance()
        self.start = copy.deepcopy(self.net("backward"))
        self._problem: Any = None

    def simulating(self, fuse: bool | None) -> Ours:
        """Itself, its simulations as for ``sk.solve(fuse=...)`` from here on."""
        self.bridge.transport.fuse = fuse
        return self

    def net(self, direction: str) -> nn.Module:
        """The network of a direction."""
        drift = self.bridge.transport.drift("forward" if direction == "forward" else "backward")
        assert isinstance(drift, NetworkDrift)
        return drift.net

    def simulation(self) -> Tensor:
        """All states of a cache's paths."""
        return self.bridge.sample(self.case.size.paths, paths=True, seed=7)

    def regression(self) -> list[float]:
        """Adam on a cache that is there already; the network itself is left as it is."""
        if self._problem is None:
            self._problem = self.bridge.problem(3)
            self._problem.batch(0, min(self.case.size.batch, self._problem.most))
        drift = NetworkDrift(copy.deepcopy(self.start), self.bridge.grid, "backward")
        regression = self.bridge.regression
        assert isinstance(regression, sk.bridge.Adam)
        return regression.fit(self._problem, drift)

    def measures(self) -> Measures:
        """The measures after a half-step that fitted the forward drift, from none at all."""
        last = NetworkDrift(self.case.net(5), self.bridge.grid, "forward")
        transport, paths = self.bridge.transport, self.case.size.measured
        return measure(transport, "forward", last, Measures(), paths=paths, seed=8)

    def whole(self) -> list[float]:
        """The next half-step."""
        return list(self.bridge.advance().losses)

    def explained(self) -> Any:
        """How a simulation runs that is free to choose, and why."""
        bridge = self.bridge
        drift = bridge.transport.drift("forward")
        motion = Motion(bridge.grid, bridge.reference, drift, "forward", bridge.noise)
        with torch.no_grad():
            return sk.explain(motion, x0=self.case.ends()[0][:8])


def same_noise(ours: Ours) -> float:
    """Relative error of a few simulated paths against plain torch in float64 on the same noise."""
    from sdekit_kernels import normal

    from sdekit.bridge.counters import path_number
    from sdekit.noise import keys

    count, grid = 64, times().double()
    x0 = ours.case.ends()[0][:count]
    found = ours.bridge.sample(x0, seed=9)
    exact, x = copy.deepcopy(ours.net("forward")).double(), x0.double()
    first = path_number(0, 0)
    with torch.no_grad():
        for k in range(GRID):
            dt = grid[k + 1] - grid[k]
            z = normal(tuple(x0.shape), seed=9, stream=keys.PATH, step=k, first_sample=first)
            x = x + dt * exact(grid[k], x) + dt.sqrt() * z.double()
    return float((found.double() - x).norm() / x.norm())
