"""Killed at any moment and started again, a training ends with the same bits."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.processes import run_script

HERE = Path(__file__).parent


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_random_moments_it_ends_with_the_same_bits(tmp_path: Path) -> None:
    found = run_script(HERE / "killed.py", "random", tmp_path)
    assert found["code"] == 0 and found["got"] == found["want"] == found["whole"]
    # How often and where depends on the machine; each kill left a whole pair behind (the script
    # reads it), never an older one than the kill before.
    assert found["killed"] >= 5
    assert found["steps"] == sorted(found["steps"])
    assert found["files"] == ["model.safetensors", "state", "state.json"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_before_any_call_of_a_save_the_last_pair_is_whole(tmp_path: Path) -> None:
    found = run_script(HERE / "killed.py", "calls", tmp_path)
    # Two saves of 4 files' worth of calls; each is a place to die.
    assert len(found["steps"]) >= 12
    assert found["steps"][0] == 4 and found["steps"][-1] == 8
    assert found["steps"] == sorted(found["steps"])
    assert set(found["ends"]) == {found["want"]}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_two_processes_train_as_one(tmp_path: Path) -> None:
    found = run_script(HERE / "two_ranks.py", tmp_path)
    for loss in ("dsm", "ism"):
        one = found[loss]["one"]
        for rank in found[loss]["two"]:
            # Sums of 27 float32 numbers in another order: a few roundings, 12 steps on.
            assert rank["losses"] == pytest.approx(one["losses"], rel=1e-5)
            assert rank["weights"] == pytest.approx(one["weights"], abs=1e-5)
            assert rank == found[loss]["two"][0]
    # Losses that are read every 5 steps, and saved when the first process' clock says so.
    assert found["seldom"] == found["dsm"]["two"]
    # Stopped after 7 steps of 12, gone on with from the checkpoint of step 4: the same bits.
    for rank in found["resumed"]:
        assert rank["weights"] == found["dsm"]["two"][0]["weights"]
        assert len(rank["losses"]) == 8
