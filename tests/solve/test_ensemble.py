"""Statistics of ensembles: those of the very paths that ``solve`` gives, in constant memory."""

from __future__ import annotations

import importlib
import math

import pytest
import torch

import sdekit as sk
from benchmarks.memory import peak_memory

MODULE = importlib.import_module("sdekit.solve.ensemble")  # the function has that name too
X0 = torch.tensor([0.3, -0.5])
OU = sk.OU(1.3, 0.2, 0.7)
TOP = {"top": sk.Maximum(lambda t, x: x[:, 0])}


@pytest.fixture
def small_pieces(monkeypatch):
    """Pieces of 1024 paths, so that many are merged."""
    monkeypatch.setattr(MODULE, "_PIECE", 1)
    monkeypatch.setattr(MODULE, "_PILOT", 1)


def test_moments_are_those_of_the_paths(small_pieces):
    found = sk.ensemble(
        OU, X0, 5003, save_at=[0.5, 1.0], steps=20, covariance=True, functionals=TOP, seed=3
    )
    sol = sk.solve(OU, X0.expand(5003, 2), save_at=[0.5, 1.0], steps=20, functionals=TOP, seed=3)
    x = sol.x.double()
    assert found.paths == 5003 and found.count.tolist() == [5003, 5003]
    assert torch.allclose(found.mean, x.mean(1), rtol=1e-12)
    assert torch.allclose(found.var, x.var(1), rtol=1e-12)
    assert torch.allclose(found.cov[1], torch.cov(x[1].T), rtol=1e-10, atol=1e-12)
    assert torch.allclose(found.std_error, (x.var(1) / 5003).sqrt())
    top = found.functionals["top"]
    assert torch.allclose(top.mean[0], sol.functionals["top"].double().mean())
    assert top.t.tolist() == [1.0]


def test_law_of_ou_with_quantiles():
    """Euler's recursion for mean and variance, 5 standard errors; normal quantiles likewise."""
    n, steps = 200_000, 50
    found = sk.ensemble(OU, X0, n, steps=steps, bins=4000, seed=11)
    m, v = X0.double(), 0.0
    for _ in range(steps):
        m, v = m + 1.3 * (0.2 - m) / steps, (1 - 1.3 / steps) ** 2 * v + 0.49 / steps
    assert torch.all((found.mean[0] - m).abs() < 5 * math.sqrt(v / n))
    assert torch.all((found.var[0] / v - 1).abs() < 5 * math.sqrt(2 / n))
    for q, z in ((0.5, 0.0), (0.01, -2.3263478740), (0.975, 1.9599639845)):
        density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi * v)
        error = math.sqrt(q * (1 - q) / n) / density
        assert torch.all((found.quantile(q)[0] - (m + z * math.sqrt(v))).abs() < 5 * error)


@pytest.mark.skipif(peak_memory(int) is None, reason="this system does not count peak memory")
def test_memory_does_not_grow_with_the_paths():
    """2^21 paths take some 20 MiB, and 2^25 as much; their states alone would be 128 MiB."""
    x0, found = torch.full((1,), 0.3), {}

    def run(paths):
        def call():
            found[paths] = sk.ensemble(OU, x0, paths, steps=2, bins=100, seed=3)

        return call

    run(1 << 21)()
    few, many = (peak_memory(run(1 << n)) for n in (21, 25))
    assert few < 40 << 20 and many < 40 << 20
    law = found[1 << 25]
    # Two Euler steps of 1/2: 0.35 x + 0.65 mu each, of which the mean is known.
    mean = 0.2 + 0.1 * (1 - 1.3 / 2) ** 2
    assert int(law.count) == 1 << 25
    assert abs(float(law.mean) - mean) < 5 * float(law.std_error)


def test_histogram_counts_every_path(small_pieces):
    found = sk.ensemble(OU, X0, 4000, steps=10, bins=7, span=(-0.1, 0.4), seed=5)
    x = sk.solve(OU, X0.expand(4000, 2), steps=10, seed=5).x.double()
    edges = torch.linspace(-0.1, 0.4, 8, dtype=torch.float64)
    assert torch.allclose(found.edges[0, 0], edges)
    for d in range(2):
        place = torch.bucketize(x[:, d].contiguous(), found.edges[0, d], right=True)
        assert torch.equal(found.counts[0, d], torch.bincount(place, minlength=9))
    assert found.quantile(0.001)[0, 0] == -math.inf and found.quantile(0.999)[0, 0] == math.inf


def test_paths_that_blow_up_are_left_out_and_counted():
    class Cubic:
        def drift(self, t, x):
            return x**3

        def diffusion(self, t, x):
            return 3.0 * torch.ones_like(x)

    found = sk.ensemble(Cubic(), torch.zeros(1), 3000, steps=40, bins=10)
    x = sk.solve(Cubic(), torch.zeros(3000, 1), steps=40).x
    finite = x[torch.isfinite(x).all(1)].double()
    assert 0 < len(finite) < 3000 and found.count.tolist() == [len(finite)]
    assert torch.allclose(found.mean[0], finite.mean(0))
    assert found.counts.sum() == len(finite)  # the histogram counts the paths of the mean


