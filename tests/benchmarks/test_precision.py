"""Error against work: closed forms, the path that every library is given, times and tables."""

from __future__ import annotations

import json
import math
from pathlib import Path as File
from typing import Any

import pytest
import torch

import sdekit as sk
from benchmarks import report
from benchmarks.precision.contenders import CONTENDERS, Contender
from benchmarks.precision.control import without_path
from benchmarks.precision.curve import Curve, Point, at_least, time_to_reach
from benchmarks.precision.measure import measure
from benchmarks.precision.path import Path
from benchmarks.precision.picture import draw
from benchmarks.precision.problems import (
    GBM,
    PROBLEMS,
    Additive,
    Arctangent,
    DoubleWell,
    Heston,
    Problem,
)
from benchmarks.precision.table import behind, markdown, rows


def ours(method: str, problem: Problem, path: Path) -> torch.Tensor:
    timed, _ = Contender("sdekit", method, problem.interpretation).prepare(type(problem))
    return timed(path)


# -- problems --------------------------------------------------------------------------------------


@pytest.mark.parametrize("interpretation", ["ito", "stratonovich"])
@pytest.mark.parametrize("kind", [GBM, Additive, Arctangent])
def test_closed_forms_are_what_fine_steps_come_to(kind: type[Problem], interpretation: str) -> None:
    problem = kind(interpretation)
    method = "heun" if problem.stratonovich or kind is Additive else "milstein"
    fine = Path(64, 1, problem.span, 512, seed=3)
    error = problem.compare(ours(method, problem, fine), fine)["strong"].mean()
    assert error < 2e-2  # of GBM, E x = 4.5; far less of the others
    coarse = fine._replace(steps=64, refine=8)
    ratio = problem.compare(ours(method, problem, coarse), coarse)["strong"].mean() / error
    assert 5.0 < ratio < 80.0  # 8 by order 1, 64 by order 2


def test_the_double_well_is_that_of_the_library() -> None:
    problem = DoubleWell()
    equation, x = problem.equation(), torch.tensor([[0.3, -1.2], [-1.4, 0.1]]).double()
    t = torch.zeros(())
    assert torch.allclose(problem.drift(t, x), equation.drift(t, x))
    assert torch.allclose(problem.diffusion(t, x)[:1, :, 0], equation.diffusion(t, x).double())
    assert torch.allclose(problem.energy(x), equation.energy(x))
    assert 64 * max(problem.steps) ** 3 <= problem.finest**3


def test_the_price_is_that_of_the_paper_and_rivals_have_the_library_s_coefficients() -> None:
    problem = Heston()
    assert problem.price() == pytest.approx(6.8061, abs=5e-5)
    x, t = torch.tensor([[4.6, 0.01], [4.7, 0.3]], dtype=torch.float64), torch.zeros(())
    ours = problem.equation()
    assert torch.allclose(problem.drift(t, x), ours.drift(t, x))
    assert torch.allclose(problem.diffusion(t, x), ours.diffusion(t, x))
    other = sk.to_stratonovich(ours)
    assert torch.allclose(Heston("stratonovich").drift(t, x), other.drift(t, x))


def test_controls_have_mean_zero_and_take_variance_away() -> None:
    problem = Heston()
    path = Path(50_000, 2, 1.0, 2)
    for control in problem._controls(path.end()):
        assert abs(float(control.mean())) < 4.0 * float(control.std()) / math.sqrt(path.paths)
    controls = [path.end()[:, 0]]
    values = 3.0 + 2.0 * controls[0] + 0.1 * path.end()[:, 1]
    values[0] = math.nan
    left = without_path(values, controls)
    assert left.isnan().sum() == 1
    assert float(left[1:].std()) == pytest.approx(0.1, rel=0.02)
    assert float(left[1:].mean()) == pytest.approx(3.0, abs=3e-3)


# -- the path --------------------------------------------------------------------------------------


def test_a_path_joined_from_finer_steps_is_one_path() -> None:
    fine = Path(5, 2, 4.0, 32, seed=9)
    assert torch.allclose(fine.end(), fine._replace(steps=8, refine=4).end(), atol=1e-14)
    rows = fine._replace(paths=2, first=3).end()
    assert torch.equal(rows, fine.end()[3:])


