"""What ``benchmarks/bench_bridge.py`` times: both ways do the same half-step."""

from __future__ import annotations

from functools import cache

import pytest
import torch

import sdekit as sk
from benchmarks.bench_bridge import share
from benchmarks.half_step import eager
from benchmarks.half_step.cases import Case, Size, plane_ends, times
from benchmarks.half_step.ours import Ours, same_noise

SIZE = Size(2_000, 30, 256, 400)


@cache
def case() -> Case:
    def net(seed: int) -> torch.nn.Module:
        return sk.bridge.DriftMLP((2,), width=8, depth=1, seed=seed)

    return Case("small", plane_ends, net, SIZE, Size(4_000, 60, 256, 400))


@pytest.fixture(scope="module")
def ours() -> Ours:
    return Ours(case())


def test_simulations_are_those_of_plain_torch(ours: Ours) -> None:
    assert ours.explained().name == "trajectory_kernel"
    assert same_noise(ours.simulating(None)) < 1e-5
    states = ours.simulation()
    assert states.shape == (21, SIZE.paths, 2)
    torch.manual_seed(0)
    plain = eager.simulate(ours.net("forward"), plane_ends()[0][: SIZE.paths], times())
    # Means and standard deviations of 2,000 paths whose variance is below 3.
    error = 4.5 * (2.0 * 3.0 / SIZE.paths) ** 0.5
    assert float((states[-1].mean(0) - plain[-1].mean(0)).abs().max()) < error
    assert float((states[-1].std(0) - plain[-1].std(0)).abs().max()) < error


def test_regressions_reach_the_same_loss(ours: Ours) -> None:
    before = [p.clone() for p in ours.start.parameters()]
    found = ours.regression()
    torch.manual_seed(0)
    x, fixed = plane_ends()[0][: SIZE.paths], ours.net("forward")
    plain = eager.half_step(ours.start, fixed, x, times(), steps=SIZE.fits, batch=SIZE.batch)
    assert len(found) == len(plain) == SIZE.fits
    # The targets' noise, 20 a component, of which 30 batches of 256 see 15,360 squares.
    assert sum(found) / SIZE.fits == pytest.approx(sum(plain) / SIZE.fits, rel=0.06)
    assert sum(plain) / SIZE.fits == pytest.approx(20.0, rel=0.15)
    # Both leave the network as it was.
    assert all(torch.equal(a, b) for a, b in zip(before, ours.start.parameters(), strict=True))


def test_measures_are_those_of_plain_torch(ours: Ours) -> None:
    change = ours.measures().change
    assert change is not None
    torch.manual_seed(0)
    net, old = ours.net("forward"), case().net(5)
    value, error = eager.change(net, old, plane_ends()[0][:2_000], times())
    assert abs(change.value - value) < 4.5 * (change.std_error**2 + error**2) ** 0.5


def test_shares_are_those_of_a_half_step_in_earnest(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import bench_bridge

    timed = {("small", "us", part): 1.0 for part in ("simulation", "regression", "measures")}
    monkeypatch.setattr(bench_bridge, "_medians", timed)
    text = share(case(), "us")
    assert text.endswith("simulation 40.0%, regression 40.0%, measures 20.0%")
