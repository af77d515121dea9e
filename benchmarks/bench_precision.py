"""What a given error costs: each method of each library, on equations whose answers are known.

Error and time of a whole solve at doubled numbers of steps; ``benchmarks.precision`` says on what
and how. Before that, whose Brownian motion torchsde is better off with.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.precision.contenders import CONTENDERS, Contender
from benchmarks.precision.measure import measure
from benchmarks.precision.path import Path
from benchmarks.precision.problems import PROBLEMS, Arctangent, Problem

CASES = [(kind, contender) for kind in PROBLEMS for contender in CONTENDERS[kind]]
NOISE_PATHS, NOISE_STEPS = 10_000, 16


@pytest.mark.parametrize("own", [False, True], ids=["given", "own"])
def test_noise_of_torchsde(clock: Any, leave_out: Any, own: bool) -> None:
    group = f"Noise for torchsde `srk`: {NOISE_PATHS} paths x {NOISE_STEPS} steps, float64"
    name = "its own BrownianInterval" if own else "sdekit's increments"
    if Contender("torchsde", "srk").missing():
        leave_out(Contender("torchsde", "srk").missing(), group=group, contender=name)
    import torchsde

    from benchmarks.precision.torchsde_path import solve

    problem = Arctangent()
    path = Path(NOISE_PATHS, 1, problem.span, NOISE_STEPS)
    noise: Any = None

    def run() -> Tensor:
        nonlocal noise
        if own:
            noise = torchsde.BrownianInterval(
                0.0,
                path.span,
                (path.paths, 1),
                dtype=torch.float64,
                dt=path.dt,
                levy_area_approximation="space-time",
            )
        return solve(problem, "srk", path, noise)

    x = run()
    w = path.end() if noise is None else noise(0.0, path.span)
    error = float((x - problem.solution(path.span, w)).abs().mean())
    clock(
        run,
        group=group,
        contender=name,
        error=error,
        limit=5e-3,
        what="strong error",
        work=path.paths * path.steps / 1e6,
        unit="million path-steps",
        rounds=3,
    )


@pytest.mark.parametrize(
    "kind, contender", CASES, ids=[f"{kind.name}-{contender.name}" for kind, contender in CASES]
)
def test_error_against_work(keep_precision: Any, kind: type[Problem], contender: Contender) -> None:
    missing = contender.missing()
    if missing:
        place = {"title": kind.title, "library": contender.library, "method": contender.method}
        keep_precision(place | {"skipped": missing})
        pytest.skip(missing)
    for curve in measure(kind, contender):
        first, last = curve.points[0], curve.points[-1]
        # No method that does not converge has a time. The slowest, Heun's where the variance comes
        # near to zero, begins with an order of 0.15; what diverges may have been cut short.
        assert math.isfinite(last.error) or len(curve.points) < len(kind.steps), curve
        expected = first.bound * (first.steps / last.steps) ** 0.1
        assert last.error <= max(expected, 3.0 * last.std_error) or math.isinf(expected), curve
        keep_precision(curve.as_row())
