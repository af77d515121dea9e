"""Pictures: where the pixels go, and that a picture is a picture."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
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


@pytest.mark.parametrize("count", [1, 10])
def test_ranked_images_have_their_pixels_and_texts(tmp_path: Path, count: int) -> None:
    from matplotlib.image import imread

    images, texts = torch.full((count, 8, 8), 16), [f"{k}.5" for k in range(count)]
    groups = {"most likely": (images, texts), "least likely": (0 * images, [""] * count)}
    picture = imread(viz.ranked_images(tmp_path / "a.png", groups, limits=(0, 16)))[..., 0]
    dark = picture < 0.5
    # Black images above, white ones below; 5 dots a pixel and more.
    middle = dark.shape[0] // 2
    assert dark[:middle].sum() > count * (8 * 5) ** 2 > dark[middle:].sum()
    other = {**groups, "least likely": (0 * images, texts)}
    more = imread(viz.ranked_images(tmp_path / "b.png", other, limits=(0, 16)))[..., 0] < 0.5
    assert more[middle:].sum() > dark[middle:].sum()


@pytest.mark.parametrize(("count", "columns"), [(3, 10), (100, 10), (1000, 32)])
def test_every_pixel_of_every_image_is_seen(tmp_path: Path, count: int, columns: int) -> None:
    from matplotlib.image import imread

    path = tmp_path / "grid.png"
    viz.image_grids(path, {"a": torch.zeros(count, 8, 8)}, columns=columns, limits=(0, 16))
    height, width = imread(path).shape[:2]
    wide = min(count, columns)
    # 0.31 inches of 150 dots for an image of 8 pixels and its frame: 4 dots a pixel and more.
    assert width >= 4 * (9 * wide + 1) and height >= 4 * (9 * -(-count // wide) + 1)


def test_an_old_picture_survives_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "h.png"
    path.write_bytes(b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left.*h\.png"):
        viz.likelihood_histogram(path, {"digits": torch.ones(3)})
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
