"""What a density says of itself, and how samples are compared with it."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import binom

import sdekit as sk
from sdekit.fokker_planck import Density, fokker_planck
from tests.fokker_planck.laws import DOUBLE, edges, vector

OU = sk.OU(1.3, 0.2, 0.7)


def small(p, *e):
    """A density at one time, given by its cell averages."""
    return Density(torch.tensor([p], dtype=DOUBLE), vector(1.0), e, "linear", "a test", 1)


def test_moments_and_masses_of_a_table():
    d = small([[1.0, 2.0], [0.0, 1.0]], vector(0.0, 1.0, 3.0), vector(0.0, 0.5, 1.0))
    mass = torch.tensor([[0.5, 1.0], [0.0, 1.0]], dtype=DOUBLE)
    torch.testing.assert_close(d.cell_mass()[0], mass)
    assert d.mass.tolist() == [2.5]
    x = torch.cartesian_prod(vector(0.5, 2.0), vector(0.25, 0.75))
    w = mass.flatten() / 2.5
    mean = w @ x
    torch.testing.assert_close(d.mean()[0], mean)
    torch.testing.assert_close(d.cov()[0], torch.cov(x.T, aweights=w, correction=0))
    torch.testing.assert_close(d.var()[0], d.cov()[0].diagonal())
    assert [v.tolist() for v in d.middles] == [[0.5, 2.0], [0.25, 0.75]]


def test_cells_are_merged():
    e = edges(-1.0, 1.0, 10), edges(0.0, 1.0, 7)
    d = fokker_planck(sk.Brownian(0.1), vector(0.1, 0.4), e, [0.0, 0.3], boundary="reflecting")
    whole, merged = d.cell_mass(), d.cell_mass(bins=3)
    assert merged.shape == (2, 3, 3)
    torch.testing.assert_close(merged.sum((1, 2)), d.mass)
    torch.testing.assert_close(merged[:, 0, 0], whole[:, :4, :3].sum((1, 2)))
    assert torch.equal(d.cell_mass(bins=1).flatten(1), merged.new_ones(2, 1)) or torch.allclose(
        d.cell_mass(bins=1), d.mass.view(2, 1, 1)
    )


def test_total_variation_by_hand():
    """Masses 0.5 and 0.3, 0.2 lost; shares 0.25, 0.25, half of four samples outside."""
    d = small([0.5, 0.3], vector(0.0, 1.0, 2.0))
    x = torch.tensor([[0.5], [2.0], [-0.1], [math.nan]])
    assert abs(float(d.total_variation(x)) - 0.5 * (0.25 + 0.05 + 0.3)) < 1e-12
    inside = torch.tensor([[0.0], [0.999], [1.0], [2.0]])
    want = 0.5 * (0.0 + 0.2 + 0.2)
    assert abs(float(d.total_variation(inside)) - want) < 1e-12


def test_total_variation_of_all_times():
    e = edges(-3.0, 3.0, 60)
    d = fokker_planck(OU, vector(0.0), e, [0.2, 0.5, 1.0])
    x = sk.solve(OU, torch.zeros(20_000, 1), steps=100, save_at=[0.2, 0.5, 1.0], seed=1).x
    found = d.total_variation(x, bins=20)
    assert found.shape == (3,)
    for k in range(3):
        one = d.at(k)
        assert one.t.tolist() == [float(d.t[k])]
        torch.testing.assert_close(one.total_variation(x[k], bins=20)[0], found[k])
    assert d.at(-1).t.tolist() == [1.0]
    assert torch.all(found < d.total_variation_bound(20_000, bins=20))
    # Another seed's law, half a standard deviation off, is not this one.
    assert torch.all(d.total_variation(x + 0.2, bins=20) > 3 * d.total_variation_bound(20_000))


@pytest.mark.parametrize("n", [1, 7, 1000, 10**6])
def test_expected_total_variation_is_that_of_binomials(n):
    p = [0.0, 1e-7, 0.003, 0.2, 0.3, 0.4]
    d = small([*p, 0.0], edges(0.0, 7.0, 7))
    rest = 1.0 - sum(p)
    want = 0.5 * sum(
        binom(n, q).expect(lambda k, q=q: abs(k / n - q), maxcount=10**7)
        for q in [*p, rest]
        if q > 0 and n <= 1000
    )
    found = float(d.expected_total_variation(n))
    if n <= 1000:
        assert abs(found - want) < 1e-9
    large = 0.5 * sum(math.sqrt(2 * q * (1 - q) / (math.pi * n)) for q in [*p, rest])
    assert abs(found / large - 1.0) < 1e-3 if n == 10**6 else found <= large + 0.5 / n
    assert abs(float(d.total_variation_bound(n, 3.0)) - found - 1.5 / math.sqrt(n)) < 1e-12


def test_chance_is_what_it_says():
    """Mean of 200 ensembles of n = 2000; the standard error of each is at most 1 / (2 sqrt n)."""
    e = edges(-3.0, 3.0, 40)
    d = fokker_planck(OU, vector(0.3), e, [1.0])
    m = OU.marginal(1.0, torch.tensor([[0.3]], dtype=DOUBLE))
    z = sk.Brownian().prior_sample((400_000, 1), seed=2, dtype=DOUBLE)
    x = (m.mean + m.std * z).view(200, 2000, 1)
    found = torch.stack([d.total_variation(part)[0] for part in x])
    chance = float(d.expected_total_variation(2000))
    error = 0.5 / math.sqrt(2000 * 200)
    assert abs(float(found.mean()) - chance) < 5 * error
    assert float(found.max()) < float(d.total_variation_bound(2000, 4.0))
    assert float(found.std()) < 0.5 / math.sqrt(2000)


BAD = {
    "shape": (lambda d: d.total_variation(torch.zeros(3, 5, 2)), ValueError, r"\(2, 'B', 1\)"),
    "one time of two": (lambda d: d.total_variation(torch.zeros(5, 1)), ValueError, "at\\(index"),
    "no samples": (lambda d: d.total_variation(torch.zeros(2, 0, 1)), ValueError, "no samples"),
    "no tensor": (lambda d: d.total_variation([0.0]), TypeError, "torch.as_tensor"),
    "bins": (lambda d: d.cell_mass(bins=31), ValueError, "bins"),
    "no bins": (lambda d: d.cell_mass(bins=0), ValueError, "bins"),
    "paths": (lambda d: d.expected_total_variation(0), ValueError, "n must be"),
    "k": (lambda d: d.total_variation_bound(10, -1.0), ValueError, "k must be"),
    "index": (lambda d: d.at(2), IndexError, "range"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    call, error, says = BAD[name]
    d = fokker_planck(OU, vector(0.3), edges(-3.0, 3.0, 30), [0.5, 1.0])
    with pytest.raises(error, match=says):
        call(d)
