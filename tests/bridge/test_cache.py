"""The cache of trajectories: its memory, its renewal, its order, and what its paths depend on."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sdekit.bridge import Cache, time_grid, trajectories
from sdekit.bridge import cache as module
from sdekit.bridge.cache import Trajectories
from sdekit.bridge.counters import HALF_STEPS, PATHS, path_number, stream
from sdekit.bridge.drifts import ReferenceDrift
from sdekit.bridge.ends import Samples, two_ends
from sdekit.bridge.problems import time_numbers
from sdekit.sde import OU

LIKE = torch.empty(0, 2, dtype=torch.float64)


def numbered(first: int, count: int) -> Tensor:
    """Three states a path, each of them (number of the path, number of the state)."""
    path = torch.arange(first, first + count, dtype=torch.float64).expand(3, count)
    state = torch.arange(3, dtype=torch.float64).view(3, 1).expand(3, count)
    return torch.stack([path, state], 2)


def made(paths: int = 12, **more: Any) -> Trajectories:
    cache = Cache(paths=paths, **more)
    return Trajectories(cache, numbered, 3, LIKE, seed=4, half_step=1)


def test_a_pass_sees_each_path_once_in_an_order_of_its_own() -> None:
    cache, orders = made(), []
    for turn in range(3):
        rows = [cache.batch(3 * turn + i, 4)[0, :, 0] for i in range(3)]
        orders.append(torch.cat(rows).tolist())
        assert sorted(orders[-1]) == list(range(12))
    assert orders[0] != orders[1] != orders[2] != sorted(orders[2])
    # A batch is a function of its number, whatever was seen before.
    assert torch.equal(cache.batch(2, 4), made().batch(2, 4))
    assert cache.all()[:, :, 1].tolist() == [[float(i)] * 12 for i in range(3)]


def test_it_is_refreshed_every_n_batches() -> None:
    cache = made(refresh=5)
    fillings = [set((cache.batch(s, 4)[0, :, 0] // 12).tolist()) for s in range(15)]
    assert fillings == [{0.0}] * 5 + [{1.0}] * 5 + [{2.0}] * 5
    assert torch.equal(cache.batch(3, 4), made(refresh=5).batch(3, 4))
    orders = [(cache.batch(5 * r, 4)[0, :, 0] % 12).tolist() for r in range(3)]
    assert orders[0] != orders[1] != orders[2]


def test_what_is_not_stored_is_made_again() -> None:
    cache = made(stored=False)
    seen = torch.cat([cache.batch(s, 4)[0, :, 0] for s in range(3)]).tolist()
    assert sorted(seen) == list(range(12))
    # The same paths in the second pass, in another order; others after a filling.
    first, again = (cache.batch(s, 4)[0, :, 0].tolist() for s in (0, 3))
    assert first != again and sorted(first) == sorted(again)
    later = made(stored=False, refresh=2)
    assert sorted(later.batch(2, 4)[0, :, 0].tolist()) == [12.0, 13.0, 14.0, 15.0]


def test_pieces_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    grid, reference = time_grid(4, 1.0), OU(1.0, 0.2, 0.9)
    starts = torch.linspace(-1.0, 1.0, 30, dtype=torch.float64).view(15, 2)
    end = Samples(starts, 0)

    def make(first: int, count: int) -> Tensor:
        return trajectories(
            grid,
            reference,
            ReferenceDrift(reference),
            end.draw(4, 1, first, count),
            "forward",
            seed=4,
            first_sample=path_number(1, first),
            fuse=False,
        )

    def filled() -> Tensor:
        return Trajectories(Cache(paths=40), make, 5, LIKE, seed=4, half_step=1).all()

    whole = filled()
    monkeypatch.setattr(module, "PIECE", 7 * 5 * 2 * 8)
    assert torch.equal(filled(), whole)
    # 40 paths start from 15 points: pass after pass, each in another order.
    first = [tuple(r) for r in whole[0, :15].tolist()]
    assert sorted(first) == sorted(tuple(r) for r in starts.tolist())
    assert first != [tuple(r) for r in whole[0, 15:30].tolist()]


def test_too_large_says_how_large_and_what_fits() -> None:
    each = 3 * 2 * 8
    with pytest.raises(ValueError, match=rf"takes {100 * each} bytes.* 1000 .* 20 paths fit"):
        Cache(paths=100, memory=1000).size(3, LIKE)
    assert Cache(paths=None, memory=1000).size(3, LIKE) == 20
    assert Cache(paths=100, memory=1000, stored=False).size(3, LIKE) == 100
    with pytest.raises(ValueError, match="paths fit"):
        Cache(paths=1 << 45).size(3, LIKE)
    with pytest.raises(ValueError, match="paths fit"):
        Cache(paths=None, memory=10).size(3, LIKE)
    with pytest.raises(ValueError, match="how large"):
        Cache(paths=None)
    with pytest.raises(ValueError, match="refresh"):
        Cache(refresh=0)


def test_counters_do_not_meet() -> None:
    assert path_number(2, 0) == path_number(1, PATHS - 1) + 1
    assert path_number(2 * HALF_STEPS - 1, PATHS - 1) < 1 << 63
    assert stream(2, 0) == stream(1, 15) + 1
    assert stream(2 * HALF_STEPS - 1, 15) < 1 << 32
    with pytest.raises(ValueError, match="half_step"):
        path_number(2 * HALF_STEPS, 0)


def test_an_end_is_drawn_by_path_number() -> None:
    data = torch.arange(10.0).view(10, 1)
    (end, other) = two_ends(data, data, (0, 1))
    whole = end.draw(3, 1, 0, 27)
    assert torch.equal(end.draw(3, 1, 8, 12), whole[8:20])
    assert sorted(whole[10:20, 0].tolist()) == data[:, 0].tolist()
    assert not torch.equal(other.draw(3, 1, 0, 27), whole)
    assert not torch.equal(end.draw(3, 2, 0, 27), whole)
    assert end.draw(3, 1, 5, 0).shape == (0, 1)


def test_paths_that_are_not_stored_meet_all_times() -> None:
    # 256 draws of 10,000 paths a batch, 20 times, 20 passes: of a random order each path meets
    # 20 (1 - (1 - 1 / 20)^20) = 12.8 different ones, with a spread of 1.3 a path.
    def make(first: int, count: int) -> Tensor:
        return torch.arange(first, first + count).double().view(1, count, 1)

    like = LIKE[:, :1]
    paths = Trajectories(Cache(paths=10_000, stored=False), make, 1, like, seed=3, half_step=1)
    met = torch.zeros(10_000, 20)
    per_pass = 10_000 // 256
    for step in range(20 * per_pass):
        rows = paths.batch(step, 256)[0, :, 0].long()
        met[rows, time_numbers(20, 256, step, like.device)] = 1.0
    seen = met[: per_pass * 256].sum(1)
    assert float(seen.mean()) == pytest.approx(12.83, abs=0.1)
    assert float(seen.min()) >= 6.0
