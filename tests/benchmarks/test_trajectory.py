"""The systems, their exact moments, the C++ loop and the memory's clock, at sizes of no account."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from sdekit_kernels import normal

from benchmarks import compiled_loop
from benchmarks.checks import STANDARD_ERRORS, Reference, distance, ensemble_reference
from benchmarks.compiled_loop import NoCompiler, ou_loop
from benchmarks.contenders import (
    CONTENDERS,
    DIFFRAX,
    EAGER,
    TORCHSDE,
    UNTOLD,
    Missing,
    SameNoise,
    expected_seconds,
    prepare,
    same_noise,
    solve,
)
from benchmarks.memory import peak_memory
from benchmarks.rivals import eager_loop
from benchmarks.systems import GBM, OU, SYSTEMS, Heston, Ring, System

ROOT = Path(__file__).resolve().parents[2]


def short(system: System, steps: int = 6) -> System:
    """A few steps of the usual length."""
    system.span, system.steps = system.span * steps / system.steps, steps
    return system


@pytest.mark.parametrize("kind", SYSTEMS, ids=lambda kind: kind.__name__)
def test_shapes_are_those_that_the_noise_type_promises(kind: type[System]) -> None:
    system = kind(dtype=torch.float64)
    x = system.x0(7) + 0.1 * torch.randn(7, system.dim, dtype=torch.float64)
    t = torch.zeros(())
    assert system.drift(t, x).shape == x.shape
    general = system.noise_type == "general"
    shape = (7, system.dim, system.channels) if general else x.shape
    assert system.diffusion(t, x).shape == shape
    assert system.f(t, x).dtype == system.g(t, x).dtype == torch.float64


def test_states_below_zero_make_no_nan() -> None:
    for kind in (Heston, SYSTEMS[4]):
        x = -torch.ones(3, len(kind.start))
        assert bool(kind().diffusion(torch.zeros(()), x).isfinite().all())


@pytest.mark.parametrize("kind", SYSTEMS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("options", [{}, {"fuse": False}, {"backend": "torch"}], ids=str)
def test_every_path_of_sdekit_agrees_on_the_same_noise(
    kind: type[System], options: dict[str, Any]
) -> None:
    system = short(kind())
    found = same_noise(system, solve(system, system.x0(33), **options).x)
    assert found.error <= found.limit, found


def test_a_wrong_plain_loop_does_not_widen_the_limit() -> None:
    assert SameNoise(error=0.7, plain=0.7).limit < 1e-3


@pytest.mark.parametrize("contender", [*CONTENDERS, UNTOLD])
@pytest.mark.parametrize("kind", [OU, GBM, Heston], ids=lambda kind: kind.__name__)
def test_contenders_solve_the_same_equation(kind: type[System], contender: str) -> None:
    torch.manual_seed(0)
    system, paths = short(kind()), 2000
    expected = system.exact()
    if expected is None:
        expected = ensemble_reference(eager_loop(system, system.x0(paths)))
    try:
        found = prepare(contender, system, paths)()
    except Missing as missing:
        assert contender in (DIFFRAX, TORCHSDE, UNTOLD)
        pytest.skip(str(missing))
    found = torch.as_tensor(found.copy() if contender == DIFFRAX else found)
    assert found.shape == (paths, system.dim)
    assert distance(found, expected, system.steps) <= STANDARD_ERRORS


def test_exact_moments_are_those_of_the_formulas() -> None:
    ou, gbm = OU(), GBM()
    dt, shrink = ou.span / ou.steps, 1.0 - ou.theta * ou.span / ou.steps
    exact = ou.exact()
    assert float(exact.mean) == pytest.approx(
        ou.mu + shrink**ou.steps * (ou.start[0] - ou.mu), rel=1e-12
    )
    assert float(exact.variance) == pytest.approx(
        ou.sigma**2 * dt * (1 - shrink ** (2 * ou.steps)) / (1 - shrink**2), rel=1e-12
    )
    dt, exact = gbm.span / gbm.steps, gbm.exact()
    grow = 1.0 + gbm.mu * dt
    mean = gbm.start[0] * grow**gbm.steps
    square = gbm.start[0] ** 2 * (grow**2 + gbm.sigma**2 * dt) ** gbm.steps
    torch.testing.assert_close(exact.mean, torch.full((3,), mean, dtype=torch.float64))
    torch.testing.assert_close(
        exact.variance, torch.full((3,), square - mean**2, dtype=torch.float64), rtol=1e-9, atol=0
    )


def test_distance_sees_a_wrong_variance_and_a_wrong_mean() -> None:
    torch.manual_seed(0)
    z = torch.randn(100_000, 2)
    one = torch.ones(2, dtype=torch.float64)
    law = Reference(0.0 * one, one, 3.0 * one)
    assert distance(z, law, 1) < 4.0
    assert distance(1.02 * z, law, 1) > STANDARD_ERRORS
    assert distance(z + torch.tensor([0.0, 0.03]), law, 1) > STANDARD_ERRORS
    assert distance(z, ensemble_reference(torch.randn(50_000, 2)), 1) < 4.0


def test_chunks_do_not_change_the_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(1000, 3)
    whole = ensemble_reference(x)
    monkeypatch.setattr("benchmarks.checks._ROWS", 37)
    for a, b in zip(whole, ensemble_reference(x), strict=True):
        torch.testing.assert_close(a, b)
    wide = x.double()
    torch.testing.assert_close(whole.mean, wide.mean(0))
    torch.testing.assert_close(whole.variance, wide.var(0))
    torch.testing.assert_close(whole.fourth, (wide - wide.mean(0)).pow(4).mean(0))


@pytest.fixture(scope="module")
def loop() -> None:
    try:
        compiled_loop.load()
    except NoCompiler as missing:
        pytest.skip(str(missing))


@pytest.mark.parametrize("step", [0, 1, 2, 3, 6])
@pytest.mark.parametrize("first", [0, 5, 2**32 - 100, 2**33 + 1])
def test_cpp_draws_the_same_bits(loop: None, first: int, step: int) -> None:
    # Without a drift, one step from 0 with sigma = dt = 1 is the normal itself.
    n = 1050
    still = {"theta": 0.0, "mu": 0.0, "sigma": 1.0, "dt": 1.0, "steps": 1}
    z = ou_loop(torch.zeros(n, 1), **still, seed=9, first_sample=first, first_step=step)
    assert torch.equal(z, normal((n, 1), seed=9, first_sample=first, step=step))


@pytest.mark.parametrize(("first_step", "steps"), [(0, 4), (0, 11), (3, 6), (5, 2)])
def test_cpp_adds_the_same_steps(loop: None, first_step: int, steps: int) -> None:
    n, first = 1100, 2**32 - 1000
    still = {"theta": 0.0, "mu": 0.0, "sigma": 1.0, "dt": 1.0, "steps": steps}
    found = ou_loop(torch.zeros(n, 1), **still, first_sample=first, first_step=first_step)
    total = torch.zeros(n, 1)
    for k in range(first_step, first_step + steps):
        total += normal((n, 1), first_sample=first, step=k)
    assert torch.equal(found, total)


def test_cpp_takes_the_paths_of_solve(loop: None) -> None:
    system = short(OU(), 17)
    x0 = system.x0(2500)
    numbers = {"theta": OU.theta, "mu": OU.mu, "sigma": OU.sigma}
    found = ou_loop(x0, **numbers, dt=system.span / system.steps, steps=system.steps)
    torch.testing.assert_close(found, solve(system, x0).x, rtol=2e-6, atol=2e-6)
    assert bool((x0 == OU.start[0]).all())


def test_without_a_compiler_the_reason_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled_loop.load.cache_clear()
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(NoCompiler, match="no C\\+\\+ compiler"):
        compiled_loop.load()
    compiled_loop.load.cache_clear()


def test_peak_memory_counts_what_was_freed_again() -> None:
    def run() -> torch.Tensor:
        first = torch.ones(8 << 20)  # 32 MiB
        second = first + 1.0
        return (second - first)[:10].clone()

    run()
    peak = peak_memory(run)
    if peak is None:
        pytest.skip("nobody counts memory here")
    assert 60 * 2**20 < peak < 140 * 2**20
    small = peak_memory(lambda: torch.ones(1000))
    assert small is not None and small < 8 * 2**20


def test_expected_seconds_follow_a_line() -> None:
    assert expected_seconds([], 10**6) == 0.0
    assert expected_seconds([(100, 0.3)], 1000) == 0.3
    assert expected_seconds([(100, 1.0), (1000, 1.9)], 10_000) == pytest.approx(10.9)


def test_ring_of_one_has_no_neighbours() -> None:
    x = torch.tensor([[0.3], [2.0]])
    torch.testing.assert_close(Ring(1).drift(torch.zeros(()), x), x - x**3)


def test_first_call_prints_its_times(tmp_path: Path) -> None:
    paths = os.pathsep.join([str(ROOT), str(ROOT / "kernels")])
    env = {**os.environ, "PYTHONPATH": paths}
    command = [sys.executable, "-m", "benchmarks.first_call", "Ring3", str(tmp_path / "x.pt")]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["first"] > 0.0 and found["second"] > 0.0
    x = torch.load(tmp_path / "x.pt")
    assert x.shape[1] == 3 and math.isfinite(float(x.sum()))


def test_eager_needs_no_sdekit() -> None:
    torch.manual_seed(0)
    system = short(GBM())
    assert prepare(EAGER, system, 5)().shape == (5, 3)
