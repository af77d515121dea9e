"""Pictures: where the pixels go, and that a picture is a picture."""

from __future__ import annotations

from pathlib import Path

import torch

from sdekit import viz


def test_tile_puts_images_in_reading_order() -> None:
    images = torch.arange(1, 6).view(5, 1, 1).expand(5, 2, 3)
    out = viz.tile(images, 3, pad=1, value=-1.0)
    assert out.shape == (2 * 3 + 1, 3 * 4 + 1)
    assert out[1:3, 1:4].unique().tolist() == [1.0]
    assert out[1:3, 9:12].unique().tolist() == [3.0]
    assert out[4:6, 5:8].unique().tolist() == [5.0]
    # The sixth place and the frame are empty.
    assert out[4:6, 9:12].unique().tolist() == [-1.0] and out[0].unique().tolist() == [-1.0]


def test_histogram_leaves_out_what_is_not_finite(tmp_path: Path) -> None:
    values = torch.tensor([1.0, 2.0, torch.nan, torch.inf])
    path = viz.likelihood_histogram(tmp_path / "h.png", {"digits": values})
    assert path.read_bytes().startswith(b"\x89PNG")


def test_pictures_are_the_same_again(tmp_path: Path) -> None:
    first = viz.ou_band(tmp_path / "a.png", paths=4, steps=20)
    again = viz.ou_band(tmp_path / "b.png", paths=4, steps=20)
    assert first.read_bytes() == again.read_bytes()
