"""The likelihood race: problems with known answers, contenders that agree, tables and pictures."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import sdekit as sk
from benchmarks import report
from benchmarks.likelihood import measure as measuring
from benchmarks.likelihood.contenders import (
    CONTENDERS,
    PLAIN,
    SDEKIT,
    STEPWISE,
    TORCHDIFFEQ,
    Answer,
    missing,
)
from benchmarks.likelihood.curve import Curve, Point
from benchmarks.likelihood.fields import FIELDS
from benchmarks.likelihood.measure import decades, measure, scan
from benchmarks.likelihood.picture import draw_times, draw_tolerances
from benchmarks.likelihood.problems import LawAtT, Problem, even, mixture_2d, mixture_of, wide
from benchmarks.likelihood.table import markdown, missed, ratio
from sdekit.likelihood import make_divergence

# -- problems --------------------------------------------------------------------------------------


def small(divergence: str, dim: int = 6) -> Problem:
    sde = sk.VP()
    law, x, truth = mixture_of(sde, dim, 4, torch.float64)
    targets = {"worst": (1e-2, 1e-4), "mean": (1e-2, 1e-4)}
    prior = LawAtT(law, sde.T)
    return Problem("A law", "small", x, truth, sde, law, prior, divergence, targets, (1e-2, 1e-7))


def test_the_even_batch_is_around_one_point_and_the_uneven_one_has_narrow_parts() -> None:
    near = even(torch.float64, 50)
    assert float((near.x - near.x.mean(0)).abs().max()) < 6e-3
    assert float(near.truth.std()) < 0.05
    problem = mixture_2d(torch.float64, 2000)
    gaps = (problem.x[:, None] - problem.score.means).norm(dim=2)
    narrow = (gaps[:, :2] < 0.06).any(1).double().mean()
    assert 0.03 < float(narrow) < 0.07
    assert wide(batch=2).x.shape == (2, 784)


def test_errors_are_of_the_worst_sample_and_of_the_mean_and_none_for_nan() -> None:
    problem = small("exact")
    off = problem.truth + torch.tensor([0.0, 0.0, 0.3, -0.1], dtype=torch.float64)
    assert problem.errors(off) == {"worst": pytest.approx(0.3), "mean": pytest.approx(0.1)}
    off[1] = math.nan
    assert problem.errors(off) == {"worst": math.inf, "mean": math.inf}


@pytest.mark.parametrize("divergence", ["closed form", "exact"])
def test_all_contenders_come_to_the_closed_form(divergence: str) -> None:
    pytest.importorskip("torchdiffeq")
    problem = small(divergence, 2)
    for name, solve in CONTENDERS.items():
        answer = solve(problem, 1e-7)
        assert problem.errors(answer.log_prob)["worst"] < 1e-4, name
        assert 10 < answer.mean_evaluations <= answer.most_evaluations < 5000, name


def test_the_script_has_sdekit_s_probes() -> None:
    pytest.importorskip("torchdiffeq")
    problem = small("hutchinson")
    values = [CONTENDERS[name](problem, 1e-7).log_prob for name in (SDEKIT, TORCHDIFFEQ, PLAIN)]
    assert float((values[0] - problem.truth).abs().max()) > 1e-2  # a probe is not exact
    for value in values[1:]:
        assert torch.allclose(value, values[0], rtol=0.0, atol=1e-4)


def test_who_is_left_out() -> None:
    assert missing(small("exact"), SDEKIT) == ""
    assert "anyway" in missing(small("exact"), STEPWISE)
    assert "784" in missing(wide(batch=2), PLAIN)


@pytest.mark.parametrize("kind", FIELDS)
def test_the_traces_of_the_fields_are_known(kind: str) -> None:
    case = FIELDS[kind](12)
    estimator = make_divergence("exact", case.x)
    assert torch.allclose(estimator(case.field, case.x)[1][:, 0], case.truth, rtol=1e-12)


# -- the measurement -------------------------------------------------------------------------------


def fake(problem: Problem, tolerance: float) -> Answer:
    """Nine times the tolerance off."""
    return Answer(problem.truth + 9.0 * tolerance, 7.0, 9.0, "step_kernel")


def test_the_scan_ends_at_the_targets_and_goes_back_half_a_decade(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(measuring.CONTENDERS, SDEKIT, fake)
    monkeypatch.setattr(measuring, "ENOUGH", 0.0)
    problem = small("exact")
    curve = measure(problem, SDEKIT)
    tried = [point.tolerance for point in curve.points]
    assert tried == sorted(tried, reverse=True)
    assert min(tried) == pytest.approx(1e-5)  # the first at which 9 tol <= 1e-4
    assert any(t == pytest.approx(1e-5 * 10**0.5) for t in tried)
    assert curve.reach("worst", 1e-4) is not None and curve.path == "step_kernel"
    whole = scan(problem, 1e-2, 1e-6)
    assert [point.tolerance for point in whole.points] == decades(1e-2, 1e-6)
    assert whole.targets == {} and whole.points[-1].worst == pytest.approx(9e-6)


def test_decades() -> None:
    assert decades(1e-2, 1e-4) == [1e-2, 1e-3, 1e-4]


# -- what is written -------------------------------------------------------------------------------

TARGETS = {"worst": (0.1, 0.001), "mean": (0.01,)}


def curve(contender: str, title: str, *errors: float, slower: float = 1.0) -> Curve:
    points = tuple(
        Point(10.0**-i, slower * 2.0**i, 50.0 * i, 60.0 * i, error, 0.1 * error)
        for i, error in enumerate(errors)
    )
    return Curve(title, "a batch", contender, TARGETS, 3.0, "step_kernel", points)


CURVES = [
    curve(SDEKIT, "A law", 0.5, 0.05, 0.0005),
    curve(TORCHDIFFEQ, "A law", 0.5, 0.05, 0.005, slower=0.5),
    curve(PLAIN, "A law", math.inf, 0.2, 0.05, slower=2.0),
]
SCAN = Curve("VP, 2-D", "a law", SDEKIT, {}, 3.0, "step_kernel", CURVES[0].points)


def test_curves_survive_json() -> None:
    text = json.dumps([c.as_row() for c in [*CURVES, SCAN]], allow_nan=False)
    assert [Curve.from_row(row) for row in json.loads(text)] == [*CURVES, SCAN]


def test_the_fastest_point_counts_and_shares_are_of_torchdiffeq_s_time() -> None:
    reached = CURVES[0].reach("worst", 0.1)
    assert reached is not None and reached.tolerance == 0.1 and reached.seconds == 2.0
    assert CURVES[1].reach("worst", 0.001) is None
    assert ratio(CURVES, "worst", 0.1) == pytest.approx(2.0)
    assert ratio(CURVES, "worst", 0.001) == 0.0
    assert ratio(CURVES[1:], "worst", 0.1) is None
    short = replace(CURVES[1], cut_short=True)
    assert ratio([CURVES[0], short], "worst", 0.001) is None
    assert "not tried beyond 5.0e-03" in "\n".join(markdown([short.as_row()]))
    assert ratio([CURVES[1], CURVES[2]], "worst", 0.1) is None


def test_a_missed_aim_is_named() -> None:
    assert missed(CURVES) == [
        "A law (worst 0.1: 2.00, may be 1)",
        "A law (mean 0.01: 2.00, may be 1)",
    ]
    uneven = [replace(c, title="2-D mixture") for c in CURVES]
    assert "may be 0.6" in missed(uneven)[0]


def test_the_table_has_times_tolerances_evaluations_and_what_was_left_out() -> None:
    left = {"title": "A law", "contender": STEPWISE, "skipped": "not here"}
    text = "\n".join(markdown([*(c.as_row() for c in CURVES), SCAN.as_row(), left], "A race"))
    assert text.startswith("\n## A race")
    assert "| 2 s; 1e-01; 50 (60) |" in text
    assert "not reached: 5.0e-03" in text
    assert "| share | 2.00 | sdekit alone | 2.00 |  |" in text
    assert "- not run: sdekit, attempt by attempt: not here" in text
    assert "| VP, 2-D | 5.0e-01 | 5.0e-02 | 5.0e-04 |" in text
    assert markdown([left], "A race") == []


def test_the_report_has_the_race(tmp_path: Path) -> None:
    data: dict[str, Any] = {
        "datetime": "2030-01-02T03:04:05",
        "machine_info": {"cpu": {"brand_raw": "Chip"}, "cores": 2},
        "benchmarks": [],
        "likelihood": [c.as_row() for c in CURVES],
    }
    source = tmp_path / "in.json"
    source.write_text(json.dumps(data))
    assert "**A law**: a batch" in report.write(source, tmp_path).read_text()
    assert len(json.loads((tmp_path / "chip-2-cores.json").read_text())["likelihood"]) == 3


def test_pictures_are_1600_pixels_wide_and_small(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for target in (
        draw_times(CURVES, tmp_path / "deep" / "time.png"),
        draw_tolerances([SCAN], tmp_path / "tolerance.png"),
    ):
        head = target.read_bytes()[:24]
        assert head[:8] == b"\x89PNG\r\n\x1a\n" and int.from_bytes(head[16:20], "big") == 1600
        assert target.stat().st_size < 250_000
    with pytest.raises(ValueError, match="no curves"):
        draw_times([SCAN], tmp_path / "time.png")
    with pytest.raises(ValueError, match="no scans"):
        draw_tolerances(CURVES, tmp_path / "tolerance.png")
