"""Laws of the plane: samples have the exact mean, covariance and density."""

from __future__ import annotations

import math

import pytest
import torch

from sdekit.data import DATASETS, Plane, checkerboard, eight_gaussians, load, moons

PLANES = [law for law in DATASETS.values() if isinstance(law, Plane)]
N = 200_000


@pytest.mark.parametrize("law", PLANES, ids=lambda law: law.name)
def test_moments(law: Plane) -> None:
    x = law.sample(N, seed=7, dtype=torch.float64)
    y = x - law.mean
    products = torch.stack([y[:, 0] ** 2, y[:, 0] * y[:, 1], y[:, 1] ** 2], 1)
    want = law.cov.flatten()[[0, 1, 3]]
    for got, value in ((x, law.mean), (products, want)):
        error = got.std(0) / math.sqrt(N)
        # Thirty comparisons in all: 4 standard errors are passed by chance once in 500 runs.
        assert bool(((got.mean(0) - value).abs() < 4.0 * error).all())


@pytest.mark.parametrize("law", PLANES, ids=lambda law: law.name)
def test_parts_are_functions_of_seed_and_number(law: Plane) -> None:
    data, more = load(law.name, n=100, test=50, seed=2), law(200, test=60, seed=2)
    assert data.name == law.name and data.event_shape == (2,) and data.transform is None
    assert torch.equal(data.train, more.train[:100]) and torch.equal(data.test, more.test[:50])
    assert torch.equal(law.sample(30, seed=2, first_sample=70), data.train[70:])
    assert data.train.dtype == torch.float32
    rows = {tuple(row) for row in data.train.tolist()}
    assert len(rows) == 100 and not any(tuple(row) in rows for row in data.test.tolist())


def test_the_published_formulas() -> None:
    # sin, cos at u = 1/2 (z = 0), no noise: the middle of the lower and of the upper half circle.
    z = torch.tensor([[0.0, 1.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0]], dtype=torch.float64)
    want = torch.tensor([[1.0, -1.2], [-1.0, 1.8]], dtype=torch.float64)
    assert torch.allclose(moons.draw(z), want, atol=1e-12)
    # scikit-learn's noiseless curves pass through the same points.
    datasets = pytest.importorskip("sklearn.datasets")
    for name, make, scale in (
        ("s_curve", datasets.make_s_curve, 1.0),
        ("swiss_roll", datasets.make_swiss_roll, 5.0),
    ):
        points, t = make(100, random_state=0)
        u = t / (3 * math.pi) + 0.5 if name == "s_curve" else (t / (1.5 * math.pi) - 1) / 2
        z = torch.zeros(100, 3, dtype=torch.float64)
        z[:, 0] = torch.special.ndtri(torch.from_numpy(u))
        got = DATASETS[name].draw(z) * scale
        assert torch.allclose(got, torch.from_numpy(points[:, [0, 2]]), atol=1e-9), name


def test_densities() -> None:
    grid = torch.arange(-7.99, 8.0, 0.02, dtype=torch.float64)
    x = torch.stack(torch.meshgrid(grid, grid, indexing="ij"), -1)
    for law in (eight_gaussians, checkerboard):
        assert law.log_density is not None
        log_p = law.log_density(x)
        p = log_p.exp()
        # The midpoint rule is exact on the squares, and to 1e-12 for Gaussians that wide.
        assert p.sum().item() * 4e-4 == pytest.approx(1.0, abs=1e-9)
        mean = (p.unsqueeze(-1) * x).sum((0, 1)) * 4e-4
        assert torch.allclose(mean, law.mean, atol=1e-9)
        cov = torch.einsum("ij,ijk,ijl->kl", p, x, x) * 4e-4
        assert torch.allclose(cov, law.cov, atol=2e-4)  # squares: h^2 / 12 = 3e-5
        entropy = -(p * log_p.clamp(min=-1e9)).sum().item() * 4e-4
        found = law.log_density(law.sample(N, seed=3, dtype=torch.float64))
        error = found.std().item() / math.sqrt(N)
        assert abs(found.mean().item() + entropy) < 4.0 * error + 1e-9
