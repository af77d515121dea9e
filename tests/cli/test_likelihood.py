"""``sdekit likelihood``: its numbers against the library's, its files, and one line for errors."""

from __future__ import annotations

import csv
import json
import math
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sdekit.cli.scores import Scores, images_of, rows_of, write_scores
from sdekit.data import eight_gaussians, load
from sdekit.likelihood import DataTransform, elbo, log_likelihood
from sdekit.score import Gaussian
from sdekit.sde import VP
from sdekit.train import load_checkpoint
from tests.cli.calls import one_line

PNG = b"\x89PNG\r\n\x1a\n"
QUICK = ("--n", 4, "--tolerance", 1e-3)
FILES = ["extremes.png", "images.csv", "likelihoods.png", "numbers.json", "summary.md"]


def read(folder: Path) -> dict[str, list[float]]:
    """The columns of images.csv; empty cells are NaN."""
    with open(folder / "images.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name] or "nan") for row in rows] for name in rows[0]}


def test_every_number_is_the_library_s(run, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "scores"
    result = run("likelihood", model, *QUICK, "--draws", 16, "--seed", 5, "--out", out)
    assert result.code == 0, result.err
    assert sorted(p.name for p in out.iterdir()) == FILES
    for name in ("extremes.png", "likelihoods.png"):
        assert (out / name).read_bytes().startswith(PNG)

    made = load_checkpoint(model)
    x = made.transform.forward(load("digits").test[:4], seed=5)
    want = log_likelihood(
        made.sde, made.net, x, rtol=1e-3, atol=1e-3, seed=5, transform=made.transform
    )
    bound, bound_error = elbo(
        made.sde, made.net, x, draws=16, data_std=made.net.data_std, seed=5, chunk=16
    )
    got = read(out)
    for name, values in {
        "image": torch.arange(4),
        "log_prob": want.log_prob,
        "std_error": torch.zeros(4),
        "bits_per_dim": want.bits_per_dim,
        "truncation_error": want.error.truncation,
        "prior_error": want.error.prior,
        "solver_error": want.error.solver,
        "bound": bound,
        "bound_std_error": bound_error,
        "evaluations": want.nfe,
        "status": want.status,
    }.items():
        # The same numbers up to the rounding of float32 sums, which threads may order anew.
        assert torch.allclose(torch.tensor(got[name]), values.float(), rtol=1e-4, atol=1e-3), name

    mean = float(want.bits_per_dim.mean())
    for text in (f"{mean:.3f} ±", "variational bound", "error budget", "truncation", "prior"):
        assert text in result.out and text in (out / "summary.md").read_text()
    assert "images.csv" in result.out
    told = json.loads((out / "numbers.json").read_text())
    assert told["images"] == 4 and told["divergence"] == "exact"
    assert told["bits_per_dim"]["mean"] == pytest.approx(mean, rel=1e-4)
    assert told["bound"]["mean"] == pytest.approx(float(bound.mean()), rel=1e-4)
    assert told["errors"]["prior"]["largest"] == pytest.approx(
        float(want.error.prior.abs().max()), rel=1e-2
    )
    assert told["settings"]["seed"] == 5 and told["settings"]["tolerance"] == 1e-3
    assert told["settings"]["divergence"] == "exact" and told["failed"]
    assert result.out.startswith("likelihood of 4 images (test)")


def test_an_estimator_says_its_error(run, model: Path, tmp_path: Path) -> None:
    run("likelihood", model, *QUICK, "--no-budget", "--draws", 0, "--out", tmp_path / "exact")
    exact = read(tmp_path / "exact")
    assert "bound" not in exact and "prior_error" not in exact
    options = ("--divergence", "hutchinson", "--probes", 4, "--no-budget", "--draws", 0)
    result = run("likelihood", model, *QUICK, *options, "--out", tmp_path / "probes")
    assert result.code == 0, result.err
    assert "error by the probes" in result.out and "hutchinson, probes: 4" in result.out
    assert "error budget" not in result.out and "bound" not in result.out
    guess = read(tmp_path / "probes")
    assert guess["probes"] == [4.0] * 4
    for a, b, error in zip(exact["log_prob"], guess["log_prob"], guess["std_error"], strict=True):
        # An untrained network is nearly linear with a small trace off the diagonal: 6 standard
        # errors of only 4 probes, and the tolerance of the ODE.
        assert abs(a - b) < 6 * error + 0.5


def test_a_standard_error_that_is_asked_for(run, model: Path, tmp_path: Path) -> None:
    options = ("--divergence", "hutchinson", "--std-error", 0.5, "--no-budget", "--draws", 0)
    result = run("likelihood", model, *QUICK, *options, "--out", tmp_path)
    assert result.code == 0, result.err
    # Met by the root mean square; one image's own probes may say a little more.
    errors = read(tmp_path)["std_error"]
    assert sum(e * e for e in errors) / len(errors) <= 0.5**2


def test_each_image_has_its_line(run, model: Path, tmp_path: Path) -> None:
    quick = ("--data", "noise", "--tolerance", 1e-2)
    result = run("likelihood", model, *quick, "--n", 3, "--draws", 2, "--out", tmp_path)
    assert result.code == 0, result.err
    lines = result.out.split("\n")
    head = lines.index("each image") + 2
    assert " ".join(lines[head].split()) == (
        "image nats ± probes bits/dim bound ± draws solver truncation prior evaluations"
    )
    got = read(tmp_path)
    names = "image log_prob std_error bits_per_dim bound bound_std_error solver_error "
    names += "truncation_error prior_error evaluations"
    for j in range(3):
        cells = lines[head + 1 + j].split()
        for cell, name in zip(cells, names.split(), strict=True):
            assert float(cell) == pytest.approx(got[name][j], rel=0.05, abs=6e-3), name
    # Of more than 20, both ends, and where the rest is.
    quick = (*quick, "--no-budget", "--draws", 0)
    result = run("likelihood", model, *quick, "--n", 23)
    lines = result.out.strip().split("\n")
    head = lines.index("each image") + 2
    shown = [line.split()[0] for line in lines[head + 1 : -1]]
    assert shown == [*map(str, range(10)), "...", *map(str, range(13, 23))]
    assert lines[-1] == "write --out FOLDER for all 23 images in FOLDER/images.csv"
    result = run("likelihood", model, *quick, "--n", 23, "--out", tmp_path)
    assert f"all 23 images are in {tmp_path}/images.csv" in result.out


def test_files_noise_and_training_images_can_be_scored(run, model: Path, tmp_path: Path) -> None:
    levels = tmp_path / "a.npy"
    # As sdekit sample --out FILE.npy writes them.
    np.save(levels, load("digits").train[:3].numpy().astype(np.uint8))
    quick = ("--tolerance", 1e-2, "--no-budget", "--draws", 0)
    result = run("likelihood", model, "--data", levels, *quick)
    assert result.code == 0 and "3 images" in result.out
    result = run("likelihood", model, "--data", "noise", "-n", 2, *quick)
    assert result.code == 0 and "2 images (noise)" in result.out
    result = run("likelihood", model, "--data", "train", "-n", 1, *quick)
    assert result.code == 0 and "(train)" in result.out and "±" not in result.out.split("\n")[2]


def test_points_of_the_plane(run, tmp_path: Path) -> None:
    """Beside the log-density of their own law, where a formula has it."""
    made = tmp_path / "m.safetensors"
    how = ("--data", "eight_gaussians", "--width", 8, "--depth", 1, "--steps", 2)
    assert run("train", "--out", made, *how).code == 0
    out = tmp_path / "scores"
    result = run("likelihood", made, "--n", 30, "--draws", 4, "--out", out)
    assert result.code == 0, result.err
    assert result.out.startswith("likelihood of 30 points (test)") and "image" not in result.out
    files = sorted(p.name for p in out.iterdir())
    assert files == ["likelihoods.png", "numbers.json", "points.csv", "summary.md"]
    told = json.loads((out / "numbers.json").read_text())
    x = load("eight_gaussians").test[:30]
    own = float(eight_gaussians.log_density(x).mean())
    assert told["own_log_density"]["mean"] == pytest.approx(own, abs=1e-6)
    # No law has a higher mean log-density of its own points than itself, up to their number.
    assert told["log_prob_minus_own"]["mean"] < 0.5 and "bits_per_dim" not in told
    points = tmp_path / "x.npy"
    assert run("sample", made, "-n", 5, "--out", points).code == 0
    result = run("likelihood", made, "--data", points, "--no-budget", "--draws", 0)
    assert result.code == 0 and "5 points" in result.out
    one_line(run("likelihood", made, "--data", "noise"), 2, "grey levels alone")
    np.save(points, np.zeros((2, 3)))
    one_line(run("likelihood", made, "--data", points), 2, "numbers of shape (N, 2)")
    np.save(points, np.full((2, 2), np.nan))
    one_line(run("likelihood", made, "--data", points), 2, "finite")


def test_images_without_a_value(tmp_path: Path) -> None:
    """One image whose ODE failed: counted, left out of means and pictures, an empty cell."""
    images = load("digits").test[:3]
    transform = DataTransform(17)
    x = transform.forward(images)
    x[1] = math.nan
    sde = VP()
    result = log_likelihood(
        sde, Gaussian(0.0, 1.0, sde), x, rtol=1e-2, atol=1e-2, transform=transform
    )
    unknown = torch.tensor([0.1, math.nan, -0.3])
    found = Scores(
        images,
        result,
        {"solver": unknown, "truncation": unknown, "prior": unknown},
        (torch.zeros(3), torch.ones(3)),
        8,
        1.0,
    )
    rows = rows_of(found)
    assert ("images without a value: left the finite numbers", "1") in rows
    assert ("  solver", "-0.1", "0.3 (1 unknown)") in rows
    assert "(1 failed)" in {row[0]: row[1] for row in rows}["bits per dimension"]
    write_scores(tmp_path, "three", rows, found, limits=(0, 16))
    got = read(tmp_path)
    assert math.isnan(got["log_prob"][1]) and got["status"] == [0.0, 1.0, 0.0]
    nothing = dict.fromkeys(("solver", "truncation", "prior"), torch.full((3,), math.nan))
    each, rest = images_of(found, None)
    assert rest == "" and len(each) == 4
    assert each[2][1] == "nan" and each[2][-1] == "left the finite numbers"
    none = replace(found, errors=nothing, bound=None)
    assert ("  solver", "unknown", "") in rows_of(none)


def test_wrong_input_is_one_line(run, model: Path, tmp_path: Path) -> None:
    one_line(run("likelihood", model, "--divergence", "exakt"), 2, "'exact'", "'xtrace'")
    one_line(run("likelihood", model, "--n", 1000), 2, "297")
    one_line(run("likelihood", model, "--n", 0), 2, "297")
    one_line(run("likelihood", model, "--tolerance", 0), 2, "--tolerance", "above zero")
    one_line(run("likelihood", model, "--tolerance", 1e-9), 2, "--tolerance", "9.5e-07", "float32")
    one_line(run("likelihood", model, "--draws", 3), 2, "even")
    one_line(run("likelihood", model, "--draws", -2), 2, "--draws")
    one_line(run("likelihood", model, "--probes", 0), 2, "--probes")
    one_line(run("likelihood", model, "--seed", -1), 2, "seed")
    options = ("--divergence", "exact", "--std-error", 0.1)
    one_line(run("likelihood", model, *options), 2, "--divergence hutchinson")
    options = ("--divergence", "hutchinson", "--std-error", 0)
    one_line(run("likelihood", model, *options), 2, "--std-error")
    one_line(run("likelihood", model, "--data", "cats"), 2, "'cats'", "test, train", "noise")
    one_line(run("likelihood", model, "--data", "noise", "-n", 0), 2, "images")


def test_files_of_something_else(run, model: Path, tmp_path: Path) -> None:
    levels = tmp_path / "a.npy"
    one_line(run("likelihood", model, "--data", levels), 1, "a.npy", "No such file")
    levels.write_bytes(b"hello")
    one_line(run("likelihood", model, "--data", levels), 2, "not an array in numpy's format")
    for wrong, what in (
        (np.zeros((2, 8, 8)), "integers of shape (N, 8, 8), it has float64"),
        (np.zeros((8, 8), dtype=np.uint8), "it has uint8 (8, 8)"),
        (np.zeros((0, 8, 8), dtype=np.uint8), "(0, 8, 8)"),
        (np.full((2, 8, 8), 17, dtype=np.uint8), "0 to 16, it has 17 to 17"),
    ):
        np.save(levels, wrong)
        one_line(run("likelihood", model, "--data", levels), 2, what)
    np.save(levels, np.zeros((2, 8, 8), dtype=np.uint8))
    one_line(run("likelihood", model, "--data", levels, "-n", 3), 2, "there are 2 images in")
    one_line(run("likelihood", model, "--out", model), 1, "is a file, not a folder")
    # A file that is missing leaves no folder behind.
    one_line(run("likelihood", tmp_path / "no.safetensors", "--out", tmp_path / "o"), 1, "No such")
    assert not (tmp_path / "o").exists()


def test_nothing_to_show_is_an_error(run, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = log_likelihood

    def lost(sde, score, x, **options):
        return real(sde, score, torch.full_like(x, math.nan), **options)

    monkeypatch.setattr("sdekit.cli.scoring.log_likelihood", lost)
    result = run("likelihood", model, *QUICK, "--no-budget", "--draws", 0)
    one_line(result, 1, "no image could be scored")


def test_ctrl_c_gives_130(run, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sdekit.cli.scoring.log_likelihood", stopped)
    # main leaves by os._exit after an interrupt, so that no mark on the interpreter can matter.
    monkeypatch.setattr(os, "_exit", sys.exit)
    one_line(run("likelihood", model), 130, "stopped by Ctrl-C")
