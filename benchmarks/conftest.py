"""What the benchmark scripts share: the clock, and what is written down about the machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from time import perf_counter
from typing import Any

import pytest
import torch

PACKAGES = (
    "torch",
    "triton",
    "numba",
    "numpy",
    "torchsde",
    "torchdiffeq",
    "diffrax",
    "jax",
    "diffusers",
)
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "NUMBA_THREADING_LAYER")
# Before the first benchmark: afterwards the benchmarks themselves are the load.
LOAD_BEFORE = os.getloadavg()

Timer = Callable[..., None]
LeaveOut = Callable[..., None]
_LEFT_OUT: list[dict[str, Any]] = []
_PRECISION: list[dict[str, Any]] = []
_LIKELIHOOD: list[dict[str, Any]] = []


def pytest_benchmark_update_machine_info(config: Any, machine_info: dict[str, Any]) -> None:
    """Versions, threads and the load that was there before."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    machine_info["versions"] = found
    machine_info["torch_threads"] = torch.get_num_threads()
    machine_info["cores"] = len(os.sched_getaffinity(0))
    machine_info["load_before"] = round(LOAD_BEFORE[0], 2)
    # How long an OpenMP thread spins before it sleeps: on a loaded machine it decides the times.
    waiting = {name: os.environ[name] for name in WAITING if name in os.environ}
    machine_info["openmp"] = ", ".join(f"{k}={v}" for k, v in waiting.items()) or "defaults"


def pytest_benchmark_update_json(config: Any, benchmarks: Any, output_json: dict[str, Any]) -> None:
    """What was not timed stands in the report too, with its reason; so do curves."""
    output_json["skipped"] = list(_LEFT_OUT)
    output_json["precision"] = list(_PRECISION)
    output_json["likelihood"] = list(_LIKELIHOOD)


@pytest.fixture
def keep_precision() -> Callable[[dict[str, Any]], None]:
    """A curve of error against work, as ``benchmarks.precision.measure.Curve.as_row`` writes it."""
    return _PRECISION.append


@pytest.fixture
def keep_likelihood() -> Callable[[dict[str, Any]], None]:
    """A curve of error and time by tolerance, as ``benchmarks.likelihood.curve`` writes it."""
    return _LIKELIHOOD.append


@pytest.fixture
def leave_out(request: pytest.FixtureRequest) -> LeaveOut:
    """leave_out(reason, group=..., contender=..., **more): skip the test, report why."""

    def skip(reason: str, *, group: str, contender: str, **more: Any) -> None:
        row = {"fullname": request.node.nodeid, "group": group, "contender": contender}
        _LEFT_OUT.append({**row, "skipped": reason, **more})
        pytest.skip(reason)

    return skip


@pytest.fixture
def clock(benchmark: Any) -> Iterator[Timer]:
    """clock(run, group=..., contender=..., error=..., limit=..., what=..., work=..., unit=...).

    Refuses a wrong answer, then times ``run`` for about ``seconds``, in rounds of a millisecond
    or more, after two calls that compile and warm up. error, limit: the answer's error and what it
    may be; ``what`` says in which measure. work, unit: how many ``unit`` one call does. note: more
    that the table should say.

    once: seconds of a call that was made already; then no other one is made to warm up, and
    ``fewest`` rounds are enough. rounds: exactly so many calls, the first one among them. more: any
    further entries of the row.
    """

    def timed(
        run: Callable[[], Any],
        *,
        group: str,
        contender: str,
        error: float,
        limit: float,
        what: str,
        work: float,
        unit: str,
        seconds: float = 0.8,
        note: str = "",
        once: float | None = None,
        fewest: int = 5,
        rounds: int | None = None,
        **more: Any,
    ) -> None:
        assert error <= limit, f"{contender}: {what} {error:.3g}, may be {limit:.3g}"
        benchmark.group = group
        benchmark.extra_info.update(
            contender=contender,
            error=error,
            limit=limit,
            what=what,
            work=work,
            unit=unit,
            note=note,
            **more,
        )
        iterations = 1
        if rounds is None:
            if once is None:
                run()
                once = _mean_seconds(run, 0.1 * seconds)
            iterations = max(1, int(1e-3 / once))
            rounds = min(200, max(fewest, int(seconds / (once * iterations))))
        benchmark.pedantic(run, rounds=rounds, iterations=iterations)

    yield timed


def _mean_seconds(run: Callable[[], Any], at_least: float) -> float:
    """The mean, not the fastest: on a loaded machine some calls take a hundred times as long."""
    calls, began = 0, perf_counter()
    while calls < 2 or perf_counter() - began < at_least:
        run()
        calls += 1
    return (perf_counter() - began) / calls
