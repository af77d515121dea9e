"""Progress without a terminal: when a line is printed, and that a bar is drawn where it can be."""

from __future__ import annotations

import re

import pytest

from sdekit.bridge.progress import shown
from sdekit.cli.report import progress
from sdekit.train.lines import Lines

Capture = pytest.CaptureFixture[str]


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def told(steps: int, seconds: float, capsys: Capture) -> list[str]:
    """What is printed of so many steps of so many seconds in all."""
    clock = Clock()
    lines = Lines("training", clock=clock)
    for k in range(1, steps + 1):
        clock.now = seconds * k / steps
        lines(k / steps, f"step {k}")
    return capsys.readouterr().err.splitlines()


def test_a_line_for_each_tenth(capsys: Capture) -> None:
    # 200 s: a tenth takes 20 s, at least 10 and less than a minute.
    assert told(1000, 200.0, capsys) == [
        f"training: {10 * k}%, step {100 * k}, 0:0{20 * k // 60}:{20 * k % 60:02d}"
        for k in range(1, 11)
    ]


def test_not_more_often_than_every_ten_seconds(capsys: Capture) -> None:
    assert told(1000, 9.9, capsys) == []
    # 40 s: a tenth takes 4 s, so that 10 s decide.
    steps = [int(re.findall(r"step (\d+)", line)[0]) for line in told(1000, 40.0, capsys)]
    assert steps == [250, 500, 750, 1000]


def test_a_line_each_minute_of_a_long_one(capsys: Capture) -> None:
    # A step a second: at 60, 120, .. and, counted from there, at the tenths 720, 1440, ..
    lines = told(7200, 7200.0, capsys)
    steps = [int(re.findall(r"step (\d+)", line)[0]) for line in lines]
    assert set(range(60, 7201, 60)) == set(steps) and lines[-1].endswith("2:00:00")


def test_what_was_done_before_is_not_told_again(capsys: Capture) -> None:
    clock = Clock()
    lines = Lines("bridge", 0.55, clock)
    clock.now = 30.0
    lines(0.58, "not a tenth")
    lines(0.61, "a tenth")
    lines(0.62, "asked for", always=True)
    assert [line.split(", ")[1] for line in capsys.readouterr().err.splitlines()] == [
        "a tenth",
        "asked for",
    ]


def test_a_terminal_has_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with progress("training") as on_step:
        on_step(20, 1.0, 0.25)
    text = capsys.readouterr().err
    assert "training: 100%|" in text and "step 20, loss 0.250" in text
    with shown(True, 2, done=1) as move:
        assert move is not None
        move(5, 1.0, 0.5)
    text = capsys.readouterr().err
    assert "bridge: 100%|" in text and "half-step 2 of 2, step 5, loss 0.5000" in text
    with shown(False, 2) as nothing:
        assert nothing is None
    assert capsys.readouterr().err == ""
