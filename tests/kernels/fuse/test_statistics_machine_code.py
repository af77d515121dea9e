"""The machine code of trajectory kernels that reduce their states, compiled for three GPUs."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kernels.aot_report import read_report


@pytest.fixture(scope="module")
def report() -> dict[tuple[str, str], dict[str, Any]]:
    """(variant, target) -> what was read."""
    return read_report("tests.kernels.fuse.aot_statistics")


def test_nothing_is_kept_in_memory(report):
    """No local memory, no spills, and sums that meet in registers, not in shared memory."""
    assert {target for _, target in report} == {"sm_80", "sm_90", "gfx942"}
    for key, read in report.items():
        used = {name: read.get(name, 0) for name in ("local", "stack", "local_access")}
        assert not any(used.values()), (key, used)
        assert read["shared_access"] == 0, key


def test_each_component_is_counted_by_one_atomic_addition(report):
    """In each copy of the loop's body: four steps, and those at either end."""
    copies = {"ou": 6, "ou float64": 6, "lorenz": 6, "ou of 8": 1}
    components = {"ou": 1, "ou float64": 1, "lorenz": 3, "ou of 8": 8}
    for (variant, target), read in report.items():
        if variant in copies and "atomics" in read:
            assert read["atomics"] == copies[variant] * components[variant], (variant, target)
