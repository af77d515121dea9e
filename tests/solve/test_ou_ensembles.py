"""Ensembles of OU paths against closed forms.

Euler-Maruyama on OU is an exact affine recursion: m' = m + theta (mu - m) dt,
v' = (1 - theta dt)^2 v + sigma^2 dt. Two comparisons then prove two different things:

* the samples' mean and variance with the recursion's: a test of the code, free of discretization
  error. N Gaussian samples have standard errors sqrt(v / N) of the mean and v sqrt(2 / N) of the
  variance; a bound of ``SIGMAS`` of them;
* the recursion with the marginal: a test of the order, O(dt), free of sampling error.
"""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sdekit as sk

N = 40_000
SIGMAS = 5.5  # over some 500 comparisons: a false alarm in 3 * 10^4 new seeds; the seeds are fixed
THETA = st.floats(0.05, 4.0)
REAL = st.floats(-3.0, 3.0)
SIGMA = st.floats(0.05, 3.0)
HORIZON = st.floats(0.1, 3.0)


def recursion(theta, mu, sigma, x0, grid):
    """Mean and variance of Euler-Maruyama on OU over a grid, in float64."""
    m, v = x0, 0.0
    for t, t_next in itertools.pairwise(grid):
        dt = t_next - t
        m, v = m + theta * (mu - m) * dt, (1 - theta * dt) ** 2 * v + sigma**2 * dt
    return m, v


def assert_moments(x, mean, variance, sigmas=SIGMAS):
    """Mean and variance of N samples, against their law's, in standard errors; float32 slack."""
    x = x.double()
    slack = 1e-5 * (1 + abs(mean) + variance)
    assert abs(float(x.mean()) - mean) < sigmas * math.sqrt(variance / x.numel()) + slack
    spread = float(((x - mean) ** 2).mean())
    assert abs(spread - variance) < sigmas * variance * math.sqrt(2 / x.numel()) + slack