SAME = [
    (Arctangent, "ito", "euler", "euler_maruyama"),
    (Arctangent, "ito", "milstein", "milstein"),
    (Arctangent, "stratonovich", "heun", "heun"),
    (Additive, "ito", "srk", "sra1"),
    (DoubleWell, "ito", "euler", "euler_maruyama"),
]


@pytest.mark.parametrize("kind, interpretation, theirs, mine", SAME)
def test_torchsde_goes_sdekit_s_path(
    kind: type[Problem], interpretation: str, theirs: str, mine: str
) -> None:
    pytest.importorskip("torchsde")
    from benchmarks.precision.torchsde_path import solve

    problem = kind(interpretation)
    path = Path(7, problem.channels, problem.span, 128, seed=4)
    assert torch.allclose(
        solve(problem, theirs, path), ours(mine, problem, path), rtol=1e-11, atol=1e-12
    )
    joined = path._replace(steps=64, refine=2)
    assert torch.allclose(
        solve(problem, theirs, joined), ours(mine, problem, joined), rtol=1e-11, atol=1e-12
    )


def test_euler_of_torchsde_is_full_truncation() -> None:
    pytest.importorskip("torchsde")
    from benchmarks.precision.torchsde_path import solve

    path = Path(50, 2, 1.0, 16, seed=4)
    theirs = solve(Heston(), "euler", path)
    mine = ours("full_truncation", Heston(), path)
    assert bool((theirs[:, 1] < 0.0).any())
    assert torch.allclose(theirs[:, 0], mine[:, 0], rtol=1e-12)
    assert torch.allclose(theirs[:, 1].clamp(min=0.0), mine[:, 1], atol=1e-14)


def test_the_given_path_refuses_what_is_no_step() -> None:
    from benchmarks.precision.torchsde_path import GivenPath

    noise = GivenPath(Path(3, 1, 1.0, 4), slice(None), "space-time")
    dw, u = noise(torch.tensor(0.25), torch.tensor(0.5), return_U=True)
    assert dw.shape == u.shape == (3, 1)
    for ends in ((0.25, 0.75), (0.1, 0.35)):
        with pytest.raises(ValueError, match="no step"):
            noise(torch.tensor(ends[0]), torch.tensor(ends[1]))


def test_diffrax_goes_sdekit_s_path() -> None:
    pytest.importorskip("diffrax")
    from benchmarks.precision.diffrax_methods import prepare

    _, checked = prepare(DoubleWell(), "QUICSORT")
    path = Path(7, 2, DoubleWell.span, 64, seed=4)
    assert torch.allclose(checked(path), ours("quicsort", DoubleWell(), path), atol=1e-9)


# -- times -----------------------------------------------------------------------------------------


def points(*errors: float, std_error: float = 0.0) -> tuple[Point, ...]:
    """1, 2, 4 ... seconds."""
    return tuple(Point(4 * 2**i, 2.0**i, e, std_error) for i, e in enumerate(errors))


def test_time_is_log_linear_between_two_numbers_of_steps() -> None:
    reached = time_to_reach(points(1.0, 0.1, 0.001), 0.01)
    assert reached is not None and not reached.at_most
    assert reached.seconds == pytest.approx(2.0 * 2.0**0.5)
    assert reached.steps == pytest.approx(8.0 * 2.0**0.5)
    exactly = time_to_reach(points(1.0, 0.1, 0.001), 0.1)
    assert exactly is not None and exactly.seconds == pytest.approx(2.0)


def test_an_error_counts_once_it_stays_below_with_its_standard_error() -> None:
    assert time_to_reach(points(1.0, 0.001, 0.1, 0.01), 0.05).seconds > 4.0  # type: ignore[union-attr]
    assert time_to_reach(points(1.0, 0.1, std_error=0.2), 0.25) is None
    assert time_to_reach(points(1.0, 0.1), 0.05) is None
    first = time_to_reach(points(0.01, 0.001), 0.1)
    assert first is not None and first.at_most and first.seconds == 1.0
    after = time_to_reach(points(math.inf, 0.1), 0.2)
    assert after is not None and after.seconds == 2.0
    assert time_to_reach(points(0.1, math.inf), 0.2) is None


