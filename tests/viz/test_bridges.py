"""The picture of a bridge's measures."""

from __future__ import annotations

from pathlib import Path

import pytest

from sdekit.bridge.grid import Direction
from sdekit.bridge.state import BridgeState, EndError, Estimate, Measures
from sdekit.viz.bridges import plot_measures


def states(count: int) -> list[BridgeState]:
    """Half-steps whose errors halve each time; the first has nothing to compare with."""
    out: list[BridgeState] = []
    before = Measures()
    for n in range(1, count + 1):
        way: Direction = "backward" if n % 2 else "forward"
        scale = 0.5**n
        error = EndError(0.05 + scale, 0.05, Estimate(scale - 0.01, 0.01))
        before = Measures(
            source=error if way == "backward" else before.source,
            target=error if way == "forward" else before.target,
            change=Estimate(10.0 * scale, 0.1 * scale) if n > 2 else None,
            reversibility=Estimate(scale - 0.02, 0.01) if n > 1 else None,
        )
        out.append(BridgeState(n, way, (1.0,), before))
    return out


@pytest.mark.parametrize("count", [1, 2, 9])
def test_a_picture_of_all_measures(count: int, tmp_path: Path) -> None:
    path = plot_measures(states(count), tmp_path / "measures.png", title="moons")
    assert path.read_bytes().startswith(b"\x89PNG")
    again = plot_measures(iter(states(count)), tmp_path / "again.png", title="moons")
    assert again.read_bytes() == path.read_bytes()


def test_more_half_steps_are_more_ink(tmp_path: Path) -> None:
    from matplotlib.image import imread

    few, many = (
        imread(plot_measures(states(n), tmp_path / f"{n}.png"))[..., :3].min(-1) < 0.9
        for n in (3, 12)
    )
    assert few.shape == many.shape and many.sum() > few.sum()


def test_nothing_measured(tmp_path: Path) -> None:
    unmeasured = BridgeState(1, "backward", (1.0,))
    for given in ([], [unmeasured]):
        with pytest.raises(ValueError, match="measure=1_000"):
            plot_measures(given, tmp_path / "a.png")
