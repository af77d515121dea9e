"""Samples back from where samples arrived, and what is measured where data are few."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sdekit_kernels
import torch
from torch import Tensor

from sdekit.bridge import (
    DSBM,
    Adam,
    Cache,
    DriftMLP,
    LeastSquares,
    bridge_matching,
    flow_matching,
    time_grid,
)
from sdekit.bridge.closed_form import sinkhorn
from sdekit.bridge.couplings import Coupled
from sdekit.bridge.ends import two_ends
from sdekit.bridge.grid import Direction
from sdekit.bridge.matching_problems import BridgeProblem
from sdekit.sde import Brownian
from sdekit.train import CheckpointError

SMALL: dict[str, Any] = dict(
    regression=LeastSquares(), cache=Cache(paths=4_000), steps=20, measure=0, fuse=False
)


def normals(n: int, seed: int) -> Tensor:
    return sdekit_kernels.normal((n, 1), seed=seed, stream=9, dtype=torch.float64)


def test_back_from_where_a_path_arrived_is_another_brownian_motion() -> None:
    bridge = DSBM(normals(4_000, 1), normals(4_000, 2), half_steps=4, **SMALL)
    bridge.fit()
    start = normals(4_000, 3)
    back = bridge.sample(bridge.sample(start), direction="backward")
    # By one and the same Brownian motion the variance is 1.8; its std error is 0.022.
    assert float(back.var()) == pytest.approx(1.0, abs=0.1)
    # The correlation is the square of the coupling's, (sqrt(5) - 1) / 2; its std error is 0.014.
    assert float(torch.corrcoef(torch.cat([start, back], 1).mT)[0, 1]) == pytest.approx(
        0.382, abs=0.06
    )


def test_uniform_times_of_both_drifts_keep_away_from_the_ends_of_each() -> None:
    ends = two_ends(normals(500, 1), normals(500, 2), (0, 1))
    grid = time_grid(10, 1.0)
    pairs = Coupled("independent", ends, Brownian(1.0), 0, 1, 500)
    both: tuple[Direction, ...] = ("forward", "backward")
    problem = BridgeProblem(pairs, grid, Brownian(1.0), both, uniform=True)
    t, _, target, seen = problem.batch(0, 500)
    assert seen is not None and float(t.max()) > 0.99 and float(t.min()) < 0.01
    assert torch.equal(seen[:, 0, 0] > 0, t <= 0.9) and torch.equal(seen[:, 1, 0] > 0, t >= 0.1)
    # |x_T - x_0| + |z| sqrt(t / (T - t)) with t / (T - t) of 9 at the most.
    assert float(target.abs().max()) < 6.0 + 3.0 * 4.5
    # On the grid each drift has a target at all of its own times, and there alone.
    t, _, _, seen = BridgeProblem(pairs, grid, Brownian(1.0), both).batch(0, 22)
    assert seen is not None
    assert torch.equal(seen[:, 0, 0] > 0, t < 1.0) and torch.equal(seen[:, 1, 0] > 0, t > 0.0)


def test_the_floor_of_few_data_is_that_of_other_draws_of_their_law() -> None:
    floors = {}
    for n in (200, 300, 4_000):
        bridge = bridge_matching(normals(n, 1), normals(n, 2), **(SMALL | {"measure": 200}))
        error = bridge.fit()[0].measures.target
        assert error is not None
        floors[n] = error.floor
    # Each is one distance of two sets of draws of N(0, 1), which varies by a half of it.
    assert all(0.3 * floors[4_000] < floors[n] < 3.0 * floors[4_000] for n in (200, 300))


def test_one_network_is_measured_at_both_ends() -> None:
    net = DriftMLP((1,), width=4, depth=1, drifts=2, dtype=torch.float64)
    options = SMALL | dict(regression=Adam(steps=2, batch=8), measure=20, nets=net)
    for state in DSBM(normals(50, 1), normals(50, 2), half_steps=2, **options).iterate():
        assert state.measures.source is not None and state.measures.target is not None


def test_least_squares_move_the_bar(capsys: pytest.CaptureFixture[str]) -> None:
    options = SMALL | {"cache": Cache(paths=50)}
    DSBM(normals(50, 1), normals(50, 2), half_steps=2, **options).fit(progress=True)
    assert "bridge: 100%" in capsys.readouterr().err


def test_a_cache_that_a_loop_has_changed_is_the_folders(tmp_path: Path) -> None:
    def bridge(paths: int) -> DSBM:
        options = SMALL | {"cache": Cache(paths=paths), "half_steps": 3}
        return DSBM(normals(50, 1), normals(50, 2), **options)

    one = bridge(50)
    states: Any = one.iterate(folder=tmp_path)
    next(states)
    one.cache = Cache(paths=60)
    next(states)
    states.close()
    with pytest.raises(CheckpointError, match=r"another cache: .*'paths': 60.* there"):
        bridge(50).fit(folder=tmp_path)
    assert len(bridge(60).fit(folder=tmp_path)) == 3


@pytest.mark.parametrize("scalings", [0, 30])
def test_scalings_between_iterations_in_the_log_domain_change_no_plan(
    monkeypatch: pytest.MonkeyPatch, scalings: int
) -> None:
    """Clouds so far apart for their epsilon that a plan's entries leave the range of numbers."""
    x, y = normals(40, 1), normals(30, 2) + 30.0
    expected = sinkhorn(x, y, epsilon=0.5)
    module = import_module("sdekit.bridge.closed_form.sinkhorn")
    monkeypatch.setattr(module, "SCALINGS", scalings)
    found = sinkhorn(x, y, epsilon=0.5)
    assert torch.allclose(found.plan, expected.plan, rtol=0.0, atol=1e-10)
    assert float((found.plan.sum(1) - 1 / 40).abs().sum()) < 1e-8


def test_another_setting_is_named_by_what_differs(tmp_path: Path) -> None:
    ends = normals(50, 1), normals(50, 2)
    next(DSBM(*ends, **SMALL).iterate(folder=tmp_path))
    with pytest.raises(CheckpointError, match=r"algorithm: \{'fresh': False\} there, .*True"):
        DSBM(*ends, fresh=True, **SMALL).fit(folder=tmp_path)


def test_what_relatives_and_ends_refuse() -> None:
    x, y = normals(50, 1), normals(50, 2)
    with pytest.raises(TypeError, match="leave half_steps away, or take DSBM"):
        bridge_matching(x, y, half_steps=3)
    with pytest.raises(TypeError, match="leave measure away"):
        flow_matching(x, y, measure=100)
    assert flow_matching(x, y, measure=0).half_steps == 1
    for data in (np.zeros((3, 1)), [[0.0]]):
        with pytest.raises(TypeError, match=r"write torch.as_tensor\(source\)"):
            DSBM(data, y)
