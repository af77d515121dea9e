"""Statistics made inside the trajectory kernel against those that torch makes of saved states."""

from __future__ import annotations

import importlib

import pytest
import torch
from sdekit_kernels.fuse._triton.run import run_triton
from sdekit_kernels.fuse.statistics import parts_of

import sdekit as sk
from tests.solve.paths import Plain

ENSEMBLE = importlib.import_module("sdekit.solve.ensemble")  # the function has that name too
TRAJECTORY = importlib.import_module("sdekit.solve.trajectory")
REDUCTION = importlib.import_module("sdekit.solve.reduction")
X0 = torch.tensor([0.3, -0.5])
PATHS = 5003
OU = sk.OU(1.3, 0.2, 0.7)
FUNCTIONALS = {
    "top": sk.Maximum(lambda t, x: x),
    "area": sk.TimeIntegral(lambda t, x: x[:, 0]),
    "hit": sk.FirstPassage(lambda t, x: x[:, 0], 0.9),  # infinite for some paths
}


def correlated(t, x):
    one = torch.ones_like(x[:, 0])
    return torch.stack([torch.stack([one, 0.3 * x[:, 1]], 1), torch.stack([0.5 * one, one], 1)], 1)


GENERAL = Plain(lambda t, x: -x, correlated, noise_type="general")
CUBIC = Plain(lambda t, x: x**3, lambda t, x: 3.0 * torch.ones_like(x))  # some paths blow up

CASES = {
    "OU": (OU, X0, {}),
    "covariance": (OU, X0, dict(covariance=True, bins=20)),
    "general noise": (GENERAL, X0, dict(covariance=True, bins=10, save_at=[0.25, 1.0])),
    "blow up": (CUBIC, torch.zeros(2), dict(bins=30, save_at=[0.05, 0.5, 1.0])),
    "functionals": (OU, X0, dict(functionals=FUNCTIONALS, bins=50)),
    "functionals alone": (OU, X0, dict(functionals=FUNCTIONALS, bins=5, save_at=[])),
    "stop": (OU, X0, dict(stop=lambda t, x: x[:, 0] > 0.8, functionals=FUNCTIONALS, bins=9)),
    "antithetic": (OU, X0, dict(antithetic=True, covariance=True, bins=7)),
    "a float64": (OU, X0[0].double(), dict(bins=40, span=(-1.0, 1.5), save_at=[0.5])),
    "start, grid and between": (OU, X0, dict(bins=12, save_at=[0.0, 0.25, 0.3, 0.31, 0.95, 1.0])),
    "own grid": (OU, X0, dict(times=[0.0, 0.1, 0.4, 1.0], save_at=[0.1, 1.0])),
}


@pytest.fixture
def ensembles(monkeypatch):
    """``ensemble`` with a small pilot; the kernel in pieces of so many numbers, or torch."""

    def run(name, kernel=True, numbers=1 << 20, paths=PATHS, device="cpu", **more):
        sde, x0, arguments = CASES[name]
        sde, x0 = more.pop("sde", sde), more.pop("x0", x0)
        monkeypatch.setattr(ENSEMBLE, "_PILOT", 1)
        monkeypatch.setattr(ENSEMBLE, "_WORTH", 0 if kernel else 1 << 60)
        monkeypatch.setitem(REDUCTION._NUMBERS, "cpu", numbers)
        given = grid_of(arguments) | {"seed": 3} | arguments | more
        return sk.ensemble(sde, x0.to(device), paths, **given)

    return run


def grid_of(arguments):
    """Twenty steps, where no grid is given."""
    return {} if "times" in arguments else {"steps": 20}


def assert_same(a, b, rtol=1e-12):
    """Counts exactly, moments up to the rounding of float64 sums."""
    assert torch.equal(a.count.cpu(), b.count) and a.paths == b.paths
    close = dict(rtol=rtol, atol=rtol, equal_nan=True)
    for name in ("mean", "var", "cov", "edges"):
        one, two = getattr(a, name), getattr(b, name)
        assert (one is None) == (two is None)
        assert one is None or torch.allclose(one.cpu(), two, **close), name
    assert (a.counts is None) == (b.counts is None)
    assert a.counts is None or torch.equal(a.counts.cpu(), b.counts)
    assert a.functionals.keys() == b.functionals.keys()
    for name in a.functionals:
        assert_same(a.functionals[name], b.functionals[name], rtol)


@pytest.mark.parametrize("name", CASES)
def test_kernel_and_torch_agree(name, ensembles):
    by_kernel, by_torch = ensembles(name), ensembles(name, kernel=False)
    assert by_kernel.stats.reason.endswith("then in the kernel")
    assert by_torch.stats.reason.endswith("statistics by torch")
    assert_same(by_kernel, by_torch)
    # ... and with what solve gives for these paths.
    sde, x0, arguments = CASES[name]
    known = ("save_at", "functionals", "stop", "antithetic", "times")
    solved = {k: v for k, v in arguments.items() if k in known}
    solved |= grid_of(arguments)
    sol = sk.solve(sde, x0.expand(PATHS, *x0.shape), seed=3, **solved)
    x = (sol.x if "save_at" in arguments else sol.x[None]).double()
    for row, mean, var, count in zip(
        x, by_kernel.mean, by_kernel.var, by_kernel.count, strict=True
    ):
        finite = row[torch.isfinite(row.reshape(PATHS, -1)).all(1)]
        assert count == len(finite)
        assert torch.allclose(mean, finite.mean(0), rtol=1e-12, atol=1e-12)
        assert torch.allclose(var, finite.var(0), rtol=1e-12, atol=1e-12)


