"""Films: every dot where it belongs, in GIF, MP4 and on the grid; and what is refused."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sdekit_kernels
import torch
from PIL import Image
from torch import Tensor

import sdekit as sk
from sdekit.viz import encoding, film, film_grid


def opened(path: Path) -> Image.Image:
    return Image.open(io.BytesIO(path.read_bytes()))


def dots(path: Path) -> np.ndarray:
    """Every frame of a GIF in colours, (T, H, W, 3)."""
    picture, frames = opened(path), []
    for k in range(picture.n_frames):
        picture.seek(k)
        frames.append(np.asarray(picture.convert("RGB")))
    return np.stack(frames)


def levels(*shape: int) -> Tensor:
    """Different grey levels everywhere, in [-1, 1]."""
    return sdekit_kernels.normal(shape, seed=1).clamp(-1.0, 1.0)


@pytest.mark.parametrize("channel", [False, True])
def test_grey_frames_have_their_dots(tmp_path: Path, channel: bool) -> None:
    frames = levels(3, 5, 4, 6)
    given = frames.unsqueeze(2) if channel else frames
    path = film(given, tmp_path / "a.gif", columns=3, scale=2, fps=10)
    picture = opened(path)
    assert picture.n_frames == 3 and picture.info["duration"] == 100 and picture.info["loop"] == 0
    found = dots(path)
    # Two rows of three, one dot of frame around each, every dot twice as large.
    assert found.shape == (3, 2 * (2 * 5 + 1), 2 * (3 * 7 + 1), 3)
    wanted = ((1.0 - (frames.double() + 1.0) / 2.0) * 255.0).round().numpy()
    for k in range(3):
        small = found[k, ::2, ::2, 0]
        assert np.array_equal(found[k, 1::2, 1::2, 0], small)
        for i in range(5):
            top, left = 1 + 5 * (i // 3), 1 + 7 * (i % 3)
            assert np.array_equal(small[top : top + 4, left : left + 6], wanted[k, i])
        # The frame and the sixth place are paper.
        assert (small[0] == 255).all() and (small[6:, 15:] == 255).all()


def test_colours_are_light(tmp_path: Path) -> None:
    frames = -torch.ones(2, 1, 3, 4, 4)
    frames[0, 0, 0], frames[1, 0, 2] = 1.0, 1.0
    found = dots(film(frames, tmp_path / "a.gif", scale=1))
    assert found[0, 2, 2].tolist() == [255, 0, 0] and found[1, 2, 2].tolist() == [0, 0, 255]
    assert found[0, 0, 0].tolist() == [0, 0, 0]


def test_what_is_beyond_the_limits_is_cut_off(tmp_path: Path) -> None:
    frames = torch.tensor([-50.0, 0.0, 50.0]).view(1, 1, 1, 3)
    found = dots(film(frames, tmp_path / "a.gif", limits=(-2.0, 2.0), scale=1))
    assert found[0, 1, 1:4, 0].tolist() == [255, 128, 0]
    # Unasked, a film is about 480 dots wide.
    wide = dots(film(frames, tmp_path / "b.gif"))
    assert wide.shape[2] == 480


def test_points_move(tmp_path: Path) -> None:
    start = 0.1 * sdekit_kernels.normal((200, 2), seed=2)
    way = torch.linspace(0.0, 1.0, 4).view(4, 1, 1) * torch.tensor([4.0, 2.0])
    path = film(start + way, tmp_path / "a.gif", times=torch.linspace(0.0, 1.0, 4), fps=5)
    found = dots(path)
    assert found.shape[0] == 4
    centres, top = [], found.shape[1]
    for frame in found:
        # Coloured dots: axes and letters are black, grey or white.
        gap = frame.max(2).astype(int) - frame.min(2)
        rows, columns = (gap > 60).nonzero()
        centres.append((rows.mean(), columns.mean()))
        top = min(top, rows.min())
    rows, columns = np.diff(np.array(centres), axis=0).T
    # To the right and up, by the same length each time; twice as far to the right as up.
    assert (columns > 50).all() and np.ptp(columns) < 0.1 * columns.mean()
    assert np.allclose(rows, -0.5 * columns, rtol=0.1)
    # The title, above all points, is another one in each frame.
    tops = found[:, : top - 2]
    assert all((a != b).any() for a, b in zip(tops[1:], tops[:-1], strict=True))


def test_a_film_is_the_same_again(tmp_path: Path) -> None:
    for frames in (levels(3, 2, 5, 5), levels(3, 50, 2)):
        first, again = (film(frames, tmp_path / name) for name in ("a.gif", "b.gif"))
        assert first.read_bytes() == again.read_bytes()
    assert sk.viz.film is film


def test_mp4(tmp_path: Path) -> None:
    # 3 x 5 images of odd sides; a ramp that H.264 keeps well.
    ramp = torch.linspace(-1.0, 1.0, 15).view(3, 5).repeat_interleave(3, 0).repeat_interleave(3, 1)
    frames = torch.stack([ramp, -ramp, 0.0 * ramp]).unsqueeze(1)
    path = film(frames, tmp_path / "a.mp4", fps=10, scale=5)
    assert path.read_bytes()[4:8] == b"ftyp"
    height, width = 5 * 11, 5 * 17
    size = (height + 1, width + 1)
    command = [encoding.ffmpeg(), "-loglevel", "error", "-i", str(path), "-f", "rawvideo"]
    raw = subprocess.run([*command, "-pix_fmt", "gray", "-"], capture_output=True, check=True)
    found = np.frombuffer(raw.stdout, np.uint8).reshape(3, *size)
    wanted = (1.0 - (frames[:, 0].numpy() + 1.0) / 2.0) * 255.0
    inside = found[:, 7 : height - 5 : 5, 7 : width - 5 : 5].astype(float)
    assert inside.shape == wanted.shape
    # Lossy, and rounded once more by the colour space: 3 levels on the average.
    assert np.abs(inside - wanted).mean() < 3.0


def test_mp4_without_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding.shutil, "which", lambda _: None)
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install .*or give the film .*\.gif"):
        film(levels(2, 1, 4, 4), tmp_path / "a.mp4")
    assert not list(tmp_path.iterdir())


def test_an_ffmpeg_that_fails_is_an_error(tmp_path: Path) -> None:
    program = tmp_path / "ffmpeg"
    program.write_text("#!/bin/sh\ncat > /dev/null\necho no such encoder >&2\nexit 1\n")
    program.chmod(0o755)
    with pytest.raises(RuntimeError, match="wrote no film: no such encoder"):
        encoding.mp4([np.zeros((4, 4), np.uint8)], 10.0, str(program))


def test_the_grid_has_samples_in_rows_and_times_in_columns(tmp_path: Path) -> None:
    from matplotlib.image import imread

    # Sample 1 is ink in the last frame alone.
    frames = -torch.ones(21, 3, 8, 8)
    frames[20, 1] = 1.0
    path = film_grid(frames, tmp_path / "a.png", times=torch.linspace(0.0, 1.0, 21), columns=5)
    dark = imread(path)[..., 0] < 0.5
    rows, columns = dark.nonzero()
    lower = dark[dark.shape[0] // 4 :]
    height, width = dark.shape
    ink = lower.nonzero()
    assert ink[1].min() > 0.75 * width and 0.3 * height < ink[0].min() + height // 4
    # Times stand above: ink there too.
    assert (rows < 0.25 * height).any() and (columns < 0.25 * width).any()
    bare = imread(film_grid(frames, tmp_path / "b.png", columns=5))[..., 0] < 0.5
    assert 0 < bare.sum() < dark.sum()


def test_the_grid_of_points(tmp_path: Path) -> None:
    frames = levels(9, 40, 2)
    path = film_grid(frames, tmp_path / "a.png", columns=3)
    other = film_grid(frames, tmp_path / "b.png", columns=3, times=torch.arange(9.0))
    assert path.read_bytes() != other.read_bytes()
    assert opened(path).width > 2.5 * opened(path).height
    # More columns than frames: each once.
    assert opened(film_grid(frames[:2], tmp_path / "c.png")).width < 1.01 * 2 * 480


def test_bad_input(tmp_path: Path) -> None:
    good, path = levels(2, 3, 4, 4), tmp_path / "a.gif"
    with pytest.raises(TypeError, match=r"frames must be a torch\.Tensor"):
        film([1, 2], path)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"frames.float\(\)"):
        film(good.to(torch.uint8), path)
    for shape in ((2, 4, 4), (2, 3, 2, 4, 4), (2, 4), (0, 3, 4, 4), (2, 0, 2)):
        with pytest.raises(ValueError, match="frames must be images"):
            film(torch.zeros(shape), path)
    broken = good.clone()
    broken[1, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="1 of 2 frames are not finite, frame 1 first"):
        film(broken, path)
    with pytest.raises(ValueError, match=r"\.gif or \.mp4, got .*a\.webm"):
        film(good, tmp_path / "a.webm")
    with pytest.raises(ValueError, match="2 frames and 3 times"):
        film(good, path, times=[0.0, 0.5, 1.0])
    with pytest.raises(ValueError, match="limits must rise"):
        film(good, path, limits=(1.0, -1.0))
    with pytest.raises(ValueError, match="50 pictures a second at most"):
        film(good, path, fps=60)
    with pytest.raises(ValueError, match="fps"):
        film(good, path, fps=0)
    with pytest.raises(ValueError, match="scale"):
        film(good, path, scale=0)
    with pytest.raises(ValueError, match="columns"):
        film_grid(good, tmp_path / "a.png", columns=0)
    assert not list(tmp_path.iterdir())
