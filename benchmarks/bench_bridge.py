"""A half-step of a Schrödinger bridge by part; and how large a network may be inside the kernel.

First the simulation alone, by the width of the network: step by step with fused steps, which is
what a bridge does with networks; in one trajectory kernel where the network fits; and in an eager
torch loop. Then simulation, regression, the measures and the whole half-step, with time and peak
memory, in the plane and on MNIST.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from time import perf_counter
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.checks import STANDARD_ERRORS, Reference, distance, ensemble_reference
from benchmarks.half_step import eager
from benchmarks.half_step.cases import GRID, Case, images, plane, times
from benchmarks.half_step.ours import Ours, same_noise
from benchmarks.memory import peak_memory

STEPS, FUSED, EAGER = "sdekit", "sdekit, in one trajectory kernel", "eager torch"
CONTENDERS = (STEPS, FUSED, EAGER)
FUSES = {STEPS: None, FUSED: True}
PARTS = ("simulation", "regression", "measures", "whole")
WIDTHS = (4, 8, 16, 32, 64, 128, 256)
CASES = [plane(16), plane(64), plane(128), images()]
SAME_NOISE = 1e-4
"""Of paths in float32 against float64, relative: rounding of some 20 evaluations."""
SAME_LOSS = 0.1
"""Relative: the loss is mostly the variance of its targets, of which a batch sees some hundreds."""
REFERENCE_PATHS = 20_000
LONG = 0.5
"""Seconds of a call that is warm enough by itself, and is timed twice."""

_simulated: dict[tuple[str, int], float] = {}
_medians: dict[tuple[str, str, str], float] = {}


@cache
def ours(case: Case) -> Ours:
    """The networks of a case, which no timing changes."""
    torch.manual_seed(0)
    return Ours(case)


@cache
def going_on(case: Case) -> Ours:
    """A bridge of which every timing is the next half-step."""
    torch.manual_seed(0)
    return Ours(case)


@cache
def expected_ends(case: Case) -> Reference:
    """Moments of the states at T, from a loop in float64 where it does not take minutes."""
    torch.manual_seed(1)
    net, x = ours(case).net("forward"), case.ends()[0]
    if x.ndim > 2:
        return ensemble_reference(shown(eager.simulate(net, x[: 2 * case.size.paths], times())[-1]))
    rows = torch.randint(0, len(x), (REFERENCE_PATHS,))
    net.double()
    found = eager.simulate(net, x[rows].double(), times().double())[-1]
    net.float()
    return ensemble_reference(found)


@cache
def expected_loss(case: Case) -> float:
    """The mean loss of a fit in eager torch."""
    torch.manual_seed(2)
    made = ours(case)
    losses = eager.half_step(
        made.start,
        made.net("forward"),
        case.ends()[0][: case.size.paths],
        times(),
        steps=case.size.fits,
        batch=case.size.batch,
    )
    return sum(losses) / len(losses)


def shown(x: Tensor) -> Tensor:
    """What an ensemble is compared by: its components, or mean and size of an image."""
    flat = x.flatten(1)
    return flat if flat.shape[1] <= 4 else torch.stack([flat.mean(1), flat.std(1)], 1)


def simulation_error(case: Case, states: Tensor) -> float:
    """Mean and variance at T, in standard errors."""
    return distance(shown(states[-1]), expected_ends(case), GRID)


def once_timed(run: Callable[[], Any]) -> tuple[float, Any]:
    """(seconds of a call, what it gave): of the second one where that is no matter of seconds."""
    for _ in range(2):
        began = perf_counter()
        found = run()
        seconds = perf_counter() - began
        if seconds > LONG:
            break
    return seconds, found


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("contender", CONTENDERS)
def test_simulation_by_width(
    clock: Any, benchmark: Any, leave_out: Any, contender: str, width: int
) -> None:
    case = plane(width, trained=False)
    cell: dict[str, Any] = {
        "group": f"simulation for a half-step: 2-D, DriftMLP of 3 layers, {GRID} steps, "
        f"{case.size.paths} paths, float32",
        "contender": contender,
        "sweep": "width",
        "at": width,
    }
    if contender == FUSED and not fits(case):
        leave_out("too large for the kernel", **cell)
    run = simulator(case, contender)
    once, states = once_timed(run)
    if contender != EAGER:
        off = same_noise(ours(case))
        assert off <= SAME_NOISE, f"{contender}: {off:.2g} off the same noise in float64"
    clock(
        run,
        **cell,
        error=simulation_error(case, states),
        limit=STANDARD_ERRORS,
        what="mean, variance at T [s.e.]; sdekit's paths on the same noise in float64 besides",
        work=case.size.paths * GRID / 1e6,
        unit="million path-steps",
        seconds=0.3,
        once=once,
        fewest=2 if once > LONG else 3,
        memory=peak_memory(run),
        note=fusing() if contender == FUSED else "",
    )
    _simulated[contender, width] = benchmark.stats.stats.median


def fits(case: Case) -> bool:
    """Whether the network becomes part of the trajectory kernel."""
    return bool(ours(case).explained().name == "trajectory_kernel")


@cache
def fusing() -> str:
    """What becomes of the simulation by width."""
    cases = {width: plane(width, trained=False) for width in WIDTHS}
    inside = [width for width, case in cases.items() if fits(case)]
    text = f"fits at widths {', '.join(map(str, inside)) or 'none'}"
    outside = [width for width in WIDTHS if width not in inside]
    if outside:
        text += f"; from {outside[0]} on: {ours(cases[outside[0]]).explained().reason}"
    return text


def test_break_even(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [f"the network inside the trajectory kernel: {fusing()}"]
    for width in WIDTHS:
        steps, one, plain = (_simulated.get((name, width)) for name in CONTENDERS)
        if steps is not None and plain is not None:
            kernel = "" if one is None else f"in one trajectory kernel {one / steps:.2f}, "
            lines.append(f"width {width}: {kernel}eager torch {plain / steps:.2f} of step by step")
    with capsys.disabled():
        print("", *lines, sep="\n")


def simulator(case: Case, contender: str) -> Callable[[], Tensor]:
    made = ours(case)
    if contender != EAGER:
        made.simulating(FUSES[contender])
        return made.simulation
    net, x = made.net("forward"), case.ends()[0][: case.size.paths]
    return lambda: eager.simulate(net, x, times())


def runner(case: Case, contender: str, part: str) -> Callable[[], Any] | None:
    """One call of a part; None where there is no such part."""
    if part == "simulation":
        return simulator(case, contender)
    made = ours(case)
    if contender != EAGER:
        made = going_on(case) if part == "whole" else made
        run: Callable[[], Any] = getattr(made.simulating(FUSES[contender]), part)
        return run
    if part == "measures":
        return None
    net, fixed, x = made.start, made.net("forward"), case.ends()[0][: case.size.paths]
    options: dict[str, Any] = {"steps": case.size.fits, "batch": case.size.batch}
    if part == "whole":
        return lambda: eager.half_step(net, fixed, x, times(), **options)
    paths = eager.simulate(fixed, x, times())
    return lambda: eager.regression(net, fixed, paths, times(), **options)


def part_error(case: Case, part: str, found: Any) -> tuple[float, float, str]:
    """(error, limit, in which measure)."""
    if part == "simulation":
        return simulation_error(case, found), STANDARD_ERRORS, "mean, variance at T [s.e.]"
    if part == "measures":
        made, x = ours(case), case.ends()[0][: 4 * case.size.measured]
        torch.manual_seed(3)
        value, error = eager.change(made.net("forward"), case.net(5), x, times())
        assert found.change is not None
        off = abs(found.change.value - value) / (found.change.std_error**2 + error**2) ** 0.5
        return off, STANDARD_ERRORS, "KL of the change against plain torch [s.e.]"
    loss = sum(found) / len(found)
    return abs(loss / expected_loss(case) - 1.0), SAME_LOSS, "mean loss against another plain fit"


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("contender", CONTENDERS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_half_step(
    clock: Any, benchmark: Any, leave_out: Any, case: Case, contender: str, part: str
) -> None:
    torch.manual_seed(4)
    size = case.size
    cell: dict[str, Any] = {
        "group": f"half-step of DSB: {case.name}; {size.paths} paths of {GRID} steps, {size.fits} "
        f"steps of the regression with batches of {size.batch}, {size.measured} paths measured",
        "contender": contender,
        "sweep": "part",
        "at": part,
    }
    if contender == FUSED and not fits(case):
        leave_out("too large for the kernel", **cell)
    run = runner(case, contender, part)
    if run is None:
        leave_out("has none", **cell)
    assert run is not None
    once, found = once_timed(run)
    error, limit, what = part_error(case, part, found)
    memory = peak_memory(run)
    clock(
        run,
        **cell,
        error=error,
        limit=limit,
        what=what,
        work=1.0,
        unit="calls",
        seconds=0.5,
        once=once,
        fewest=2 if once > LONG else 3,
        memory=memory,
    )
    _medians[case.name, contender, part] = benchmark.stats.stats.median
    if part == "whole":
        benchmark.extra_info["note"] = share(case, contender)


def share(case: Case, contender: str) -> str:
    """How much of a half-step in earnest is simulation, by what its parts take here."""
    timed, earnest = case.size, case.earnest
    times_as_much = {
        "simulation": earnest.paths / timed.paths,
        "regression": earnest.fits * earnest.batch / (timed.fits * timed.batch),
        "measures": earnest.measured / max(timed.measured, 1),
    }
    parts = {
        part: _medians.get((case.name, contender, part), 0.0) * more
        for part, more in times_as_much.items()
    }
    whole = sum(parts.values())
    shares = ", ".join(f"{part} {seconds / whole:.1%}" for part, seconds in parts.items())
    return (
        f"with {earnest.paths} paths, {earnest.fits} steps of {earnest.batch} and "
        f"{earnest.measured} paths measured: {shares}"
    )
