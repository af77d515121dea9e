"""Log-likelihoods: the time to a given error beside torchdiffeq and a plain script; their parts.

``benchmarks.likelihood`` says on what and how. Beside the race: what the divergence estimators cost
and how far off they are by dimension, the error by tolerance down to 1e-10, and the memory that the
exact divergence takes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import sdekit as sk
from benchmarks.likelihood.contenders import CONTENDERS, SDEKIT, missing
from benchmarks.likelihood.fields import BATCH, FIELDS
from benchmarks.likelihood.measure import measure, scan
from benchmarks.likelihood.memory_child import ASKED, DIM
from benchmarks.likelihood.memory_child import BATCH as SAMPLES
from benchmarks.likelihood.problems import PROBLEMS, LawAtT, Problem, mixture_2d, mixture_of
from sdekit.likelihood import make_divergence

ROOT = Path(__file__).resolve().parents[1]
DIMS = (16, 64, 256, 784)
PRODUCTS = 24
"""Of an estimator with a vector; for the exact divergence there is one a component."""
ESTIMATORS = {
    "exact": ("exact", 1, None),
    "hutchinson": ("hutchinson", PRODUCTS, None),
    "hutchinson, orthogonal probes": ("hutchinson", PRODUCTS, "orthogonal"),
    "hutch++": ("hutch++", PRODUCTS * 3 // 2, None),
    "xtrace": ("xtrace", PRODUCTS, None),
}
ALLOCATORS = {
    # What torch frees goes back to the system, so that what is resident is what is in use.
    "sdekit": {"MALLOC_MMAP_THRESHOLD_": "32768", "MALLOC_TRIM_THRESHOLD_": "32768"},
    "the same, glibc's defaults": {},
}
SPARE = 12 << 20
"""Bytes beyond ``memory`` that may be resident: stored activations, and 6 MB whatever is asked."""
EQUATIONS = {"VP": sk.VP, "subVP": sk.SubVP, "VE": sk.VE}
SCANS = (("VP", 2), ("VP", 16), ("VP", 784), ("subVP", 16), ("VE", 16))
COMPILED = ("mixture-float32", "mixture-float64")
"""Problems with a kernel to compile; the even batch has that of one of these."""
PROMISE = 1e-6
"""Nats at rtol = 1e-9 in float64, whatever the dimension and the equation."""


class ChildClock:
    """A clock that runs only while a child process says it worked."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


CHILD = ChildClock()


def child(module: str, *arguments: str, **variables: str) -> dict[str, Any]:
    """The last line that a module of ``benchmarks.likelihood`` prints, run in its own process."""
    paths = [str(ROOT), str(ROOT / "kernels"), os.environ.get("PYTHONPATH", "")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in paths if p), **variables}
    command = [sys.executable, "-m", f"benchmarks.likelihood.{module}", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


# -- the parts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("kind", FIELDS)
def test_estimators(clock: Any, kind: str, name: str, dim: int) -> None:
    case = FIELDS[kind](dim)
    divergence, probes, law = ESTIMATORS[name]
    estimator = make_divergence(divergence, case.x, n_probes=probes, probes=law)

    def run() -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            return estimator.combine(estimator(case.field, case.x)[1])

    value, stated = run()
    difference = value - case.truth
    rounding = 1e-10 * float(case.truth.abs().max())
    # Eight samples tell a root mean square to 25 %; a stated error of few products is as vague.
    limit = 4.0 * float(stated.square().mean().sqrt()) + rounding
    clock(
        run,
        group=f"Divergence of a field with a {kind}, {BATCH} samples, float64",
        contender=name,
        sweep="components",
        at=dim,
        error=float(difference.square().mean().sqrt()),
        limit=limit,
        what="root mean square error (4 stated standard errors)",
        work=1.0,
        unit="calls",
        seconds=0.15,
        rounds=1 if name == "exact" and dim >= 256 else None,
        note="" if name == "exact" else f"{PRODUCTS} products of the Jacobian with a vector",
    )


@cache
def memory_under(allocator: str) -> dict[str, Any]:
    return child("memory_child", **ALLOCATORS[allocator])


@pytest.mark.benchmark(timer=CHILD)
@pytest.mark.parametrize("name", ASKED)
@pytest.mark.parametrize("allocator", ALLOCATORS)
def test_memory(clock: Any, allocator: str, name: str) -> None:
    found, asked = memory_under(allocator)[name], ASKED[name]
    if ALLOCATORS[allocator] and "memory" in asked and found["peak"] is not None:
        assert found["peak"] <= asked["memory"] + SPARE

    def run() -> None:
        CHILD.now += found["seconds"]

    clock(
        run,
        group=f"Exact divergence of an MLP of {DIM} components, {SAMPLES} samples, float32",
        contender=allocator,
        sweep="what was asked for",
        at=name,
        error=found["error"],
        limit=1e-4,
        what="relative difference from eight directions at a time",
        work=1.0,
        unit="calls",
        rounds=1,
        memory=found["peak"],
        note="freed blocks go back to the system at once" if ALLOCATORS[allocator] else "",
    )


# -- the whole -------------------------------------------------------------------------------------


@cache
def problem_named(name: str) -> Problem:
    return PROBLEMS[name]()


@pytest.mark.parametrize("contender", CONTENDERS)
@pytest.mark.parametrize("name", PROBLEMS)
def test_time_to_an_error(keep_likelihood: Any, name: str, contender: str) -> None:
    problem = problem_named(name)
    reason = missing(problem, contender)
    if reason:
        keep_likelihood({"title": problem.title, "contender": contender, "skipped": reason})
        pytest.skip(reason)
    curve = measure(problem, contender)
    if name in COMPILED and contender == SDEKIT:
        with tempfile.TemporaryDirectory() as folder:
            first, later = (
                child("first_child", name, SDEKIT_CACHE_DIR=folder)["first"] for _ in range(2)
            )
        curve = replace(curve, first=first, cached=later)
    # No contender that does not converge has a time.
    least = min(problem.targets["worst"])
    assert curve.best("worst") <= max(least, 0.5 * curve.points[0].worst), curve
    keep_likelihood(curve.as_row())


@pytest.mark.parametrize("equation, dim", SCANS)
def test_error_against_tolerance(keep_likelihood: Any, equation: str, dim: int) -> None:
    problem = scanned(equation, dim)
    curve = scan(problem, 1e-2, 1e-10)
    held = {point.tolerance: point.worst for point in curve.points}
    assert held.get(1e-9, 0.0) <= PROMISE, curve
    assert curve.points[-1].worst < 1e-3, curve
    keep_likelihood(curve.as_row())


def scanned(equation: str, dim: int) -> Problem:
    """A mixture whose error is followed from tolerance to tolerance."""
    if dim == 2:
        problem = mixture_2d(torch.float64)
    else:
        sde = EQUATIONS[equation]()
        law, x, truth = mixture_of(sde, dim, 8, torch.float64)
        problem = Problem(
            title="",
            what="ten Gaussians",
            x=x,
            truth=truth,
            sde=sde,
            score=law,
            prior=LawAtT(law, sde.T),
            divergence="closed form",
            targets={},
            tolerances=(1e-2, 1e-10),
        )
    title = f"{equation}, {dim}-D mixture, {len(problem.x)} samples"
    return replace(problem, title=title, targets={})