@given(THETA, REAL, SIGMA, REAL, HORIZON, st.integers(1, 40), st.integers(0, 2**63), st.booleans())
@settings(max_examples=40)
def test_samples_follow_the_recursion(theta, mu, sigma, x0, horizon, steps, seed, wide):
    dim = 4 if wide else 1
    start = torch.full((N // dim, dim), x0)
    sol = sk.solve(sk.OU(theta, mu, sigma), start, t1=horizon, steps=steps, seed=seed)
    grid = [horizon * i / steps for i in range(steps + 1)]
    assert_moments(sol.x, *recursion(theta, mu, sigma, x0, grid))


@given(
    THETA,
    REAL,
    SIGMA,
    REAL,
    st.lists(st.floats(0.01, 0.5), min_size=1, max_size=15),
    st.integers(0, 2**32),
)
@settings(max_examples=25)
def test_samples_follow_the_recursion_on_given_grids(theta, mu, sigma, x0, gaps, seed):
    grid = [0.0]
    for gap in gaps:
        grid.append(grid[-1] + gap)
    sol = sk.solve(sk.OU(theta, mu, sigma), torch.full((N, 1), x0), times=grid, seed=seed)
    assert_moments(sol.x, *recursion(theta, mu, sigma, x0, grid))


@given(THETA, REAL, SIGMA, REAL, HORIZON)
@settings(max_examples=100)
def test_the_recursion_has_order_one(theta, mu, sigma, x0, horizon):
    """Halving dt halves the error of mean and variance: the slope over five grids is 1."""
    law = sk.OU(theta, mu, sigma).marginal(
        torch.tensor(horizon, dtype=torch.float64), torch.full((1, 1), x0, dtype=torch.float64)
    )
    coarse = max(8, math.ceil(8 * theta * horizon))
    errors = []
    for level in range(5):
        n = coarse * 2**level
        m, v = recursion(theta, mu, sigma, x0, [horizon * i / n for i in range(n + 1)])
        errors.append((abs(m - float(law.mean)), abs(v - float(law.var))))
    floor = 1e-9
    for first, last in zip(errors[0], errors[-1], strict=True):
        if first > floor * 1e3:
            # The second-order term is at most theta dt of the first: 1/8 on the coarsest grid.
            assert abs(math.log2(first / last) / 4 - 1) < 0.15


def test_stationary_law():
    """From the law the recursion keeps: v = sigma^2 / (theta (2 - theta dt)), mean mu."""
    theta, mu, sigma, dt, steps = 2.0, -0.7, 1.3, 0.05, 60
    v = sigma**2 / (theta * (2 - theta * dt))
    z = sk.Brownian(T=1.0).prior_sample((N, 2), seed=9, dtype=torch.float32)
    sol = sk.solve(sk.OU(theta, mu, sigma), mu + v**0.5 * z, t1=steps * dt, steps=steps, seed=1)
    assert_moments(sol.x, mu, v)


def test_two_time_covariance():
    """Cov(x_s, x_t) = (1 - theta dt)^(t - s) Var(x_s) of Euler-Maruyama; 5 standard errors."""
    theta, sigma, dt, s, t = 1.5, 0.9, 0.02, 20, 50
    sol = sk.solve(
        sk.OU(theta, 0.0, sigma),
        torch.zeros(N, 4, dtype=torch.float64),
        t1=t * dt,
        steps=t,
        save_at=[s * (t * dt / t), t * dt],
        seed=4,
    )
    grid = [dt * i for i in range(t + 1)]
    v_s, v_t = (
        recursion(theta, 0, sigma, 0, grid[: s + 1])[1],
        recursion(theta, 0, sigma, 0, grid)[1],
    )
    covariance = (1 - theta * dt) ** (t - s) * v_s
    found = float((sol.x[0] * sol.x[1]).mean())
    error = math.sqrt((v_s * v_t + covariance**2) / sol.x[0].numel())
    assert abs(found - covariance) < 5 * error
    exact = float(sk.OU(theta, 0.0, sigma).covariance(s * dt, t * dt))
    assert abs(covariance - exact) < 2 * theta * dt * exact


@pytest.mark.parametrize("matrix_noise", [False, True])
def test_matrix_ou(matrix_noise):
    """The affine recursion of a matrix-valued OU: mean vector and covariance, 5 standard errors."""
    a = torch.tensor([[1.0, 0.4], [-0.3, 0.8]], dtype=torch.float64)
    s = torch.tensor([[0.5, 0.0], [0.3, 0.7]], dtype=torch.float64)
    sigma = s if matrix_noise else 0.6
    root = s if matrix_noise else 0.6 * torch.eye(2, dtype=torch.float64)
    mu = torch.tensor([0.5, -1.0], dtype=torch.float64)
    sde = sk.MatrixOU(a, mu, sigma)
    x0 = torch.tensor([1.0, 2.0], dtype=torch.float64)
    n, steps, dt = 60_000, 25, 0.04
    sol = sk.solve(sde, x0.expand(n, 2), t1=steps * dt, steps=steps, seed=12)
    m, c = x0, torch.zeros(2, 2, dtype=torch.float64)
    move = torch.eye(2, dtype=torch.float64) - a * dt
    for _ in range(steps):
        m, c = m + a @ (mu - m) * dt, move @ c @ move.T + root @ root.T * dt
    assert torch.all((sol.x.mean(0) - m).abs() < 5 * (c.diagonal() / n).sqrt())
    found = torch.cov(sol.x.T)
    error = ((c.diagonal()[:, None] * c.diagonal() + c**2) / n).sqrt()
    assert torch.all((found - c).abs() < 5 * error)
    exact = sde.marginal(steps * dt, x0.expand(1, 2))
    assert torch.allclose(m, exact.mean[0], atol=4 * dt)
    assert torch.allclose(c, exact.cov[0], atol=4 * dt)
