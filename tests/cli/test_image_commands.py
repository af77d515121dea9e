"""train into a folder, interpolate, inpaint, rate-distortion, sample by name: files and numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from sdekit.train import load_checkpoint
from tests.cli.calls import one_line

PNG = b"\x89PNG\r\n\x1a\n"


def picture(path: Path) -> bool:
    return path.read_bytes().startswith(PNG)


def numbers(path: Path) -> dict:
    return json.loads(path.read_text())


def test_train_into_a_folder_and_again(run, tmp_path: Path) -> None:
    out = tmp_path / "run"
    common = ("train", "--out", out, "--width", 8, "--depth", 1)
    assert run(*common, "--steps", 3).code == 0
    for name in ("samples.png", "loss.png"):
        assert picture(out / name)
    told = numbers(out / "summary.json")
    assert told["steps"] == 3 and told["resumed_from"] is None
    assert told["recipe"]["model"] == "mlp" and told["data"] == "digits"
    # The same command with more steps goes on; the result is that of one run.
    again = run(*common, "--steps", 5)
    assert again.code == 0 and "went on from step" in again.out
    assert numbers(out / "summary.json")["resumed_from"] == 3
    assert load_checkpoint(out).info["steps"] == 5
    # Another training does not overwrite it.
    one_line(run("train", "--out", out, "--width", 16, "--depth", 1, "--steps", 5), 1, "network")


def test_train_on_the_plane_and_draw_it(run, tmp_path: Path) -> None:
    out = tmp_path / "moons"
    options = ("--data", "moons", "--width", 8, "--depth", 1, "--steps", 3, "--loss", "dsm")
    assert run("train", "--out", out, *options).code == 0
    assert picture(out / "samples.png")
    levels = tmp_path / "x.npy"
    given = ("-n", 6, "--sampler", "ddim", "--steps", 5, "--out", levels)
    assert run("sample", out, *given).code == 0
    x = np.load(levels, allow_pickle=False)
    assert x.shape == (6, 2) and x.dtype == np.float32
    one_line(run("interpolate", out, "--out", tmp_path / "i.png"), 2, "models of images")
    one_line(run("inpaint", out, "--out", tmp_path / "i.png"), 2, "models of images")
    one_line(run("rate-distortion", out, "--out", tmp_path / "r"), 2, "models of images")
    one_line(run("likelihood", out), 2, "models of images")


def test_train_on_a_folder_of_images(run, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    folder = tmp_path / "pictures"
    folder.mkdir()
    ramp = (torch.arange(12 * 64) % 251).view(12, 8, 8).to(torch.uint8).numpy()
    for k, pixels in enumerate(ramp):
        image.fromarray(pixels).save(folder / f"{k}.png")
    (folder / "broken.png").write_bytes(b"\x89PNG no image")
    options = ("--width", 8, "--depth", 1, "--steps", 2, "--batch", 4)
    out = tmp_path / "run"
    one_line(run("train", "--data", folder, "--out", out, *options), 2, "broken.png")
    with pytest.warns(UserWarning, match="left out"):
        result = run("train", "--data", folder, "--out", out, *options, "--skip-broken")
    assert result.code == 0, result.err
    assert len(numbers(out / "summary.json")["skipped"]) == 1
    one_line(run("train", "--data", "digits", "--size", 8, "--out", out), 2, "folder of images")


def test_samples_by_name_with_numbers_beside(run, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.png"
    given = ("-n", 5, "--sampler", "edm_heun", "--steps", 4, "--out", out)
    assert run("sample", model, *given).code == 0
    assert picture(out)
    told = numbers(tmp_path / "a.json")
    assert told["evaluations"] == 7 and told["samples"] == 5 and "edm_heun" in told["how"]
    # A sample does not know how many are drawn at a time.
    whole, parts = tmp_path / "w.npy", tmp_path / "p.npy"
    given = ("-n", 7, "--sampler", "ddpm", "--steps", 4, "--seed", 3)
    assert run("sample", model, *given, "--out", whole).code == 0
    assert run("sample", model, *given, "--batch", 3, "--out", parts).code == 0
    assert np.array_equal(np.load(whole), np.load(parts))
    one_line(run("sample", model, "--sampler", "dddim", "--out", out), 2, "'ddim'")


def test_interpolate(run, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "i.png"
    result = run("interpolate", model, "--pairs", 2, "-n", 3, "--out", out, "--tolerance", 1e-2)
    assert result.code == 0, result.err
    assert picture(out) and len(numbers(tmp_path / "i.json")["weights"]) == 3
    # Through the flow both ends come back.
    assert numbers(tmp_path / "i.json")["ends_rms_grey_levels"] < 0.5
    more = ("--through", "diffusion", "--t", 0.2, "--steps", 20)
    assert run("interpolate", model, "--pairs", 1, "-n", 2, "--out", out, *more).code == 0
    one_line(run("interpolate", model, "--through", "noise", "--out", out), 2, "'flow'")
    one_line(run("interpolate", model, "--pairs", 0, "--out", out), 2, "--pairs")
    one_line(run("interpolate", model, "--out", tmp_path / "i.jpg"), 2, ".png")


@pytest.mark.parametrize("known", ["top", "left", "frame", "scattered"])
def test_inpaint_keeps_what_is_known(run, model: Path, tmp_path: Path, known: str) -> None:
    out = tmp_path / "p.png"
    given = ("-n", 2, "--copies", 2, "--steps", 20, "--known", known, "--out", out)
    result = run("inpaint", model, *given)
    assert result.code == 0, result.err
    told = numbers(tmp_path / "p.json")
    assert picture(out) and 0.0 < told["share_known"] < 1.0
    # Within the bin of the grey level, up to the sampler's last step.
    assert told["rms_known_grey_levels"] < 0.5 < told["rms_unknown_grey_levels"]


def test_rate_distortion(run, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "rd"
    given = ("-n", 3, "--levels", 20, "--steps", 5, "--out", out)
    result = run("rate-distortion", model, *given)
    assert result.code == 0, result.err
    for name in ("rate_distortion.png", "progressive.png", "lossy.png"):
        assert picture(out / name)
    told = numbers(out / "numbers.json")
    assert len(told["rate_bits_per_dim"]) == 20
    assert told["lossless_bits_per_dim"] >= told["rate_bits_per_dim"][-1]
    assert "L_0" in result.out and "bits per dimension" in result.out
    one_line(run("rate-distortion", model, "--levels", 1, "--out", out), 2, "--levels")


def test_rate_distortion_needs_a_chain(run, tmp_path: Path) -> None:
    ve = tmp_path / "ve.safetensors"
    options = ("--sde", "ve", "--steps", 2, "--width", 8, "--depth", 1)
    assert run("train", "--out", ve, *options).code == 0
    one_line(run("rate-distortion", ve, "--out", tmp_path / "r"), 2, "VP equation")
