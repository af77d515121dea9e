"""The command line: every command end to end with tiny settings, and one line for wrong input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sdekit.cli.commands import check_device
from sdekit.cli.report import mean_and_error
from sdekit.train import load_checkpoint
from tests.cli.calls import one_line

ROOT = Path(__file__).resolve().parents[2]
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize("command", ["", "demo", "train", "sample", "likelihood"])
def test_help(run, command: str) -> None:
    result = run(*([command] if command else []), "--help")
    assert result.code == 0 and "Usage: sdekit" in result.out
    assert not result.err
    wanted = {
        "": ["demo", "train", "sample", "likelihood", "--debug"],
        "demo": ["--out", "--seconds", "--steps"],
        "train": ["--data", "--sde", "--out", "--seconds", "--gray", "--device", "vp-cosine"],
        "sample": ["--predictor", "reverse_diffusion", "langevin", "18 of edm_heun", "--device"],
        "likelihood": ["--data", "--divergence", "hutchinson", "--std-error", "--no-budget"],
    }
    for word in wanted[command]:
        assert word in result.out


def test_train_is_reproducible_by_steps(run, model: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.safetensors"
    result = run("train", "--out", again, "--steps", 3, "--width", 8, "--depth", 1)
    assert result.code == 0 and "again.safetensors" in result.out
    one, two = load_checkpoint(model), load_checkpoint(again)
    for a, b in zip(one.net.parameters(), two.net.parameters(), strict=True):
        assert torch.equal(a, b)
    assert one.info["recipe"]["sde"] == "vp" and one.info["steps"] == 3


def test_a_log_has_a_line_for_each_tenth_of_a_training(run, tmp_path: Path, monkeypatch) -> None:
    """Where stderr is no terminal; one that takes no 10 seconds says nothing before its table."""
    options = ("--steps", 20, "--width", 8, "--depth", 1, "--out", tmp_path / "m.safetensors")
    assert run("train", *options).err == ""
    monkeypatch.setattr("sdekit.train.lines.TENTH", 0.0)
    lines = run("train", *options).err.splitlines()
    assert [line.split(", loss")[0] for line in lines] == [
        f"training: {10 * k}%, step {2 * k}" for k in range(1, 11)
    ]


def test_sample_writes_pictures_and_levels(run, model: Path, tmp_path: Path) -> None:
    picture, levels = tmp_path / "a.png", tmp_path / "a.npy"
    common = ("-n", 7, "--steps", 30)
    assert run("sample", model, *common, "--out", picture).code == 0
    assert picture.read_bytes().startswith(PNG)
    options = ("--predictor", "probability_flow", "--corrector", "none", "--seed", 3)
    assert run("sample", model, *common, *options, "--out", levels).code == 0
    images = np.load(levels, allow_pickle=False)
    assert images.shape == (7, 8, 8) and images.dtype == np.uint8 and images.max() <= 16


def test_demo_writes_everything(run, tmp_path: Path) -> None:
    out = tmp_path / "demo"
    tiny = ("--train-steps", 3, "--samples", 8, "--steps", 20, "--flow-steps", 25)
    result = run("demo", "--out", out, *tiny, "--test", 3, "--probes", 2)
    assert result.code == 0, result.err
    pictures = ["likelihoods.png", "ou_paths.png", "reverse_time.png", "samples.png"]
    assert sorted(p.name for p in out.iterdir()) == sorted(
        [*pictures, "model.safetensors", "numbers.json"]
    )
    for name in pictures:
        assert (out / name).read_bytes().startswith(PNG)
    numbers = json.loads((out / "numbers.json").read_text())
    assert numbers["bits_per_dim"]["exact"]["images"] == 3
    assert numbers["bits_per_dim"]["uniform"] == pytest.approx(4.0875, abs=1e-4)
    assert set(numbers["quality"]) == {
        "test digits",
        "predictor-corrector",
        "probability flow",
        "noise",
    }
    for word in ("exact divergence", "Hutchinson", "one Gaussian", "uniform", "samples.png"):
        assert word in result.out


@pytest.mark.parametrize(
    ("options", "steps", "seconds"),
    [
        ((), None, 80.0),
        (("--train-steps", 7), 7, None),
        (("--seconds", 9), None, 9.0),
        (("--train-steps", 7, "--seconds", 9), 7, 9.0),
    ],
)
def test_demo_by_steps_alone_leaves_the_clock_out(
    run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[object, ...],
    steps: int | None,
    seconds: float | None,
) -> None:
    given = {}

    def fit(*_: object, **budget: object) -> None:
        given.update(budget)
        raise ArithmeticError("far enough")

    monkeypatch.setattr("sdekit.cli.demo.fit", fit)
    one_line(run("demo", "--out", tmp_path / "d", *options), 1, "far enough")
    assert given["steps"] == steps and given["seconds"] == seconds


def test_means_say_what_they_leave_out() -> None:
    assert mean_and_error(torch.tensor([1.0, 3.0])) == "2.000 ± 1.000"
    assert mean_and_error(torch.tensor([1.0, torch.nan, 3.0])) == "2.000 ± 1.000 (1 failed)"
    assert mean_and_error(torch.tensor([1.5])) == "1.500"
    assert mean_and_error(torch.tensor([torch.nan])) == "none (1 failed)"


def test_wrong_names_and_numbers(run, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    png = tmp_path / "a.png"
    one_line(run("train", "--sde", "vb", "--out", out), 2, "unknown sde 'vb'", "'vp'")
    one_line(run("train", "--data", "cats", "--out", out), 2, "'digits'")
    one_line(run("train", "--seconds", "-1", "--out", out), 2, "seconds", "above zero")
    one_line(run("train", "--seconds", "nan", "--out", out), 2, "seconds")
    one_line(run("train", "--steps", "0", "--out", out), 2, "steps")
    one_line(run("train", "--steps", "many", "--out", out), 2, "--steps", "integer")
    one_line(run("train", "--steps", 3, "--lr", "0", "--out", out), 2, "lr")
    one_line(run("train", "--steps", 3, "--width", "0", "--out", out), 2, "width")
    one_line(run("train", "--steps", 3, "--seed", "-1", "--out", out), 2, "seed")
    one_line(run("train", "--steps", 3, "--out", tmp_path / "m.pt"), 2, ".safetensors")
    one_line(run("train", "--speed", "3"), 2, "--speed", "--help")
    one_line(run("sample", model, "-n", 0, "--out", png), 2, "images")
    one_line(run("sample", model, "-n", 2501, "--out", png), 2, "too many", ".npy")
    one_line(run("sample", model, "--steps", 0, "--out", png), 2, "steps")
    chain = ("--predictor", "reverse_diffusion")
    one_line(run("sample", model, *chain, "--steps", 3, "--out", png), 2, "steps=")
    one_line(run("sample", model, "--snr", 0, "--out", png), 2, "snr")
    one_line(run("sample", model, "--predictor", "ancestor", "--out", png), 2, "'ancestral'")
    one_line(run("sample", model, "--corrector", "langwin", "--out", png), 2, "'langevin'")
    one_line(run("sample", model, "--out", tmp_path / "a.jpg"), 2, ".png or .npy")
    one_line(run("sample"), 2, "Missing argument")
    one_line(run("demo", "--test", 298, "--out", tmp_path / "d"), 2, "297")
    one_line(run("demo", "--steps", 0, "--out", tmp_path / "d"), 2, "--steps")
    one_line(run("demo", "--train-steps", 0, "--out", tmp_path / "d"), 2, "--train-steps")
    # Said before the training, which would take 80 s.
    one_line(run("demo", "--flow-steps", 3, "--out", tmp_path / "d"), 2, "steps=")
    one_line(run("dance"), 2, "dance")
    assert not out.exists() and not png.exists()


def test_files_that_are_missing_or_something_else(run, model: Path, tmp_path: Path) -> None:
    png = tmp_path / "a.png"
    missing, text = tmp_path / "none.safetensors", tmp_path / "text.safetensors"
    one_line(run("sample", missing, "--out", png), 1, "none.safetensors", "No such file")
    one_line(run("likelihood", tmp_path), 1, "no model was saved", "sdekit train")
    text.write_text("hello, I am a text of some length")
    one_line(run("sample", text, "--out", png), 1, "not a safetensors file")
    text.write_bytes(model.read_bytes()[:-5])
    one_line(run("likelihood", text), 1, "damaged or cut short")
    save_file({"w": torch.zeros(2)}, text)
    one_line(run("likelihood", text), 1, "not a checkpoint of sdekit")
    nowhere = tmp_path / "no" / "where.safetensors"
    one_line(run("train", "--steps", 3, "--out", nowhere), 1, "no such folder")
    one_line(run("demo", "--out", model), 1, "is a file, not a folder")
    folder = tmp_path / "folder.png"
    folder.mkdir()
    one_line(run("sample", model, "--out", folder), 1, "is a folder, not a file")


def test_no_permission_is_said_before_the_work(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # root may write anywhere, so the answer of the system is replaced.
    monkeypatch.setattr(os, "access", lambda *_: False)
    start = time.perf_counter()
    result = run("train", "--seconds", 60, "--out", tmp_path / "m.safetensors")
    one_line(result, 1, "no permission to write", str(tmp_path))
    assert time.perf_counter() - start < 30


def test_two_options_for_one_thing(run, model: Path, tmp_path: Path) -> None:
    out, png = tmp_path / "m.safetensors", tmp_path / "a.png"
    both = ("--minutes", 1, "--seconds", 30)
    one_line(run("train", *both, "--steps", 1, "--out", out), 2, "--minutes", "--seconds")
    one_line(run("train", "--minutes", 0, "--out", out), 2, "--minutes", "above zero")
    for part in (("--predictor", "ddim"), ("--corrector", "none"), ("--snr", 0.1)):
        wrong = run("sample", model, "--sampler", "ddim", *part, "--out", png)
        one_line(wrong, 2, "--sampler ddim", part[0])
    assert not out.exists() and not png.exists()


def test_devices(run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    commands = ("sample", "likelihood", "interpolate", "inpaint", "rate-distortion")
    for command in commands:
        one_line(run(command, model, "--device", "cuda"), 2, "no GPU", "--device")
    out = tmp_path / "m.safetensors"
    one_line(run("train", "--device", "cuda", "--steps", 1, "--out", out), 2, "no GPU")
    one_line(run("train", "--device", "tpu", "--steps", 1, "--out", out), 2, "'tpu'", "cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    one_line(run("sample", model, "--device", "cuda:2"), 2, "there are 2 GPUs")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert check_device("cuda") == torch.device("cuda", 1)
    assert check_device("cuda:0") == torch.device("cuda", 0)


def test_only_the_first_process_writes_and_prints(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    out = tmp_path / "m.safetensors"
    result = run("train", "--out", out, "--steps", 1, "--width", 4, "--depth", 1)
    assert result.code == 0 and not result.out and not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk(run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        with open("/dev/full", "w") as file:
            file.write("x" * 100)

    monkeypatch.setattr("sdekit.cli.training.save_checkpoint", full)
    out = tmp_path / "m.safetensors"
    one_line(run("train", "--steps", 1, "--width", 4, "--out", out), 1, "No space left")


def test_debug_shows_the_traceback(run, tmp_path: Path) -> None:
    result = run("--debug", "sample", tmp_path / "none.safetensors", "--out", tmp_path / "a.png")
    assert result.code == 1 and "Traceback" in result.err and "FileNotFoundError" in result.err


def test_a_bug_is_one_line_too(run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("surprise")

    monkeypatch.setattr(sys.modules["sdekit.cli.main"], "train_command", broken)
    one_line(run("train"), 1, "KeyError", "--debug")


def test_ctrl_c_gives_130_and_one_line(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "kernels")])}
    environment.pop("TRITON_INTERPRET", None)
    out = tmp_path / "demo"
    process = subprocess.Popen(
        [sys.executable, "-m", "sdekit.cli", "demo", "--out", str(out), "--seconds", "60"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts its background jobs, and so these tests, with Ctrl-C ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("training")
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert err.strip().splitlines() == ["sdekit: stopped by Ctrl-C"]


def test_a_reader_that_goes_away_is_no_error(model: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "kernels")])}
    environment.pop("TRITON_INTERPRET", None)
    code = (
        "import os, sys\nfrom sdekit.cli import main\n"
        "read, write = os.pipe(); os.close(read); os.dup2(write, 1)\n"
        f"main(['likelihood', {str(model)!r}, '--n', '1', '--tolerance', '1e-2', "
        "'--no-budget', '--draws', '0'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1 and done.stderr == ""
