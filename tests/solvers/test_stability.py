"""How long a step may be: known regions of stability, and the warning of a solve."""

from __future__ import annotations

import math
import warnings

import pytest
import torch

import sdekit as sk
from sdekit.solvers import SOLVERS
from sdekit.solvers.stability import StabilityWarning, largest_stable_step, mean_square_factor

REAL_AXIS = {"euler_maruyama": 2.0, "heun": 2.0, "midpoint": 2.0, "sra1": 2.0, "rk4": 2.7853}
"""Where |R(-z)| = 1 on the real axis: of 1 + z, of 1 + z + z^2 / 2, and up to z^4 / 24."""


def close(value, expected):
    """Up to the thousandth to which the step is sought."""
    return math.isclose(value, expected, rel_tol=2e-3)


@pytest.mark.parametrize("rate", [-0.5, -1.0, -40.0])
@pytest.mark.parametrize("method", REAL_AXIS)
def test_longest_step_on_the_real_axis(method, rate):
    assert close(largest_stable_step(SOLVERS[method], rate), REAL_AXIS[method] / -rate)


@pytest.mark.parametrize(("rate", "mu"), [(-1.0, 0.0), (-1.0, 0.5), (-2.0, 1.5), (-3.0, 2.0)])
def test_euler_maruyama_under_linear_noise(rate, mu):
    """E R^2 = (1 + l dt)^2 + mu^2 dt < 1 where dt < (2 |l| - mu^2) / l^2 (Higham 2000)."""
    longest = largest_stable_step(SOLVERS["euler_maruyama"], rate, mu)
    assert close(longest, (2 * abs(rate) - mu**2) / rate**2)
    expected = (1 + rate * 0.3) ** 2 + mu**2 * 0.3
    factor = mean_square_factor(SOLVERS["euler_maruyama"], rate * 0.3, mu * 0.3**0.5)
    assert factor == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("rate", "mu"), [(-1.0, 0.5), (-2.0, 1.5)])
def test_milstein_under_linear_noise(rate, mu):
    """E R^2 has mu^4 dt^2 / 2 more: dt < (2 |l| - mu^2) / (l^2 + mu^4 / 2)."""
    longest = largest_stable_step(SOLVERS["milstein"], rate, mu)
    assert close(longest, (2 * abs(rate) - mu**2) / (rate**2 + mu**4 / 2))


def test_implicit_euler_is_stable_for_every_step():
    assert largest_stable_step(SOLVERS["implicit_euler"], -1.0) == math.inf
    # E R^2 = (1 + mu^2 dt) / (1 - l dt)^2.
    factor = mean_square_factor(SOLVERS["implicit_euler"], -3.0, 1.5)
    assert factor == pytest.approx((1 + 1.5**2) / 16.0, rel=1e-12)


def test_complex_rates():
    """|1 + l dt| < 1 where dt < 2 |Re l| / |l|^2."""
    rate = complex(-0.5, 2.0)
    longest = largest_stable_step(SOLVERS["euler_maruyama"], rate)
    assert close(longest, 1.0 / abs(rate) ** 2)


def test_equations_that_are_not_stable_have_no_stable_step():
    for rate, mu in ((0.5, 0.0), (-1.0, 1.5)):
        assert largest_stable_step(SOLVERS["euler_maruyama"], rate, mu) == 0.0


def test_reversible_heun_carries_an_instability():
    """Its second state grows for any step where the drift pulls together."""
    assert largest_stable_step(SOLVERS["reversible_heun"], -1.0) == 0.0


def test_a_step_that_is_not_linear_has_no_region():
    assert math.isnan(largest_stable_step(SOLVERS["tamed_euler"], -1.0))


def test_the_warning_says_what_step_is_stable():
    sde, x0 = sk.OU(theta=8.0), torch.ones(3, 1)
    with pytest.warns(StabilityWarning, match=r"longest stable step there is 0\.2498") as caught:
        sk.solve(sde, x0, t1=3.0, steps=10, method="euler_maruyama")
    text = str(caught[0].message)
    assert "'euler_maruyama' with steps of 0.3 is unstable on OU (lambda = -8)" in text


@pytest.mark.parametrize("method", ["euler_maruyama", "milstein", "sra1", "heun", "implicit_euler"])
def test_no_warning_for_stable_steps(method):
    with warnings.catch_warnings():
        warnings.simplefilter("error", StabilityWarning)
        sk.solve(sk.OU(theta=8.0), torch.ones(3, 1), t1=2.0, steps=10, method=method)


def test_no_warning_where_the_equation_grows_itself():
    with warnings.catch_warnings():
        warnings.simplefilter("error", StabilityWarning)
        sk.solve(sk.GBM(mu=1.0, sigma=0.5), torch.ones(3, 1), t1=9.0, steps=3)
