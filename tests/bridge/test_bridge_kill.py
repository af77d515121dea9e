"""Killed at any moment and started again, a bridge's fit ends with the same bits."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.processes import run_script

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Both ways in one process: importing torch is a part of their time."""
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    return run_script(HERE / "killed.py", tmp_path_factory.mktemp("killed"))


def test_killed_at_random_moments_it_ends_with_the_same_bits(killed: dict[str, Any]) -> None:
    for found in killed["random"].values():
        assert found["code"] == 0 and found["got"] == found["want"] == found["whole"]
        # How often and where depends on the machine; each kill left a whole pair behind (the script
        # reads it), never an older one than the kill before.
        assert len(found["places"]) >= 5
        assert found["places"] == sorted(found["places"])
        assert found["files"] == ["state", "state.json"]


def test_killed_before_any_call_of_a_save_the_last_pair_is_whole(killed: dict[str, Any]) -> None:
    for found in killed["calls"].values():
        # Two saves of two files; each of their calls is a place to die.
        assert len(found["places"]) >= 20
        assert found["places"] == sorted(found["places"])
        seen = [list(p) for p in sorted({tuple(p) for p in found["places"]})]
        assert seen == [[0, 2], [0, 4], [1, 0]]
        assert set(found["ends"]) == {found["want"]}
