"""IPF from the Gaussian bridge of the ends' moments: the same limit, in fewer half-steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import sdekit as sk
from sdekit.bridge import DSB, AffineDrift, Cache, LeastSquares, time_grid
from sdekit.bridge.closed_form import gaussian_bridge, ipf_iterates, sinkhorn
from sdekit.bridge.ends import two_ends
from sdekit.bridge.starts import first_drift
from sdekit.sde import AffineSDE, Brownian
from tests.bridge.gaussians import REFERENCES, draws, laws


class Law:
    """A Gaussian to draw from."""

    def __init__(self, mean: Tensor, cov: Tensor) -> None:
        self.mean, self.cov = mean, cov

    def sample(self, n: int, *, seed: int, first_sample: int = 0) -> Tensor:
        return draws(self.mean, self.cov, n, seed % 1_000 + first_sample % 1_000)


def whitened(mean: Tensor, cov: Tensor, n: int = 2_000) -> Tensor:
    """Data whose moments are these exactly."""
    z = draws(torch.zeros_like(mean), torch.eye(len(mean)).double(), n, 3)
    z = z - z.mean(0)
    root = torch.linalg.cholesky(z.mT @ z / n)
    return mean + torch.linalg.solve_triangular(root, z.mT, upper=False).mT @ (
        torch.linalg.cholesky(cov).mT
    )


@pytest.mark.parametrize("name", list(REFERENCES))
def test_it_is_the_reference_times_functions_of_the_ends(name: str) -> None:
    # log of both densities' ratio has no term with x_0 and x_T: that of the precision matrices is
    # -alpha / v for both.
    reference: AffineSDE = REFERENCES[name]
    m0, S0, m1, S1 = laws(2)
    joint = gaussian_bridge(m0, S0, m1, S1, reference=reference).joint
    precision = torch.linalg.inv(joint.cov)
    zero, T = (torch.tensor(v, dtype=torch.float64) for v in (0.0, float(reference.T)))
    alpha = reference.log_mean_ratio(zero, T).exp().flatten()
    v = reference.transition_variance(zero, T).flatten()
    expected = torch.diag((-alpha / v).expand(2))
    assert torch.allclose(precision[:2, 2:], expected, rtol=0.0, atol=1e-9)


@pytest.mark.parametrize("name", list(REFERENCES))
def test_the_drift_is_the_closed_form(name: str) -> None:
    reference, given = REFERENCES[name], laws(2)
    m0, S0, m1, S1 = given
    grid = time_grid(7, float(reference.T), gammas="ramp")
    ends = two_ends(whitened(m0, S0), whitened(m1, S1), (0, 1))
    drift = first_drift("gaussian", ends, reference, grid, 0)
    exact, x = gaussian_bridge(*given, reference=reference), draws(m0, S0, 50, 8)
    for t in grid.asked("forward"):
        assert torch.allclose(drift(t, x), exact.forward_drift(float(t))(x), rtol=0.0, atol=1e-9)


def test_laws_are_drawn_from() -> None:
    m0, S0, m1, S1 = laws(2)
    options: dict[str, Any] = dict(start="gaussian", steps=5, dtype=torch.float64)
    bridge = DSB(Law(m0, S0), Law(m1, S1), **options)
    drift, exact = bridge.transport.drift("forward"), gaussian_bridge(*laws(2), 1.0)
    assert isinstance(drift, AffineDrift)
    # 2^14 draws of each end: moments within 5 standard errors, of up to 3 / 128 of their size.
    x, t = draws(m0, S0, 100, 8), torch.tensor(0.0, dtype=torch.float64)
    expected = exact.forward_drift(0.0)(x)
    assert float((drift(t, x) - expected).abs().max()) < 0.12 * float(expected.abs().max())


def test_between_gaussians_it_has_nothing_left_to_do() -> None:
    # 40 steps: what is left is Euler's O(1/N). From the reference the first half-step is far off.
    m0, S0, m1, S1 = laws(2)
    source, target = whitened(m0, S0), whitened(m1, S1)
    errors = {}
    for start in ("reference", "gaussian"):
        bridge = DSB(
            source,
            target,
            start=start,
            first="paths",
            reference=Brownian(0.5),
            steps=40,
            half_steps=1,
            measure=0,
            regression=LeastSquares(),
            cache=Cache(paths=8_000),
        )
        bridge.fit()
        back = bridge.sample(target, direction="backward", seed=1)
        miss = torch.cat([back.mean(0) - laws(2)[0], (torch.cov(back.mT) - laws(2)[1]).flatten()])
        errors[start] = float(miss.abs().max())
    assert errors["gaussian"] < 0.12 < 0.3 < errors["reference"], errors


def test_both_starts_have_one_limit_which_the_gaussian_one_is_nearer_to() -> None:
    # Between unlike clouds, half-step by half-step: Sinkhorn's scaling, begun with either start's
    # function of the end. Its plan is the oracle.
    x = torch.tensor([[-2.0], [-1.5], [1.5], [2.2]], dtype=torch.float64)
    y = torch.tensor([[-3.0], [0.0], [0.3], [3.5]], dtype=torch.float64)
    sigma = 0.9
    kernel = -torch.cdist(x, y).square() / (2.0 * sigma**2)
    limit = sinkhorn(x, y, epsilon=2.0 * sigma**2, tolerance=1e-12).plan
    m0, S0, m1, S1 = x.mean(0), x.var(0, correction=0), y.mean(0), y.var(0, correction=0)
    joint = gaussian_bridge(m0, S0, m1, S1, sigma).joint
    precision = torch.linalg.inv(joint.cov)
    linear = precision @ joint.mean
    # b of the joint density e^{a(x) + b(y) - |x - y|^2 / (2 sigma^2)}.
    b = (-0.5 * (precision[1, 1] - 1.0 / sigma**2) * y.square() + linear[1] * y).squeeze(1)
    gaps = {}
    for start, g in (("reference", torch.zeros(4).double()), ("gaussian", b)):
        gaps[start] = []
        for _ in range(200):
            f = -torch.logsumexp(kernel + g, 1)
            plan = (kernel + f[:, None] + g).exp() / 4.0
            gaps[start].append(float((plan - limit).abs().sum()))
            g = -torch.logsumexp(kernel + f[:, None], 0)
    assert max(v[-1] for v in gaps.values()) < 1e-9
    nearer = [a / b for a, b in zip(gaps["gaussian"][:6], gaps["reference"][:6], strict=True)]
    # The first plan is a guess in either case; what is left of it afterwards is not.
    assert max(nearer[2:]) < 0.4, nearer


def test_it_is_saved_and_read(tmp_path: Path) -> None:
    m0, S0, m1, S1 = laws(2)
    options: dict[str, Any] = dict(steps=5, half_steps=2, measure=0, regression=LeastSquares())
    source, target = whitened(m0, S0, 500), whitened(m1, S1, 500)
    bridge = DSB(source, target, start="gaussian", cache=Cache(paths=500), **options)
    next(bridge.iterate())
    sk.bridge.save(bridge, tmp_path / "bridge.safetensors")
    found = sk.bridge.load(tmp_path / "bridge.safetensors")
    assert torch.equal(found.sample(source, seed=3), bridge.sample(source, seed=3))


def test_what_it_refuses() -> None:
    x = draws(*laws(2)[:2], 50, 1)
    with pytest.raises(ValueError, match="unknown start 'gausian': known are 'reference'"):
        DSB(x, x, start="gausian")
    with pytest.raises(ValueError, match=r'reverses the reference.*write first="paths"'):
        DSB(x, x, start="gaussian", first="score")
    wide = torch.zeros(3, 1_025)
    with pytest.raises(ValueError, match=r"1025 x 1025 matrices .* at most 1024"):
        DSB(wide, wide, start="gaussian", reference=Brownian(1.0))


def test_the_bridge_of_the_moments_is_where_ipf_begins() -> None:
    # The first marginal of IPF from the reference arrives at N(m0, S0 + 1), not at the target.
    m0, S0, m1, S1 = laws(2)
    arrived = ipf_iterates(m0, S0, m1, S1, 1.0, half_steps=1)[0]
    assert float((arrived.mean1 - m1).abs().max()) > 0.3
    joint = gaussian_bridge(m0, S0, m1, S1, 1.0).joint
    assert torch.allclose(joint.mean1, m1) and torch.allclose(joint.cov11, S1)
