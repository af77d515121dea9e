"""Distances, energies and divergences that say how far a process is from a bridge."""

from __future__ import annotations

import math
from dataclasses import replace

import ot
import pytest
import sdekit_kernels
import torch

import sdekit as sk
from sdekit.bridge.closed_form import gaussian_bridge, ipf_iterates
from sdekit.bridge.measures import (
    fitted_kl,
    fitted_kl_floor,
    gaussian_kl,
    girsanov_kl,
    normalized_path_energy,
    path_energy,
    sliced_wasserstein,
    wasserstein2,
)
from sdekit.bridge.wasserstein import _assigned
from sdekit.quality import gaussian_frechet
from tests.bridge.gaussians import covariance, draws, laws


@pytest.mark.parametrize(("n", "m"), [(30, 30), (30, 45), (7, 50)])
def test_wasserstein_against_pot(n: int, m: int) -> None:
    m0, S0, m1, S1 = laws(3)
    x, y = draws(m0, S0, n, seed=1), draws(m1, S1, m, seed=2)
    expected = ot.emd2([], [], torch.cdist(x, y).square().numpy()) ** 0.5
    assert wasserstein2(x, y) == pytest.approx(expected, rel=1e-9)
    assert wasserstein2(x.view(n, 3, 1), y) == pytest.approx(expected, rel=1e-9)
    if n == m:  # as where POT is missing
        cost = torch.cdist(x, y).square().numpy()
        assert _assigned(cost) ** 0.5 == pytest.approx(expected, rel=1e-9)
    for p in (1.0, 2.0):
        line = ot.wasserstein_1d(x[:, 0].numpy(), y[:, 0].numpy(), p=p) ** (1 / p)
        assert sliced_wasserstein(x[:, :1], y[:, :1], p=p) == pytest.approx(line, rel=1e-9)
    z = sdekit_kernels.normal((64, 3), seed=4, stream=3, dtype=torch.float64)
    theta = (z / z.norm(dim=1, keepdim=True)).T.numpy()
    sliced = ot.sliced_wasserstein_distance(x.numpy(), y.numpy(), projections=theta)
    assert sliced_wasserstein(x, y, projections=64, seed=4) == pytest.approx(sliced, rel=1e-9)


def test_wasserstein_of_large_clouds_is_that_of_their_laws() -> None:
    # A shift by s is |s| for W_2 and |s| / sqrt(D) for slices, whatever the cloud.
    x = draws(*laws(4)[:2], 400, seed=1)
    s = torch.tensor([3.0, 0.0, 4.0, 0.0], dtype=torch.float64)
    assert wasserstein2(x, x + s) == pytest.approx(5.0, rel=1e-12)
    # 4000 directions: the mean of theta_1^2 is within 4 standard errors, 0.28 / sqrt(4000), of 1/4.
    found = sliced_wasserstein(x, x + s, projections=4000) ** 2 / 25.0
    assert abs(found - 0.25) < 4 * 0.2 / 4000**0.5
    m0, S0, m1, S1 = laws(1)
    x, y = draws(m0, S0, 20_000, seed=1), draws(m1, S1, 20_000, seed=2)
    expected = gaussian_frechet(m0, S0, m1, S1) ** 0.5
    assert sliced_wasserstein(x, y, projections=2) == pytest.approx(expected, abs=0.03)


def test_gaussian_divergence() -> None:
    m0, S0, m1, S1 = laws(5)
    p = torch.distributions.MultivariateNormal(m0, S0)
    q = torch.distributions.MultivariateNormal(m1, S1)
    expected = float(torch.distributions.kl_divergence(p, q))
    assert gaussian_kl(m0, S0, m1, S1) == pytest.approx(expected, rel=1e-12)
    assert gaussian_kl(m0, S0, m0, S0) < 1e-14
    assert gaussian_kl(m0, 0.0 * S0, m0, S0) == math.inf
    with pytest.raises(ValueError, match="positive definite"):
        gaussian_kl(m0, S0, m0, 0.0 * S0)


@pytest.mark.parametrize("structure", ["full", "diagonal"])
def test_the_floor_of_fitted_divergences(structure: str) -> None:
    # 400 sets of 60 draws in 5 dimensions; for independent components both structures are exact.
    mean, cov = laws(5)[0], torch.diag(torch.linspace(0.5, 2.0, 5, dtype=torch.float64))
    if structure == "full":
        cov = covariance(3, 5)
    x = draws(mean, cov, 400 * 60, seed=1).view(400, 60, 5)
    found = torch.tensor([fitted_kl(s, mean, cov, structure=structure) for s in x])
    error = float(found.std()) / 400**0.5
    assert abs(float(found.mean()) - fitted_kl_floor(60, 5, structure)) < 4 * error
    first_order = 5 * 8 / 240 if structure == "full" else 5 / 60
    assert fitted_kl_floor(60, 5, structure) == pytest.approx(first_order, rel=0.2)


