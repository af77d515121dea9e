"""The studies of bridges: their laws, their table, and that they go on where they stopped."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from sdekit_kernels import normal

from benchmarks.bridges import gaussians, plane
from benchmarks.bridges.exact_energy import bridge_energy
from benchmarks.bridges.report import gaussian_table, plane_table
from benchmarks.bridges.sets import SETS, points
from benchmarks.bridges.store import Store
from benchmarks.bridges.transport import plane_wasserstein2
from sdekit.bridge import BridgeMatching, Cache, LeastSquares
from sdekit.bridge.closed_form import gaussian_bridge
from sdekit.bridge.measures import wasserstein2

ABOUT = {"machine": "a machine", "torch": "2"}

# E x, E y, E x^2, E y^2 of the targets, from integrals of sines and cosines.
MOMENTS = {
    "moons": (0.0, 0.5, 4.0 * (1.0 + 0.0025) - 1.0, 4.0 * (0.625 - 1.0 / math.pi + 0.0025)),
    "s-curve": (0.0, 0.0, 2.25 * 0.5025, 2.25 * (1.5 + 4.0 / (3.0 * math.pi) + 0.0025)),
    "8 gaussians": (0.0, 0.0, 12.5 + 1.0, 12.5 + 1.0),
    "8 narrow gaussians": (0.0, 0.0, 12.5 + 0.1**0.5, 12.5 + 0.1**0.5),
}


@pytest.mark.parametrize("name", list(MOMENTS))
def test_moments_of_the_targets(name: str) -> None:
    # 4 standard errors of 40 000 points.
    x = points(SETS[name][1], 40_000, seed=1, held_out=True).double()
    values = torch.cat([x, x.square()], 1)
    errors = values.std(0) / 200.0
    expected = torch.tensor(MOMENTS[name], dtype=torch.float64)
    assert bool(((values.mean(0) - expected).abs() < 4 * errors).all())


def test_seeds_ends_and_held_out_points_differ() -> None:
    source, target = plane.ends("8 gaussians", 0, held_out=False)
    others = [
        *plane.ends("8 gaussians", 0, held_out=True),
        *plane.ends("8 gaussians", 1, held_out=False),
    ]
    assert source.shape == target.shape == (10_000, 2)
    for other in others:
        assert not torch.equal(source, other) and not torch.equal(target, other)
    # Source and target of one family have normals of their own.
    wide, eight = plane.ends("moons to 8 gaussians", 0, held_out=False)
    inner = torch.corrcoef(torch.cat([wide, eight], 1).T)[:2, 2:]
    assert float(inner.abs().max()) < 4 / 100.0


def test_the_energy_along_euler_paths() -> None:
    # Affine drifts between a point set and its shift by (3, 4): a flow of constant speed 5.
    x = points(SETS["moons"][1], 500, seed=1, held_out=False)
    y = x + torch.tensor([3.0, 4.0])
    bridge = BridgeMatching(
        x,
        y,
        start="ot",
        steps=10,
        regression=LeastSquares(),
        cache=Cache(paths=1_024),
        measure=0,
        seed=1,
    )
    bridge.fit()
    moved, energy = plane.along_flow(bridge, x)
    assert float((moved.mean(0) - y.mean(0)).norm()) < 0.3
    assert energy == pytest.approx(25.0, rel=0.1)


def test_the_auction_gives_the_exact_distance() -> None:
    x = points(SETS["moons"][1], 400, seed=1, held_out=False)
    for name in ("moons", "8 gaussians"):
        y = points(SETS[name][1], 400, seed=2, held_out=True)
        found, above = plane_wasserstein2(x, y)
        exact = wasserstein2(x, y)
        assert exact - 1e-9 <= found <= exact + above
        assert above < 1e-3 * exact
    assert plane_wasserstein2(x, x.flip(0))[0] < 1e-6
    with pytest.raises(ValueError, match="one size"):
        plane_wasserstein2(x, x[:300])


def test_a_study_goes_on(tmp_path: Path) -> None:
    target = tmp_path / "study.json"
    row: dict[str, Any] = {"algorithm": "DSB", "d": 5, "seed": 0, "cpu": 1.0}
    row |= {way: {"diagonal": 1e-3, "full": 2e-3} for way in ("forward", "backward")}
    first = Store(target, ABOUT, gaussian_table)
    first.add(row)
    again = Store(target, ABOUT, gaussian_table)
    assert again.has(algorithm="DSB", d=5, seed=0) and not again.has(algorithm="DSB", d=5, seed=1)
    assert json.loads(target.read_text())["rows"] == [row]
    text = target.with_suffix(".md").read_text()
    assert "| 5 | DSB | 1.00 | 3.26 ± 1.6 | 0.50 | 2.00 | 1.00 | 1 | 1 |" in text
    assert Store(target, ABOUT | {"torch": "3"}, gaussian_table).rows == []


def test_the_table_of_the_plane() -> None:
    row = {"algorithm": "DSBM", "set": "moons", "steps": 20, "cpu": 20.0, "energy": 1.2}
    rows = [row | {"seed": s, "sde": 0.01 * s, "flow": 0.1 + 0.02 * s} for s in (0, 1, 5)]
    rows += [
        {
            "algorithm": "held out",
            "set": "moons",
            "seed": s,
            "ends": 1.0,
            "floor": 0.05,
            "plan": 0.07,
        }
        for s in (0, 1, 5)
    ]
    last = plane_table(ABOUT, rows).splitlines()[-1]
    assert last == (
        "| moons | DSBM | 20 | 1 | 0.050 | 0.050 | 0.005 ± 0.007 | 0.144 ± 0.024 | 0.140 ± 0.053 "
        "| 0.050 ± 0.000 | 0.070 ± 0.000 | 0.200 ± 0.000 | 0.230 ± 0.028 | 20 | 3 |"
    )


def test_the_floors_are_below_what_is_published_but_for_full_covariances() -> None:
    for published in gaussians.PUBLISHED.values():
        for d, (mean, _) in published.items():
            assert gaussians.floors(d)["diagonal"] < 1e-3 * mean
    assert gaussians.floors(50)["full"] > 1e-3 * gaussians.PUBLISHED["DSB"][50][0]


def test_the_energy_of_the_bridge_itself() -> None:
    # N(0, I) to N((2, 0), I / 4), sigma 1: between Gaussians the velocity is affine, and known.
    z, y = (normal((800, 2), seed=s, dtype=torch.float64) for s in (1, 2))
    mean = torch.tensor([2.0, 0.0], dtype=torch.float64)
    exact = gaussian_bridge(torch.zeros(2), torch.eye(2), mean, 0.25 * torch.eye(2), 1.0)
    want = 0.0
    for k in range(50):
        law, flow = exact.marginal((k + 0.5) / 50), exact.flow((k + 0.5) / 50)
        moved = flow.matrix @ law.mean + flow.shift
        want += float(moved.square().sum() + (flow.matrix @ law.cov @ flow.matrix.mT).trace()) / 50
    found = bridge_energy(z, mean + 0.5 * y, seed=3)
    # The clouds' means are off by 0.035 each: 2 * 2 * 0.05 = 0.2 of 4.3.
    assert found == pytest.approx(want, abs=0.6)
