"""The one function that simulates: how it is done changes no path."""

from __future__ import annotations

from typing import Any

import pytest
import sdekit_kernels
import torch

from sdekit.bridge import DriftMLP, NetworkDrift, time_grid, trajectories
from sdekit.bridge.drifts import Drift, ReferenceDrift
from sdekit.sde import OU


def network() -> NetworkDrift:
    net = DriftMLP((2,), width=3, depth=1)
    with torch.no_grad():
        for i, p in enumerate(net.parameters()):
            p.add_(0.3 * sdekit_kernels.normal((1, p.numel()), seed=i).view_as(p))
    return NetworkDrift(net.requires_grad_(False), time_grid(5, 1.0), "forward")


def test_networks_go_step_by_step_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    module: Any = sys.modules["sdekit.bridge.trajectories"]
    seen: list[Any] = []

    def solve(*args: Any, **options: Any) -> Any:
        solved = kept(*args, **options)
        seen.append((options["fuse"], solved.stats.path))
        return solved

    kept = module.solve
    monkeypatch.setattr(module, "solve", solve)
    reference, grid = OU(0.5, 0.1, 0.8), time_grid(5, 1.0)
    x = sdekit_kernels.normal((40, 2), seed=1)

    def run(drift: Drift, fuse: bool | None) -> torch.Tensor:
        return trajectories(grid, reference, drift, x, "forward", seed=3, fuse=fuse)

    net = network()
    unasked, steps, whole = (run(net, fuse) for fuse in (None, False, True))
    assert [path for _, path in seen] == ["step_kernel", "step_kernel", "trajectory_kernel"]
    assert torch.equal(unasked, steps)
    assert torch.allclose(whole, steps, atol=2e-6)
    assert float((steps[-1] - run(ReferenceDrift(reference), False)[-1]).abs().max()) > 0.1
    # Closed forms are traced: nothing was asked, and nothing is decided here.
    run(ReferenceDrift(reference), None)
    assert seen[-1] == (None, "trajectory_kernel")