def test_what_was_not_reached_takes_longer_at_any_order() -> None:
    assert at_least(Point(8, 2.0, 0.8, 0.0), 0.1) == pytest.approx(4.0)
    assert at_least(Point(8, 2.0, math.inf, 0.0), 0.1) == 2.0


def test_a_curve_ends_far_below_its_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Additive, "paths", 100)
    (curve,) = measure(Additive, Contender("sdekit", "sra1"))
    assert curve.points[-1].error < 0.25e-5 < curve.points[-2].error
    assert [p.steps for p in curve.points] == [4 * 2**i for i in range(len(curve.points))]
    assert all(0.0 < p.seconds < 60.0 and 0.0 < p.std_error < p.error for p in curve.points)


def test_contenders_name_methods_that_are_there_or_say_so() -> None:
    assert set(CONTENDERS) == set(PROBLEMS)
    for own in CONTENDERS.values():
        assert len({c.name for c in own}) == len(own)
        assert all(not c.missing() for c in own if c.library == "sdekit")
    assert "no such method" in Contender("sdekit", "nothing").missing()


# -- what is written -------------------------------------------------------------------------------


def curve(library: str, method: str, *errors: float, slower: float = 1.0) -> Curve:
    scaled = tuple(p._replace(seconds=slower * p.seconds) for p in points(*errors))
    return Curve("A problem", "dx = dW", "strong", (0.1, 0.001), 1000, library, method, scaled)


CURVES = [
    curve("torchsde", "euler", 0.4, 0.2, 0.1, slower=0.5),
    curve("sdekit", "euler_maruyama", 0.4, 0.2, 0.1),
    curve("sdekit", "sra1", math.inf, 0.01, 0.0001),
]


def test_curves_survive_json() -> None:
    text = json.dumps([c.as_row() for c in CURVES], allow_nan=False)
    assert [Curve.from_row(row) for row in json.loads(text)] == CURVES


def test_the_table_says_who_leads_and_where_not() -> None:
    near, far = rows(CURVES)
    assert near.best["sdekit"].method == "sra1" and near.best["sdekit"].seconds == 2.0
    assert near.times == pytest.approx(1.0) and behind([near, far]) == [near]
    assert far.best["torchsde"].method == "" and far.best["torchsde"].seconds > 2.0
    assert far.times is not None and far.times > 1.0
    left_out = {"title": "A problem", "library": "diffrax", "method": "Euler", "skipped": "gone"}
    text = "\n".join(markdown([*(c.as_row() for c in CURVES), left_out]))
    assert "| A problem, strong | 0.1 | 2 s (sra1, 8 steps) | 2 s (euler, 16 steps) | 1.0 |" in text
    assert "sdekit is not ahead of torchsde in: A problem (strong 0.1)." in text
    assert "Not run: diffrax Euler (gone)." in text
    assert markdown([left_out]) == []


def test_the_report_has_the_curves(tmp_path: File) -> None:
    data: dict[str, Any] = {
        "datetime": "2030-01-02T03:04:05",
        "machine_info": {"cpu": {"brand_raw": "Chip"}, "cores": 2},
        "benchmarks": [],
        "precision": [c.as_row() for c in CURVES],
    }
    source = tmp_path / "in.json"
    source.write_text(json.dumps(data))
    text = report.write(source, tmp_path).read_text()
    assert "**A problem, strong error**: `dx = dW`" in text
    assert len(json.loads((tmp_path / "chip-2-cores.json").read_text())["precision"]) == 3


def test_the_picture_is_1600_pixels_wide_and_small(tmp_path: File) -> None:
    pytest.importorskip("matplotlib")
    target = draw(CURVES, tmp_path / "deep" / "picture.png")
    head = target.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n" and int.from_bytes(head[16:20], "big") == 1600
    assert target.stat().st_size < 250_000
    with pytest.raises(ValueError, match="no curves"):
        draw([], target)
