"""Measures of a bridge over its half-steps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sdekit.bridge.state import BridgeState, Estimate, Measures
from sdekit.viz.canvas import BLUE, GREY, RED, PathLike, new_figure, open_frame, save

_COLOURS = {"forward": BLUE, "backward": RED}
_ENDS = {"forward": "target", "backward": "source"}
"""The end at which a direction arrives: its half-steps change that end's error alone."""


class _Point(NamedTuple):
    half_step: int
    value: float
    std_error: float


def plot_measures(states: Iterable[BridgeState], path: PathLike, *, title: str = "") -> Path:
    """All measures of a fit by half-step, in four panels; bars are two standard errors.

    The divergence of successive half-bridges of a direction; the sliced Wasserstein distance at the
    end where the fitted direction arrives, over its floor, the distance of two sets of the end's
    own draws; the squared MMD there; the residual of reversibility. See
    ``sdekit.bridge.state.Measures``.
    states: of ``Driver.fit()``, or ``bridge.states``. Raises ValueError where none has a measure.
    """
    shown = [s for s in states if s.measures != Measures()]
    if not shown:
        raise ValueError("no state has a measure: write measure=1_000, the default, for the fit")
    figure = new_figure(9.0, 5.4)
    if title:
        figure.suptitle(title, fontsize=10)
    panels = figure.subplots(2, 2).flatten()
    for axis, draw in zip(panels, (_change, _sliced, _mmd, _reversibility), strict=True):
        draw(axis, shown)
        axis.set_xlabel("half-step", fontsize=8)
        axis.tick_params(which="both", labelsize=8)
        axis.set_xlim(shown[0].half_step - 0.5, shown[-1].half_step + 0.5)
        axis.xaxis.get_major_locator().set_params(integer=True)
        open_frame(axis)
    return save(figure, path)


def _change(axis: Any, states: Sequence[BridgeState]) -> None:
    for way, colour in _COLOURS.items():
        mine = [s for s in states if s.direction == way]
        points = [_point(s, s.measures.change) for s in mine if s.measures.change is not None]
        _bars(axis, points, colour, way)
    axis.set_title("KL from the half-bridge before, nats", fontsize=9)
    if any(s.measures.change is not None and s.measures.change.value > 0.0 for s in states):
        axis.set_yscale("log")
    _legend(axis)


def _sliced(axis: Any, states: Sequence[BridgeState]) -> None:
    for way, colour in _COLOURS.items():
        mine = [(s, e) for s in states if s.direction == way and (e := _end(s)) is not None]
        points = [_Point(s.half_step, e.sliced, 0.0) for s, e in mine]
        _bars(axis, points, colour, f"at the {_ENDS[way]}")
        floor = [(s.half_step, e.floor) for s, e in mine]
        axis.plot(*_columns(floor), color=colour, lw=1.0, ls=":", label=f"floor, {_ENDS[way]}")
    axis.set_title("sliced Wasserstein distance to the end", fontsize=9)
    axis.set_yscale("log")
    _legend(axis)


def _mmd(axis: Any, states: Sequence[BridgeState]) -> None:
    for way, colour in _COLOURS.items():
        mine = [(s, e) for s in states if s.direction == way and (e := _end(s)) is not None]
        _bars(axis, [_point(s, e.mmd) for s, e in mine], colour, f"at the {_ENDS[way]}")
    axis.set_title("squared MMD to the end", fontsize=9)
    _around_zero(axis, [e.mmd for s in states if (e := _end(s)) is not None])
    _legend(axis)


def _reversibility(axis: Any, states: Sequence[BridgeState]) -> None:
    found = [(s, e) for s in states if (e := s.measures.reversibility) is not None]
    points = [_point(s, e) for s, e in found]
    axis.plot(*_columns([p[:2] for p in points]), color=GREY, lw=0.8)
    for way, colour in _COLOURS.items():
        mine = [_point(s, e) for s, e in found if s.direction == way]
        _bars(axis, mine, colour, f"after {way}", line=False)
    axis.set_title("residual of reversibility, nats", fontsize=9)
    _around_zero(axis, [e for _, e in found])
    _legend(axis)


def _end(state: BridgeState) -> Any:
    """The error at the end that this half-step changed."""
    return getattr(state.measures, _ENDS[state.direction])


def _point(state: BridgeState, estimate: Estimate) -> _Point:
    return _Point(state.half_step, estimate.value, estimate.std_error)


def _bars(
    axis: Any, points: Sequence[_Point], colour: str, label: str, *, line: bool = True
) -> None:
    if not points:
        return
    x, y, error = _columns(points)
    bars = [2.0 * e for e in error] if any(error) else None
    style = "-" if line else "none"
    axis.errorbar(
        x, y, yerr=bars, color=colour, lw=1.2, ls=style, marker="o", ms=3.5, capsize=2, label=label
    )


def _columns(rows: Sequence[Sequence[float]]) -> list[list[float]]:
    return [list(column) for column in zip(*rows, strict=True)] or [[], []]


def _around_zero(axis: Any, known: Sequence[Estimate]) -> None:
    """A logarithmic axis that is linear within the noise, where values may be below zero."""
    if not known:
        return
    axis.axhline(0.0, color=GREY, lw=0.6)
    noise = sorted(e.std_error for e in known)[len(known) // 2]
    largest = max(abs(e.value) for e in known)
    linear = max(2.0 * noise, 1e-4 * largest)
    if largest > 3.0 * linear > 0.0:
        axis.set_yscale("symlog", linthresh=linear)
        lowest = min(e.value - 2.0 * e.std_error for e in known)
        axis.set_ylim(bottom=1.2 * min(0.0, lowest))


def _legend(axis: Any) -> None:
    if axis.get_legend_handles_labels()[0]:
        axis.legend(frameon=False, fontsize=7)
