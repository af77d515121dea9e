"""Folders of images and tensors: what is read, what is refused, which file is named."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from sdekit.data import folder, load, tensor

Image = pytest.importorskip("PIL.Image")


def write(path: Path, value: int, size: tuple[int, int] = (6, 5), mode: str = "RGB") -> None:
    """An image of one colour, (width, height)."""
    fill = value if mode in ("L", "I;16") else (value, 0, 255)
    Image.new(mode, size, fill).save(path)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    (tmp_path / "more").mkdir()
    for i in range(8):
        write(tmp_path / f"{i}.png", i)
    write(tmp_path / "more" / "8.bmp", 8)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / ".hidden.png").write_text("no image")
    return tmp_path


def test_reads_a_tree(images: Path) -> None:
    data = load(images, test_share=0.2, seed=1)
    assert data.event_shape == (3, 5, 6) and (len(data.train), len(data.test)) == (7, 2)
    every = torch.cat([data.train, data.test])
    assert sorted(every[:, 0, 0, 0].tolist()) == list(range(9))
    assert bool((every[:, 1] == 0).all()) and bool((every[:, 2] == 255).all())
    assert data.transform is not None and data.transform.levels == 256
    again = folder(images, test_share=0.2, seed=1)
    assert torch.equal(data.train, again.train) and torch.equal(data.test, again.test)
    gray = folder(images, gray=True)
    assert gray.event_shape == (1, 5, 6)


def test_copies_stay_in_one_part(images: Path) -> None:
    for i in range(9):
        write(images / f"copy{i}.png", i)
    data = folder(images, test_share=0.5)
    known = {row.numpy().tobytes() for row in data.train}
    assert not any(row.numpy().tobytes() in known for row in data.test)
    assert len(data.train) + len(data.test) == 18


def test_pixels_and_their_order(tmp_path: Path) -> None:
    want = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    Image.fromarray(want).save(tmp_path / "a.png")
    data = folder(tmp_path)
    assert torch.equal(data.train[0], torch.from_numpy(want).long().permute(2, 0, 1))
    assert len(data.test) == 0


def test_another_size_is_named(images: Path) -> None:
    write(images / "odd.png", 1, size=(7, 5))
    with pytest.raises(ValueError, match=r"odd\.png has 5 x 7 pixels.*5 x 6.*size="):
        folder(images)
    assert folder(images, size=(4, 3)).event_shape == (3, 4, 3)
    assert folder(images, size=4).event_shape == (3, 4, 4)
    with pytest.raises(ValueError, match="size"):
        folder(images, size=(1, 2, 3))


def test_broken_files_are_named_and_skipped_on_request(images: Path) -> None:
    whole = (images / "3.png").read_bytes()
    rng = torch.arange(30 * 30 * 3).remainder(251).to(torch.uint8).view(30, 30, 3)
    Image.fromarray(rng.numpy()).save(images / "big.jpg")
    jpeg = (images / "big.jpg").read_bytes()
    (images / "big.jpg").unlink()
    broken = {
        "text.png": b"not an image",
        "empty.png": b"",
        "cut.png": whole[: len(whole) // 2],
        "cut.jpg": jpeg[: len(jpeg) // 2],
        "flipped.png": whole[:40] + bytes([whole[40] ^ 255]) + whole[41:],
    }
    for name, content in broken.items():
        (images / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name} cannot be read .*skip_broken=True"):
            folder(images, size=5)
        with pytest.warns(UserWarning, match=rf"1 of 10 files .*{name}"):
            data = folder(images, size=5, skip_broken=True)
        assert data.skipped == (str(images / name),)
        assert len(data.train) + len(data.test) == 9
        (images / name).unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert folder(images, skip_broken=True).skipped == ()


def test_more_than_eight_bits_are_refused(images: Path) -> None:
    write(images / "deep.png", 1000, mode="I;16")
    with pytest.raises(ValueError, match=r"deep\.png.*8 bits"):
        folder(images)


def test_no_folder_no_images(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no image"):
        folder(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        folder(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="not a folder"):
        load(tmp_path / "file")


def test_the_source_of_a_folder_makes_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From anywhere and with the same split, also where the folder has a data set's name."""
    root = tmp_path / "digits"
    root.mkdir()
    for k in range(12):
        Image.fromarray(np.full((6, 5, 3), 20 * k, dtype=np.uint8)).save(root / f"{k}.png")
    monkeypatch.chdir(tmp_path)
    data = folder("digits", size=(4, 3), gray=True, test_share=0.25, seed=3)
    assert data.name == "digits" and data.source is not None
    monkeypatch.chdir("/")
    again = load(json.loads(json.dumps(dict(data.source))))
    assert torch.equal(data.train, again.train) and torch.equal(data.test, again.test)
    assert again.source == data.source and again.event_shape == (1, 4, 3)
    assert load("moons").source is None


def test_tensors() -> None:
    x = torch.linspace(0, 1, 60).view(20, 3)
    data = tensor(x, labels=torch.arange(20))
    assert (len(data.train), len(data.test)) == (18, 2) and data.transform is None
    assert data.labels is not None and torch.equal(x[data.labels], data.train)
    grey = tensor(torch.arange(20, dtype=torch.uint8).view(10, 2))
    assert grey.transform is not None and grey.transform.levels == 256
    assert grey.train.dtype == torch.int64
    assert len(tensor(x[:1]).test) == 0
    assert len(tensor(x.bfloat16()).train) == 18
    for given, options, text in (
        (torch.arange(4).view(2, 2), {}, "levels=256"),
        (torch.arange(4).view(2, 2), {"levels": 3}, r"0\.\.2"),
        (x, {"levels": 3}, "is for integers"),
        (x[0], {}, "N, D"),
        (x / 0, {}, "sample 0"),
        (x, {"test_share": 1.0}, "test_share"),
        (x, {"labels": torch.zeros(19)}, r"\(20,\)"),
    ):
        with pytest.raises(ValueError, match=text):
            tensor(given, **options)
    with pytest.raises(TypeError, match="complex"):
        tensor(x.to(torch.complex64))
