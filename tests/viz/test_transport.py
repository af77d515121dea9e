"""Pictures of bridges: paths in the plane, rows of images, numbers by half-step."""

from __future__ import annotations

from pathlib import Path

import pytest
import sdekit_kernels
import torch

from sdekit import viz

pytest.importorskip("matplotlib")


def size(path: Path) -> tuple[int, int]:
    """Width and height in dots, which a PNG's first chunk says."""
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def test_paths_in_the_plane(tmp_path: Path) -> None:
    x = sdekit_kernels.normal((5, 7, 2), seed=0, stream=9).cumsum(0)
    one = viz.plane_paths(tmp_path / "one.png", {"there": x})
    two = viz.plane_paths(tmp_path / "two.png", {"there": x, "back": x.flip(0)})
    assert size(two)[0] == 2 * size(one)[0]
    flat = viz.plane_paths(tmp_path / "flat.png", {"there": x * torch.tensor([1.0, 0.1])})
    assert size(flat)[1] < size(one)[1]
    again = viz.plane_paths(tmp_path / "again.png", {"there": x})
    assert again.read_bytes() == one.read_bytes()


def test_rows_of_images(tmp_path: Path) -> None:
    x = torch.linspace(-1.0, 1.0, 64).view(1, 1, 8, 8).repeat(6, 1, 1, 1)
    rows = {"letters": x, "half-step 1": x.squeeze(1)}
    path = viz.rows_of_images(tmp_path / "rows.png", rows, limits=(-1.0, 1.0))
    more = viz.rows_of_images(tmp_path / "more.png", rows | {"2": x}, limits=(-1.0, 1.0))
    assert size(more)[1] > size(path)[1] and size(more)[0] == size(path)[0]
    with pytest.raises(ValueError, match=r"one length, got \[6, 5\]"):
        viz.rows_of_images(tmp_path / "no.png", {"a": x, "b": x[:5]}, limits=(-1.0, 1.0))


def test_numbers_by_half_step(tmp_path: Path) -> None:
    series = {"fitted": [0.5, 0.1, float("nan")], "exact": [0.4, 0.1, 0.02]}
    path = viz.by_half_step(tmp_path / "kl.png", series, y="KL, nats")
    assert size(path) == (960, 540)
