"""train into a folder, interpolate, inpaint, rate-distortion, sample by name: files and numbers."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from sdekit import viz
from sdekit.cli.drawing import _quality_rows
from sdekit.data import load
from sdekit.sample import sample
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


def test_the_default_draws_the_law_of_the_plane(run, tmp_path: Path) -> None:
    """Of a short training: std 1.75 and largest value 5.1 where the data have 1.74 and 3.6.

    The step size by each sample's own norms made std 4.7 and largest value 74 of it.
    """
    out, file = tmp_path / "moons.safetensors", tmp_path / "x.npy"
    how = ("--data", "moons", "--width", 32, "--depth", 1, "--steps", 300, "--batch", 128)
    assert run("train", "--out", out, *how).code == 0
    std = load("moons").train.std(0).numpy()
    for given in ((), ("--snr", 0.16, "--steps", 100), ("--sampler", "pc", "--steps", 100)):
        result = run("sample", out, "-n", 500, *given, "--out", file)
        assert result.code == 0, result.err
        x = np.load(file)
        # 500 draws: a standard error of 3 percent; the training leaves some 10.
        assert np.all(np.abs(x.std(0) / std - 1.0) < 0.25) and np.abs(x).max() < 8.0
        told = numbers(tmp_path / "x.json")["how"]
        assert ("18 of edm_heun" if not given else "annealed" if given[0] == "--snr" else "pc") in (
            told
        )


def test_sample_hands_the_networks_std_to_the_exact_corrector(run, model: Path, tmp_path) -> None:
    a, b = tmp_path / "a.npy", tmp_path / "b.npy"
    common = ("-n", 3, "--steps", 30, "--seed", 2, "--out")
    assert run("sample", model, "--corrector", "ou", *common, a).code == 0
    assert run("sample", model, "--sampler", "pc_ou", *common, b).code == 0
    made = load_checkpoint(model)
    x = sample(
        made.sde, made.net, (3, 8, 8), steps=30, seed=2, corrector="ou", data_std=made.net.data_std
    )
    want = made.transform.inverse(x).numpy()
    # Torch's threads may order sums anew: a grey level at the edge of its bin may change.
    assert (np.load(a) != want).mean() < 0.02 and (np.load(b) != want).mean() < 0.02


def test_tensorboard_of_data_that_are_no_images(run, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    how = ("--data", "moons", "--width", 8, "--depth", 1, "--steps", 2, "--tensorboard")
    result = run("train", "--out", tmp_path / "t", *how)
    assert result.code == 0, result.err
    assert list((tmp_path / "t" / "tensorboard").iterdir())


@pytest.mark.parametrize("name", ["pictures", "digits"])
def test_a_model_of_a_folder_knows_its_folder(
    run, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named after its path, size and colours included, from any place; not after another set."""
    image = pytest.importorskip("PIL.Image")
    folder = tmp_path / name
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (12, 10, 10), dtype=np.uint8)
    for k, pixels in enumerate(noise):
        image.fromarray(pixels).save(folder / f"{k}.png")
    (folder / "broken.png").write_bytes(b"\x89PNG no image")
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "run"
    how = ("--width", 8, "--depth", 1, "--steps", 2, "--batch", 4, "--size", 8, "--gray")
    common = ("train", "--data", f"./{name}", "--out", out, *how)
    wrong = run(*common)
    one_line(wrong, 2, "--skip-broken")
    assert "skip_broken" not in wrong.err
    with pytest.warns(UserWarning, match="left out"):
        assert run(*common, "--skip-broken").code == 0
    source = numbers(out / "summary.json")["source"]
    assert source["path"] == str(folder) and source["size"] == [8, 8] and source["gray"]
    assert load_checkpoint(out).info["data"] == source
    monkeypatch.chdir("/")
    result = run(
        "interpolate", out, "--data", "train", "--pairs", 1, "-n", 2, "--out", out / "i.png"
    )
    assert result.code == 0 and not result.err, result.err
    folder.rename(tmp_path / "elsewhere")
    one_line(run("inpaint", out, "-n", 1, "--out", out / "p.png"), 2, str(folder), "not there")


def test_the_curve_of_the_loss_is_of_all_runs(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    real = viz.curve
    monkeypatch.setattr(viz, "curve", lambda p, v, **k: drawn.append(len(v)) or real(p, v, **k))
    out = tmp_path / "run"
    common = ("train", "--out", out, "--width", 8, "--depth", 1)
    assert run(*common, "--steps", 3).code == 0
    assert run(*common, "--steps", 5).code == 0
    (out / "loss.png").unlink()
    # A run that is finished draws what was missing.
    assert run(*common, "--steps", 5).code == 0 and picture(out / "loss.png")
    assert drawn == [3, 5, 5]


def test_a_disk_that_is_full_for_pictures(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "loss.png")

    monkeypatch.setattr(viz, "curve", full)
    common = ("--width", 8, "--depth", 1, "--steps", 2)
    for out in (tmp_path / "run", tmp_path / "m.safetensors"):
        failed = run("train", "--out", out, *common)
        one_line(failed, 1, "loss.png", "No space left", f"training itself is saved in {out}")
        assert load_checkpoint(out).info["steps"] == 2


def test_quality_of_few_images_says_so() -> None:
    numbers = {"frechet": 1.0, "mmd": 0.1, "mmd_std_error": 0.1, "confidence": 0.9}
    few = {"n": 20, "samples": numbers | {"frechet_infinity": None}}
    few["real"] = few["samples"]
    rows = dict(_quality_rows(few, 198))
    assert "198 images or more, not 20" in rows["  too few to tell"]
    many = {"n": 250, "samples": numbers | {"frechet_infinity": 0.25}}
    many["real"] = numbers | {"frechet_infinity": 0.125}
    rows = dict(_quality_rows(many, 198))
    assert rows["  extrapolated to any number"] == "0.250 (training images: 0.125)"


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


def test_inpaint_in_few_steps(run, model: Path, tmp_path: Path) -> None:
    """Equal steps of a chain's posterior needed 20; those of "ddpm" may be any number."""
    out = tmp_path / "p.png"
    result = run("inpaint", model, "-n", 1, "--copies", 1, "--steps", 8, "--out", out)
    assert result.code == 0, result.err


def test_rate_distortion(run, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "rd"
    given = ("-n", 3, "--levels", 20, "--steps", 5, "--out", out)
    result = run("rate-distortion", model, *given)
    assert result.code == 0, result.err
    for name in ("rate_distortion.png", "progressive.png", "lossy.png"):
        assert picture(out / name)
    told = numbers(out / "numbers.json")
    assert len(told["rate_bits_per_dim"]) == 20
    # The model is one of dequantized data: its decoder is that of a density.
    assert told["decoder"] == "gaussian" and told["lossless_bits_per_dim"] is None
    assert 0.0 < told["bits_per_dim"] < 100.0
    assert "L_0" in result.out and "bits per dimension" in result.out
    one_line(run("rate-distortion", model, "--levels", 1, "--out", out), 2, "--levels")


def test_rate_distortion_needs_a_chain(run, tmp_path: Path) -> None:
    ve = tmp_path / "ve.safetensors"
    options = ("--sde", "ve", "--steps", 2, "--width", 8, "--depth", 1)
    assert run("train", "--out", ve, *options).code == 0
    one_line(run("rate-distortion", ve, "--out", tmp_path / "r"), 2, "VP equation")
