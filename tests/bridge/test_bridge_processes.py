"""Several processes share a cache and the batches; one of them that is killed is started again."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.processes import run_script

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = run_script(Path(__file__).parent / "two_bridges.py", tmp_path_factory.mktemp("two"))
    return json.loads(Path(path).read_text())


def test_a_cache_has_the_same_bits_for_any_number_of_processes(found: dict[str, Any]) -> None:
    one = found["one"]["cache"]
    assert one["made"] == [8] * 8
    two = [rank["cache"] for rank in found["two"]]
    assert {rank["bits"] for rank in [*two, *found["three"]]} == {one["bits"]}
    # Each made its own share.
    assert [rank["made"] for rank in two] == [[8] * 4] * 2
    assert [len(rank["made"]) for rank in found["three"]] == [3, 3, 2]
    # What is free differs; all have the smallest cache: 10,000 bytes of 2 states of 2 doubles.
    assert [rank["memory"]["paths"] for rank in found["two"]] == [312, 312]


@pytest.mark.parametrize("algorithm", ["dsb", "dsbm", "one net", "least squares"])
def test_two_processes_fit_as_one(found: dict[str, Any], algorithm: str) -> None:
    one, (first, second) = (
        found["one"]["fits"][algorithm],
        [rank["fits"][algorithm] for rank in found["two"]],
    )
    assert first == second
    # Sums of 15 doubles in another order.
    assert first["samples"] == pytest.approx(one["samples"], abs=1e-6)
    for got, want in zip(first["losses"], one["losses"], strict=True):
        assert got == pytest.approx(want, abs=1e-9)
    # Each process sees its own rows of a batch; the range is that of all.
    for got, want in zip(first["ranges"], one["ranges"], strict=True):
        assert got == pytest.approx(want, abs=1e-9)


def test_what_crashed_in_two_goes_on_in_two(found: dict[str, Any]) -> None:
    for rank in found["two"]:
        assert rank["resumed"]["samples"] == rank["fits"]["dsbm"]["samples"]


def test_a_divergence_in_one_process_stops_both(found: dict[str, Any]) -> None:
    first, second = (rank["diverged"] for rank in found["two"])
    assert first["done"] == second["done"] == 1
    assert "half-step 2" in first["told"] and "of another process" in first["told"]
    assert "3 paths left" in second["told"]


def test_a_killed_process_is_started_again_by_the_elastic_agent(found: dict[str, Any]) -> None:
    for rank, got in enumerate(found["agent"]):
        assert got["life"] == "1" and got["done"] == 2
        assert got["samples"] == found["two"][rank]["fits"]["dsbm"]["samples"]
