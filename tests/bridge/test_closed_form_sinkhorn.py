"""Sinkhorn in the log domain: against POT, and against the closed forms on a fine grid."""

from __future__ import annotations

import math

import ot
import pytest
import torch
from torch import Tensor

from sdekit.bridge.closed_form import gaussian_bridge, sinkhorn
from tests.bridge.gaussians import covariance, draws, gap, laws


def gridded(mean: float, variance: float) -> tuple[Tensor, Tensor]:
    """Points and weights of N(mean, variance), over 8 deviations: trapezoids are exact."""
    x = torch.linspace(-8.0, 8.0, 161, dtype=torch.float64)
    return (mean + variance**0.5 * x).unsqueeze(1), (-0.5 * x.square()).exp()


@pytest.mark.parametrize("sigma", [0.5, 1.0])
def test_the_static_bridge_is_its_limit_on_a_fine_grid(sigma: float) -> None:
    (m0, s0), (m1, s1) = (0.3, 0.7), (-1.0, 1.9)
    (x, a), (y, b) = gridded(m0, s0), gridded(m1, s1)
    found = sinkhorn(x, y, epsilon=2 * sigma**2, a=a, b=b, tolerance=1e-11)
    p, dx, dy = found.plan, x[:, 0] - m0, y[:, 0] - m1
    joint = gaussian_bridge(m0, s0, m1, s1, sigma).joint
    assert float(dx @ p @ dy) == pytest.approx(float(joint.cov01), rel=1e-8)
    assert float(dx.square() @ p.sum(1)) == pytest.approx(s0, rel=1e-8)
    # The published value of entropic transport between Gaussians (Janati et al. 2020, theorem 1).
    D = math.sqrt(4 * s0 * s1 + sigma**4)
    value = (m0 - m1) ** 2 + s0 + s1 - D
    value += sigma**2 * (1 - math.log(2 * sigma**2)) + sigma**2 * math.log(D + sigma**2)
    assert found.value == pytest.approx(value, rel=1e-8)
    assert found.cost == pytest.approx((m0 - m1) ** 2 + s0 + s1 - (D - sigma**2), rel=1e-8)


@pytest.mark.parametrize("epsilon", [0.05, 1.0])
def test_against_pot(epsilon: float) -> None:
    m0, S0, m1, S1 = laws()
    x, y = draws(m0, S0, 40, seed=1), draws(m1, S1, 50, seed=2)
    a = draws(torch.zeros(1).double(), covariance(3, 1), 40, seed=3)[:, 0].exp()
    cost = torch.cdist(x, y).square().numpy()
    wa, wb = (a / a.sum()).numpy(), ot.unif(50)
    expected = ot.sinkhorn(
        wa, wb, cost, epsilon, method="sinkhorn_log", numItermax=20_000, stopThr=1e-12
    )
    found = sinkhorn(x, y, epsilon=epsilon, a=a, tolerance=1e-11)
    assert gap(found.plan, torch.from_numpy(expected)) < 1e-10
    assert gap(found.plan.sum(1), torch.from_numpy(wa)) < 1e-11
    assert gap(found.plan.sum(0), torch.from_numpy(wb)) < 1e-12
    # At the optimum the value is that of the dual.
    dual = float((found.f * a / a.sum()).sum() + found.g.mean())
    assert found.value == pytest.approx(dual, rel=1e-9)


def test_bad_points() -> None:
    x = torch.zeros(3, 2)
    with pytest.raises(ValueError, match="3 finite weights above zero"):
        sinkhorn(x, x, epsilon=1.0, a=torch.tensor([1.0, 0.0, 1.0]))
    with pytest.raises(ValueError, match="2 components cannot meet those of 1"):
        sinkhorn(x, x[:, :1], epsilon=1.0)
    with pytest.raises(ValueError, match="epsilon"):
        sinkhorn(x, x, epsilon=0.0)
    with pytest.raises(RuntimeError, match="1 iterations leave"):
        sinkhorn(torch.rand(4, 1), torch.rand(5, 1), epsilon=0.01, iterations=1)