def test_the_tests_see_paths_that_are_left_out(ensembles):
    blown, hit = ensembles("blow up"), ensembles("functionals").functionals["hit"]
    assert blown.count[0] == PATHS and 0 < blown.count[2] < PATHS
    assert 0 < hit.count[0] < PATHS


@pytest.mark.parametrize("name", ["covariance", "blow up", "functionals", "a float64"])
def test_neither_threads_nor_pieces_matter(name, ensembles, restore_threads):
    """Threads change no bit, pieces only the rounding of sums."""
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(ensembles(name, paths=70_001))
    assert_same(*found, rtol=0.0)
    assert_same(found[0], ensembles(name, paths=70_001, numbers=1))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the interpreter computes with infinities
def test_a_gpu_kernel_gives_the_same(ensembles, triton_device, monkeypatch):
    """On the GPU, or in Triton's interpreter on the CPU's tensors."""
    wanted = ensembles("functionals", paths=1300, steps=3)
    if triton_device.type == "cpu":
        monkeypatch.setattr(TRAJECTORY, "run_trajectory", lambda launch, _: run_triton(launch))
        monkeypatch.setattr(REDUCTION, "parts_of", triton_parts)
    found = ensembles("functionals", paths=1300, steps=3, device=triton_device)
    assert_same(found, wanted)


def triton_parts(program, n, backend, device, numbers):
    return parts_of(program, n, "triton", device, numbers)


def test_step_by_step_gives_the_same(ensembles):
    """The same paths up to float32's rounding, in the same bins up to a few."""
    a, b = ensembles("functionals"), ensembles("functionals", fuse=False)
    assert b.stats.path != "trajectory_kernel" and b.stats.reason.endswith("statistics by torch")
    assert torch.equal(a.count, b.count)
    assert torch.allclose(a.mean, b.mean, atol=1e-6) and torch.allclose(a.var, b.var, atol=1e-6)
    assert torch.allclose(a.edges, b.edges, atol=1e-5)
    assert (a.counts - b.counts).abs().sum() < 0.01 * PATHS


def test_a_level_that_few_paths_reach(ensembles):
    """A functional without a value in the pilot: torch reduces it until there is one."""
    sol = sk.solve(OU, X0.expand(PATHS, 2), steps=20, seed=3, functionals=FUNCTIONALS)
    top = sol.functionals["top"][:, 0]
    level = float(top[:1024].max()) + 1e-3
    rare = {"rare": sk.FirstPassage(lambda t, x: x[:, 0], level)}
    never = {"never": sk.FirstPassage(lambda t, x: x[:, 0], 1e9)}
    more = dict(functionals=rare | never, bins=50)
    by_kernel = ensembles("OU", numbers=1, **more)
    assert_same(by_kernel, ensembles("OU", kernel=False, **more))
    times = sk.solve(OU, X0.expand(PATHS, 2), steps=20, seed=3, functionals=rare).functionals
    met = torch.isfinite(times["rare"])
    assert not met[:1024].any() and met.any()
    found = by_kernel.functionals
    assert found["rare"].count.tolist() == [int(met.sum())] == [int(found["rare"].counts.sum())]
    assert found["never"].count.tolist() == [0]


def test_one_parameter_a_path(ensembles):
    """A sweep: statistics over paths that each have their own rate."""
    rate = torch.linspace(0.5, 2.0, PATHS)[:, None]
    sweep = Plain(lambda t, x: -rate * x, lambda t, x: 0.3 * torch.ones_like(x))
    found = ensembles("OU", sde=sweep)
    assert found.stats.reason.endswith("then in the kernel")
    x = sk.solve(sweep, X0.expand(PATHS, 2), steps=20, seed=3).x.double()
    assert torch.allclose(found.mean[0], x.mean(0), rtol=1e-12)


def test_nothing_cancels_far_from_zero(ensembles):
    """Mean 10^6, deviation 10^-3: the sum of squares itself has no digit of the variance."""
    far, x0 = sk.OU(1.0, 1e6, 1e-3), torch.full((2,), 1e6, dtype=torch.float64)
    found = ensembles("OU", sde=far, x0=x0)
    x = sk.solve(far, x0.expand(PATHS, 2), steps=20, seed=3).x
    assert torch.allclose(found.var[0], (x - 1e6).var(0), rtol=1e-10)


def test_small_ensembles_compile_no_second_kernel():
    assert sk.ensemble(OU, X0, 1000, steps=5).stats.reason.endswith("statistics by torch")


def test_gradients_pass_through_the_statistics():
    """d/dtheta of the mean of Euler's recursion x_n (1 - theta / n)^n."""
    theta = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    decay = Plain(lambda t, x: -theta * x, lambda t, x: 0 * x)
    found = sk.ensemble(decay, torch.ones(1, dtype=torch.float64), 10, steps=10, covariance=True)
    found.mean.sum().backward()
    assert torch.allclose(theta.grad, -((1 - theta.detach() / 10) ** 9))
