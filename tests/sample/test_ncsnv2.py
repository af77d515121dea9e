"""NCSNv2's techniques against the values that Song & Ermon 2020 publish, and against sampling."""

from __future__ import annotations

import math

import pytest
import torch

from sdekit.sample import (
    annealed_langevin,
    geometric_levels,
    geometric_ratio,
    langevin_step_size,
    largest_distance,
    ncsnv2_levels,
)
from sdekit.sample.ncsnv2 import level_overlap, variance_ratio

# Image size, sigma_1, L, T, eps of the published settings; sigma_L = 0.01 in all of them.
PUBLISHED = {
    "cifar10": (32, 50, 232, 5, 6.2e-6),
    "celeba": (64, 90, 500, 5, 3.3e-6),
    "church": (96, 140, 788, 4, None),
    "bedroom": (128, 190, 1086, 3, 1.8e-6),
    "ffhq": (256, 348, 2311, 3, 9e-7),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_settings(name):
    # The church's eps is left out: 4.9e-6 is not the minimum at T = 4, where it is 2.3e-6.
    size, sigma, count, steps_each, eps = PUBLISHED[name]
    d = 3 * size**2
    ratio = (sigma / 0.01) ** (1 / (count - 1))
    # "About 0.5" is 0.567 in all five, and with that the number of levels follows to a percent.
    assert level_overlap(ratio, d) == pytest.approx(0.5665, abs=5e-4)
    assert len(geometric_levels(sigma, 0.01, geometric_ratio(d, 0.5665))) == pytest.approx(
        count, rel=0.01
    )
    assert abs(len(geometric_levels(sigma, 0.01, geometric_ratio(d))) / count - 1) < 0.06
    if eps is not None:
        # To the two digits that are published.
        assert langevin_step_size(ratio, steps_each, 0.01) == pytest.approx(eps, rel=0.03)


def test_largest_distance_is_that_of_all_pairs():
    x = torch.cos(torch.arange(1300 * 6, dtype=torch.float64).square()).view(1300, 2, 3)
    wanted = float((x.flatten(1)[:, None] - x.flatten(1)[None]).square().sum(2).sqrt().max())
    assert largest_distance(x) == pytest.approx(wanted, rel=1e-12)
    assert largest_distance(x.float() + 1e3) == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("d", [5, 30, 784, 3072])
def test_geometric_ratio_solves_its_equation(d):
    for overlap in (0.1, 0.5, 0.9):
        ratio = geometric_ratio(d, overlap)
        shift = math.sqrt(2 * d) * (ratio - 1)
        phi = [0.5 * (1 + math.erf((shift + k * ratio) / math.sqrt(2))) for k in (3, -3)]
        assert phi[0] - phi[1] == pytest.approx(overlap, abs=1e-9) and ratio > 1


def test_the_step_size_is_the_minimum():
    for ratio, steps in ((1.0376, 5), (1.3, 2), (3.0, 10), (1.001, 1)):
        best = langevin_step_size(ratio, steps, 2.0) / 4.0
        value = variance_ratio(best, ratio, steps)
        grid = [variance_ratio(k / 2000, ratio, steps) for k in range(1, 2001)]
        assert value <= min(grid) * (1 + 1e-12) and value > 1.0


def test_variance_ratio_is_that_of_annealed_langevin():
    # Data that are one point: score -x / sigma^2. Two levels, T steps at each; the exact variance
    # after the second is sigma_2^2 times the ratio of a start at ratio^2 times the first's result.
    ratio, steps, low, n = 1.4, 3, 0.1, 20000
    eps = langevin_step_size(ratio, steps, low)
    share = eps / low**2
    first = variance_ratio(share, 1.0, steps)
    wanted = low**2 * variance_ratio(share, ratio * math.sqrt(first), steps)
    x = annealed_langevin(
        lambda sigma, x: -x / sigma.square(),
        [ratio * low, low],
        (n, 1),
        steps_each=steps,
        eps=2 * eps,
        denoise=False,
        seed=1,
        dtype=torch.float64,
    )
    assert abs(float(x.var()) / wanted - 1) < 5 * math.sqrt(2 / n)


def test_levels_from_data():
    data = torch.sin(torch.arange(200 * 64, dtype=torch.float32)).view(200, 1, 8, 8)
    made = ncsnv2_levels(data, sigma_min=0.05, steps_each=4)
    assert float(made.sigmas[0]) == largest_distance(data) and float(made.sigmas[-1]) == 0.05
    ratios = made.sigmas[:-1] / made.sigmas[1:]
    assert float(ratios.std()) < 1e-9 and float(ratios[0]) <= geometric_ratio(64)
    assert made.eps == pytest.approx(2 * langevin_step_size(float(ratios[0]), 4, 0.05))
    x = annealed_langevin(
        lambda s, x: -x / (0.25 + s * s), made.sigmas, (3, 1, 8, 8), steps_each=4, eps=made.eps
    )
    assert bool(torch.isfinite(x).all())


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: geometric_ratio(4), ValueError, "from 5 components on"),
        (lambda: geometric_ratio(100, 0.995), ValueError, "overlap must be below 0.99"),
        (lambda: geometric_levels(0.1, 1.0, 2.0), ValueError, "sigma_min must be below"),
        (lambda: geometric_levels(1.0, 0.1, 1.0), ValueError, "ratio must be above 1"),
        (lambda: langevin_step_size(1.0, 5, 0.1), ValueError, "ratio must be above 1"),
        (lambda: langevin_step_size(1.1, 0, 0.1), ValueError, "steps_each"),
        (lambda: largest_distance(torch.zeros(1, 3)), ValueError, "N of 2 or more"),
        (lambda: largest_distance(torch.zeros(3)), ValueError, "N of 2 or more"),
        (lambda: largest_distance(torch.zeros(3, 2, dtype=torch.int64)), TypeError, "floating"),
        (lambda: largest_distance([1.0]), TypeError, "torch.as_tensor"),
    ],
)
def test_bad_input(call, error, text):
    with pytest.raises(error, match=text):
        call()