def test_functionals_that_are_infinite_are_left_out():
    hit = {"hit": sk.FirstPassage(lambda t, x: x[:, 0], 1.0)}
    found = sk.ensemble(OU, X0, 3000, steps=40, functionals=hit, seed=2)
    times = sk.solve(OU, X0.expand(3000, 2), steps=40, functionals=hit, seed=2).functionals["hit"]
    met = times[torch.isfinite(times)].double()
    assert found.functionals["hit"].count.tolist() == [len(met)] and 0 < len(met) < 3000
    assert torch.allclose(found.functionals["hit"].mean[0], met.mean())


def test_where_no_path_is_left_there_are_no_numbers():
    never = {"hit": sk.FirstPassage(lambda t, x: x[:, 0], 1e9)}
    found = sk.ensemble(OU, X0, 10, steps=40, functionals=never, bins=5).functionals["hit"]
    assert found.count.tolist() == [0] and found.counts.sum() == 0
    assert found.mean.isnan().all() and found.var.isnan().all() and found.quantile(0.5).isnan()
    one = sk.ensemble(OU, X0, 1, steps=40, bins=5)
    assert torch.isfinite(one.mean).all() and one.std_error.isnan().all()


def test_bins_of_a_rare_functional_lie_where_its_values_do(small_pieces):
    """A level that no path of the first piece meets, and some later ones do."""
    top = sk.solve(OU, X0.expand(20000, 2), steps=40, functionals=TOP, seed=2).functionals["top"]
    level = float(top[:1024].max()) + 1e-3
    hit = {"hit": sk.FirstPassage(lambda t, x: x[:, 0], level)}
    arguments = dict(steps=40, functionals=hit, seed=2)
    times = sk.solve(OU, X0.expand(20000, 2), **arguments).functionals["hit"]
    met = times[torch.isfinite(times)]
    assert torch.isinf(times[:1024]).all() and len(met) > 0
    found = sk.ensemble(OU, X0, 20000, bins=50, **arguments).functionals["hit"]
    assert found.count.tolist() == [len(met)] == [int(found.counts.sum())]
    assert (found.edges[0, 0] <= met.max()) and (found.edges[0, -1] >= met.min())


def test_times_of_all_kinds():
    functional = sk.ensemble(OU, X0, 10, steps=4, save_at=[0.5], functionals=TOP)
    assert functional.t.tolist() == [0.5] and functional.functionals["top"].t.tolist() == [1.0]
    own = sk.ensemble(OU, X0, 10, times=[0.0, 0.5, 2.0], save_at=[0.5], functionals=TOP)
    assert own.functionals["top"].t.tolist() == [2.0]
    nothing = sk.ensemble(OU, X0, 10, steps=4, save_at=[], functionals=TOP, bins=3)
    assert nothing.mean.shape == (0, 2) and nothing.functionals["top"].count.tolist() == [10]
    lazily = sk.ensemble(OU, X0, 10, steps=4, save_at=(k / 4 for k in range(3)))
    assert lazily.t.tolist() == [0.0, 0.25, 0.5]
    last = sk.ensemble(OU, X0, 10, steps=4, first_sample=(1 << 63) - 10)
    assert last.count.tolist() == [10]


def test_antithetic_pairs_keep_the_mean_exactly():
    """OU is linear: the two paths of a pair average to the noiseless path."""
    found = sk.ensemble(OU, X0.double(), 1000, steps=10, antithetic=True)
    m = X0.double()
    for _ in range(10):
        m = m + 1.3 * (0.2 - m) / 10
    assert torch.allclose(found.mean[0], m, atol=1e-14)


BAD = {
    "paths": (dict(paths=0), ValueError, "paths"),
    "half a path": (dict(paths=2.5), TypeError, "paths"),
    "too many": (dict(paths=(1 << 63) + 1), ValueError, "paths"),
    "span": (dict(span=(1.0, 0.0)), ValueError, "span"),
    "bins": (dict(bins=-1), ValueError, "bins"),
    "x0": (dict(x0=[0.0]), TypeError, "x0"),
    "unknown option": (dict(memory=3), TypeError, "memory"),
    "own times": (dict(t1=torch.linspace(0.1, 1.0, 10)), ValueError, "one grid"),
    "one saved time": (dict(save_at=0.5), TypeError, "sequence"),
    "first_sample": (dict(first_sample="a"), TypeError, "first_sample"),
    "beyond the last": (dict(first_sample=(1 << 63) - 9), ValueError, "paths"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    arguments, error, message = BAD[name]
    with pytest.raises(error, match=message):
        sk.ensemble(**({"sde": OU, "x0": X0, "paths": 10} | arguments))


def test_no_quantile_without_a_histogram():
    found = sk.ensemble(OU, X0, 10, steps=2)
    with pytest.raises(ValueError, match="bins=1000"):
        found.quantile(0.5)
    with pytest.raises(ValueError, match="between 0 and 1"):
        sk.ensemble(OU, X0, 10, steps=2, bins=5).quantile(1.0)