@pytest.mark.parametrize(
    ("d", "full", "diagonal"), [(5, 1.0, 0.5), (20, 11.5, 2.0), (50, 66.4, 5.0)]
)
def test_the_floors_that_the_module_states(d: int, full: float, diagonal: float) -> None:
    assert 1e3 * fitted_kl_floor(10_000, d) == pytest.approx(full, abs=0.06)
    assert 1e3 * fitted_kl_floor(10_000, d, "diagonal") == pytest.approx(diagonal, abs=0.06)


def test_girsanov_of_two_euler_chains_is_their_divergence() -> None:
    # dx = b dt + dW with b = 0.5 against b = -0.2 x: the laws of the five states are Gaussian, and
    # the sum's mean over 20 000 paths is within 4 standard errors of their divergence.
    h, steps, n = 0.2, 5, 20_000
    x, path = torch.zeros(n, 1, dtype=torch.float64), []
    for k in range(steps):
        path.append(x)
        z = sdekit_kernels.normal((n, 1), seed=1, step=k, dtype=torch.float64)
        x = x + 0.5 * h + h**0.5 * z
    states = torch.stack(path)
    difference = 0.5 + 0.2 * states
    value, error = girsanov_kl(difference, torch.ones(steps, 1), torch.full((steps,), h))
    one = torch.tril(torch.ones(steps, steps, dtype=torch.float64))
    decay = torch.tensor(
        [[(1 - 0.2 * h) ** (i - j) if i >= j else 0.0 for j in range(steps)] for i in range(steps)],
        dtype=torch.float64,
    )
    mean = 0.5 * h * torch.arange(1, steps + 1, dtype=torch.float64)
    expected = gaussian_kl(mean, h * one @ one.mT, 0.0 * mean, h * decay @ decay.mT)
    assert abs(value - expected) < 4 * error
    assert error < 0.02 * value


def test_girsanov_between_half_bridges_is_the_divergence_of_their_couplings() -> None:
    # Two path laws of one reciprocal class differ as their couplings do: iterate 2 of IPF beside
    # the bridge, along forward paths of the iterate.
    m0, S0, m1, S1 = laws()
    bridge = gaussian_bridge(m0, S0, m1, S1, 1.0)
    iterate = replace(bridge, joint=ipf_iterates(m0, S0, m1, S1, 1.0, half_steps=2)[2])
    grid = torch.linspace(0.0, 1.0, 101, dtype=torch.float64)
    start = draws(m0, S0, 4000, seed=1)
    path = sk.solve(iterate.forward_equation(), start, times=grid, seed=2, save_at=grid[:-1]).x
    points = zip(grid[:-1], path, strict=True)
    gaps = [iterate.forward_drift(t)(x) - bridge.forward_drift(t)(x) for t, x in points]
    value, error = girsanov_kl(torch.stack(gaps), torch.ones(100, 2), grid.diff())
    have, want = iterate.joint, bridge.joint
    expected = gaussian_kl(have.mean, have.cov, want.mean, want.cov)
    # Euler's step of 0.01 is worth up to two per cent here.
    assert abs(value - expected) < 4 * error + 0.02 * expected


def test_path_energy() -> None:
    m0, S0, _, _ = laws()
    x = draws(m0, S0, 50, seed=1)
    speed = torch.tensor([3.0, 4.0], dtype=torch.float64)
    times = torch.linspace(0.0, 1.0, 11, dtype=torch.float64)
    paths = torch.stack([x + t * speed for t in times])
    energy = path_energy(lambda t, x: speed.expand_as(x), times, paths)
    assert energy == pytest.approx(25.0, rel=1e-12)
    distance = wasserstein2(paths[0], paths[-1])
    assert normalized_path_energy(energy, distance) < 1e-12
    assert normalized_path_energy(30.0, 5.0) == pytest.approx(0.2)
    backward = path_energy(lambda t, x: speed.expand_as(x), times.flip(0), paths.flip(0))
    assert backward == pytest.approx(energy)
    # |v|^2 = t^2: the trapezoid's h^2 / 6.
    root = path_energy(lambda t, x: t * torch.ones_like(x[:, :1]), times, paths)
    assert root == pytest.approx(1 / 3 + 0.01 / 6, rel=1e-12)


def test_bad_clouds() -> None:
    x = torch.zeros(5, 2)
    bad = x.clone()
    bad[3] = math.nan
    for measure in (sliced_wasserstein, wasserstein2):
        with pytest.raises(ValueError, match="not finite at 1 of its 5"):
            measure(bad, x)
        with pytest.raises(ValueError, match="2 components cannot meet those of 3"):
            measure(x, torch.zeros(5, 3))
        with pytest.raises(TypeError, match="floating"):
            measure(x.long(), x)
    with pytest.raises(ValueError, match="p must be 1 or more"):
        sliced_wasserstein(x, x, p=0.5)
    with pytest.raises(ValueError, match="too few"):
        fitted_kl(torch.zeros(5, 5), torch.zeros(5), torch.eye(5))
    with pytest.raises(ValueError, match="above zero"):
        girsanov_kl(torch.zeros(3, 4, 2), torch.zeros(2), torch.ones(3))
    with pytest.raises(ValueError, match="times and paths"):
        path_energy(lambda t, x: x, torch.ones(3), torch.zeros(4, 5, 2))
