"""Pictures of rate and distortion, and columns of images: files that show what they are given."""

from __future__ import annotations

import pytest
import torch

import sdekit as sk
from sdekit import viz
from sdekit.likelihood import rate_distortion
from sdekit.viz import charts

PNG = b"\x89PNG\r\n\x1a\n"


def test_rate_distortion_curve(tmp_path, monkeypatch):
    process = sk.DDPM.cosine(20)
    k = (torch.arange(24) * 37 % 256).view(6, 4)
    seen = []
    save = charts.save
    monkeypatch.setattr(
        charts, "save", lambda figure, path: seen.append(figure) or save(figure, path)
    )
    for decoder in ("discretized", "gaussian"):
        transform = sk.DataTransform(256)
        found = rate_distortion(
            process, lambda t, x: 0.5 * x, k, decoder=decoder, transform=transform
        )
        path = viz.rate_distortion(tmp_path / f"{decoder}.png", found, unit="of 255")
        assert path.read_bytes().startswith(PNG)
    left, middle, right = seen[0].axes
    step, distortion = left.lines[0].get_data()
    assert list(step) == list(range(1, 21))
    # Both decoders, the same transform: the same curve but for the noise of dequantization.
    assert torch.as_tensor(distortion).shape == (20,) and float(distortion[-1]) < 20.0
    assert list(middle.lines[0].get_ydata()) == list(right.lines[0].get_xdata())
    assert "lossless" in right.get_title() and "lossless" not in seen[1].axes[2].get_title()


def test_columns_of_images(tmp_path):
    columns = {f"k = {k}": torch.full((3, 1, 4, 5), k / 10) for k in (9, 5, 1)}
    path = viz.columns_of_images(tmp_path / "a.png", columns, limits=(0.0, 1.0))
    assert path.read_bytes().startswith(PNG)
    with pytest.raises(ValueError, match="images must be"):
        viz.columns_of_images(tmp_path / "b.png", {"a": torch.zeros(2, 2, 4, 4)}, limits=(0.0, 1.0))
