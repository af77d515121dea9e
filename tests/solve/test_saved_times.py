"""``save_at``: between grid times the state is drawn from the bridge, so its law is right."""

from __future__ import annotations

import math

import pytest
import torch

import sdekit as sk

N = 200_000


def test_saved_brownian_path_has_the_law_of_brownian_motion():
    """Variances t and covariances min(s, t), whatever falls where: 5 standard errors."""
    times = [0.0, 0.013, 0.02, 0.25, 0.26, 0.4, 0.5, 0.51, 0.99, 1.0]
    x0 = torch.zeros(N, 1, dtype=torch.float64)
    sol = sk.solve(sk.Brownian(), x0, steps=4, save_at=times, seed=3)
    assert sol.t.tolist() == times
    w = sol.x[:, :, 0]
    expected = torch.minimum(sol.t[:, None], sol.t[None, :])
    error = ((sol.t[:, None] * sol.t[None, :] + expected**2) / N).sqrt()
    assert torch.all((w @ w.T / N - expected).abs() <= 5 * error)
    # Increments over disjoint intervals are normal: their fourth moment is 3 variances squared.
    gaps = w.diff(dim=0) / sol.t.diff().sqrt()[:, None]
    assert torch.all((gaps.pow(4).mean(1) - 3).abs() < 5 * math.sqrt(96 / N))


def test_saving_does_not_move_the_path():
    x0 = torch.full((500, 3), 0.4)
    sde = sk.OU(1.2, 0.3, 0.7)
    plain = sk.solve(sde, x0, steps=8, seed=5)
    grid = [i / 8 for i in range(9)]
    on_grid = sk.solve(sde, x0, steps=8, seed=5, save_at=grid)
    mixed = sk.solve(sde, x0, steps=8, seed=5, save_at=[0.1, 0.2, 0.25, 0.8, 1.0])
    assert torch.equal(on_grid.x[-1], plain.x) and torch.equal(on_grid.x[0], x0)
    assert torch.equal(mixed.x[2], on_grid.x[2]) and torch.equal(mixed.x[-1], plain.x)
    fewer = sk.solve(sde, x0, steps=8, seed=5, save_at=[0.1, 0.8])
    assert torch.equal(fewer.x[0], mixed.x[0]) and torch.equal(fewer.x[1], mixed.x[3])


def test_saved_state_inside_a_step_has_the_variance_of_a_step_to_there():
    """One Euler step of OU from x0 to h has variance sigma^2 h; linear interpolation would not."""
    sigma, h = 0.8, 0.3
    x0 = torch.full((N, 1), 1.0, dtype=torch.float64)
    sol = sk.solve(sk.OU(2.0, 0.0, sigma), x0, t1=0.5, steps=1, save_at=[h], seed=8)
    assert abs(float(sol.x.mean()) - (1 - 2.0 * h)) < 5 * sigma * math.sqrt(h / N)
    assert abs(float(sol.x.var()) / (sigma**2 * h) - 1) < 5 * math.sqrt(2 / N)


def test_decreasing_times():
    sde = sk.VP()
    flow = sk.ReverseSDE(sde, sk.score.Gaussian(0.0, 0.5, sde=sde))
    x0 = sde.prior_sample((1000, 2), seed=1)
    sol = sk.solve(flow, x0, 1.0, 0.01, steps=50, save_at=[1.0, 0.5, 0.033, 0.01], seed=2)
    plain = sk.solve(flow, x0, 1.0, 0.01, steps=50, seed=2)
    assert sol.x.shape == (4, 1000, 2) and torch.equal(sol.x[-1], plain.x)


@pytest.mark.parametrize(
    "save_at",
    [
        [0.1 * k for k in range(4)],  # 0.1 * 3 is above 0.3
        torch.linspace(0, 0.3, 4),  # 0.3 in float32 is above 0.3 in float64
        torch.linspace(0, 0.3, 4, dtype=torch.float64),
    ],
    ids=["products", "float32", "float64"],
)
@pytest.mark.parametrize("backwards", [False, True])
def test_a_grid_time_up_to_rounding_is_that_grid_time(save_at, backwards):
    sde = sk.VP()
    flow = sk.ReverseSDE(sde, sk.score.Gaussian(0.0, 0.5, sde=sde)) if backwards else sde
    t0, t1 = (0.3, 0.0) if backwards else (0.0, 0.3)
    save_at = list(reversed([float(t) for t in save_at])) if backwards else save_at
    save_at = torch.tensor(save_at, dtype=torch.float32) if backwards else save_at
    x0 = torch.ones(5, 2)
    sol = sk.solve(flow, x0, t0, t1, steps=3, save_at=save_at, seed=2)
    assert torch.equal(sol.x[0], x0)
    for k in (1, 2, 3):
        grid = [t0 + (t1 - t0) * (i / 3) for i in range(3)] + [t1]
        short = sk.solve(flow, x0, times=grid[: k + 1], seed=2)
        assert torch.equal(sol.x[k], short.x)


@pytest.mark.parametrize(
    ("save_at", "message"),
    [
        ([0.5, 0.5], "strictly"),
        ([0.7, 0.2], "strictly"),
        ([-0.1, 0.2], "outside"),
        ([0.2, 1.5], "outside"),
        ([0.2, 1.0 + 1e-9], "outside"),
        ([1.0 - 1e-16, 1.0], "up to rounding"),
        ([float("nan")], "finite"),
    ],
)
def test_bad_saved_times(save_at, message):
    with pytest.raises(ValueError, match=message):
        sk.solve(sk.OU(), torch.zeros(2, 1), save_at=save_at)


def test_no_saved_times_and_deterministic_flow():
    sol = sk.solve(sk.OU(), torch.zeros(2, 1), save_at=[])
    assert sol.x.shape == (0, 2, 1)
    sde = sk.VP()
    flow = sk.ProbabilityFlow(sde, sk.score.Gaussian(0.0, 1.0, sde=sde))
    x0 = torch.ones(2, 3)
    sol = sk.solve(flow, x0, 0.1, 0.9, steps=5, method="heun", save_at=[0.15, 0.9])
    assert torch.allclose(sol.x, x0.expand(2, 2, 3), atol=1e-5)  # N(0, 1) stays N(0, 1)
