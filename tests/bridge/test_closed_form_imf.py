"""The iterates of IMF between Gaussians, in continuous time and for chains of N steps."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from sdekit.bridge.closed_form import Joint, gaussian_bridge, imf_iterates, ipf_iterates
from sdekit.bridge.closed_form.linear_flow import linear_flow
from sdekit.bridge.measures import gaussian_kl
from sdekit.sde import OU, VP, AffineSDE, Brownian
from tests.bridge.gaussians import REFERENCES, gap, laws


def error(one: Joint, other: Joint) -> float:
    return max(gap(one.cov, other.cov), gap(one.mean, other.mean))


def next_cross(s0: float, s1: float, c: float, sigma: float) -> float:
    r"""One iteration in one dimension: from S' = 2 A S + sigma^2, \int A without the drift.

    \int A = (log(s1 / s0) - sigma^2 \int dt / S_t) / 2, and S_t = p t^2 + q t + s0.
    """
    p, q = s0 + s1 - 2 * c - sigma**2, 2 * (c - s0) + sigma**2
    disc = 4 * p * s0 - q * q
    if disc > 0:
        r = math.sqrt(disc)
        integral = 2 / r * (math.atan((2 * p + q) / r) - math.atan(q / r))
    else:
        r = math.sqrt(-disc)
        ends = [(2 * p * t + q - r) / (2 * p * t + q + r) for t in (0.0, 1.0)]
        integral = math.log(abs(ends[1] / ends[0])) / r
    return math.sqrt(s0 * s1) * math.exp(-0.5 * sigma**2 * integral)


@pytest.mark.parametrize("sigma", [0.2, 1.0, 2.0])
@pytest.mark.parametrize("c", [0.0, 0.4, -0.6])
def test_one_dimension_in_closed_form(sigma: float, c: float) -> None:
    start = torch.tensor([[0.7, c], [c, 1.9]])
    joints = imf_iterates(0.0, 0.7, 1.0, 1.9, sigma, iterations=5, start=start)
    for joint in joints[1:]:
        c = next_cross(0.7, 1.9, c, sigma)
        # The start is in float32.
        assert float(joint.cov01) == pytest.approx(c, rel=1e-6)
    double = torch.tensor([[0.7, 0.1], [0.1, 1.9]], dtype=torch.float64)
    (_, joint) = imf_iterates(0.0, 0.7, 1.0, 1.9, sigma, iterations=1, start=double)
    assert float(joint.cov01) == pytest.approx(next_cross(0.7, 1.9, 0.1, sigma), rel=1e-12)


@pytest.mark.parametrize("theta", [0.0, 1.3])
def test_two_dimensions_by_another_drift_and_another_integrator(theta: float) -> None:
    # The bridge's drift as papers write it, e^{-theta r} (E[X_1 | x] - e^{-theta r} x) / v_r with
    # r = 1 - t, from Gaussian conditioning, and an explicit method of order 8 up to t = 1 - 1e-5.
    m0, S0, m1, S1 = (v.numpy() for v in laws())
    sigma, one = 0.8, np.eye(2)

    def var(r: float) -> float:
        return sigma**2 * (r if theta == 0 else (1 - math.exp(-2 * theta * r)) / (2 * theta))

    def rate(t: float, phi: np.ndarray) -> np.ndarray:
        r = 1.0 - t
        k1 = var(t) * math.exp(-theta * r) / var(1.0)
        k0 = math.exp(-theta * t) - k1 * math.exp(-theta)
        cov = k0**2 * S0 + k1**2 * S1 + var(t) * var(r) / var(1.0) * one
        guess = k1 * S1 @ np.linalg.inv(cov)
        decay = math.exp(-theta * r)
        A = -theta * one + sigma**2 * decay * (guess - decay * one) / var(r)
        return (A @ phi.reshape(2, 2)).ravel()

    last = 1.0 - 1e-5
    found = solve_ivp(rate, (0.0, last), one.ravel(), method="DOP853", rtol=1e-10, atol=1e-12)
    phi = found.y[:, -1].reshape(2, 2)
    phi = phi + 1e-5 * rate(last, phi.ravel()).reshape(2, 2)  # the rest: an error of 1e-10
    reference = OU(theta, 0.0, sigma)
    joint = imf_iterates(m0, S0, m1, S1, iterations=1, reference=reference, first="forward")[1]
    assert gap(joint.cov01, torch.from_numpy(S0 @ phi.T)) < 1e-8


@pytest.mark.parametrize("name", REFERENCES)
def test_directions_agree_and_the_bridge_stays(name: str) -> None:
    m0, S0, m1, S1 = laws()
    reference = REFERENCES[name]
    forward = imf_iterates(m0, S0, m1, S1, iterations=2, reference=reference, first="forward")
    backward = imf_iterates(m0, S0, m1, S1, iterations=2, reference=reference)
    for one, other in zip(forward, backward, strict=True):
        assert error(one, other) < 1e-11
        for joint in (one, other):
            assert error(joint, Joint(m0, m1, S0, joint.cov01, S1)) < 1e-12
    bridge = gaussian_bridge(m0, S0, m1, S1, reference=reference).joint
    for joint in imf_iterates(m0, S0, m1, S1, iterations=2, reference=reference, start=bridge.cov):
        assert error(joint, bridge) < 1e-11


@pytest.mark.parametrize("name", REFERENCES)
def test_from_the_reference_it_is_ipf(name: str) -> None:
    given = dict(reference=REFERENCES[name])
    imf = imf_iterates(*laws(), iterations=5, start="reference", **given)
    ipf = ipf_iterates(*laws(), half_steps=5, **given)
    for one, other in zip(imf, ipf, strict=True):
        assert error(one, other) < 1e-11


@pytest.mark.parametrize("name", REFERENCES)
def test_it_converges_to_the_bridge(name: str) -> None:
    m0, S0, m1, S1 = laws()
    bridge = gaussian_bridge(m0, S0, m1, S1, reference=REFERENCES[name]).joint
    joints = imf_iterates(m0, S0, m1, S1, iterations=16, reference=REFERENCES[name])
    kl = [gaussian_kl(j.mean, j.cov, bridge.mean, bridge.cov) for j in joints]
    # KL(iterate | bridge) falls in every iteration (Shi et al. 2023, proposition 7), and at last by
    # a constant factor, while it is above rounding.
    seen = [v for v in kl if v > 1e-12]
    assert all(b < a for a, b in itertools.pairwise(seen))
    ratios = [b / a for a, b in itertools.pairwise(seen)]
    assert ratios[-1] < 0.6
    assert ratios[-1] == pytest.approx(ratios[-2], rel=0.2)
    assert error(joints[-1], bridge) < 1e-3


def test_twenty_dimensions() -> None:
    m0, S0, m1, S1 = laws(20)
    bridge = gaussian_bridge(m0, S0, m1, S1, 1.0).joint
    joints = imf_iterates(m0, S0, m1, S1, 1.0, iterations=8)
    kl = [gaussian_kl(j.mean, j.cov, bridge.mean, bridge.cov) for j in joints]
    assert all(b < 0.5 * a for a, b in itertools.pairwise(kl))
    ipf = ipf_iterates(m0, S0, m1, S1, 1.0, half_steps=3)
    imf = imf_iterates(m0, S0, m1, S1, 1.0, iterations=3, start="reference")
    assert error(imf[3], ipf[3]) < 1e-10


@pytest.mark.parametrize(
    "reference", [Brownian(0.9), OU(1.0, 0.3, 0.8), VP(beta_max=3.0)], ids=["bm", "ou", "vp"]
)
def test_chains_tend_to_the_continuous_iterates(reference: AffineSDE) -> None:
    m0, S0, m1, S1 = laws()
    exact = imf_iterates(m0, S0, m1, S1, iterations=4, reference=reference)
    errors = []
    for steps in (200, 400):
        chain = imf_iterates(m0, S0, m1, S1, iterations=4, reference=reference, steps=steps)
        assert gap(chain[3].cov11, S1) < 1e-15 and gap(chain[4].cov00, S0) < 1e-15
        errors.append([error(a, b) for a, b in zip(chain[1:], exact[1:], strict=True)])
    for coarse, fine in zip(*errors, strict=True):
        assert math.log2(coarse / fine) == pytest.approx(1.0, abs=0.15)


def test_a_singular_source() -> None:
    m0, _, m1, S1 = laws()
    flat = torch.diag(torch.tensor([1.0, 0.0], dtype=torch.float64))
    bridge = gaussian_bridge(m0, flat, m1, S1, 0.7).joint
    joints = imf_iterates(m0, flat, m1, S1, 0.7, iterations=20)
    left = [error(j, bridge) for j in joints]
    assert left[20] < 0.05 * left[10] < 0.05**2 * left[0] * 20
    forward = imf_iterates(m0, flat, m1, S1, 0.7, iterations=1, first="forward")[1]
    assert error(joints[1], forward) < 1e-11


def test_the_flow_of_a_rotation_and_of_a_kink() -> None:
    turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
    flow = linear_flow(lambda t: 3.0 * t.cos()[:, None, None] * turn, 0.0, 2.0)
    angle = 3.0 * math.sin(2.0)
    expected = math.cos(angle) * torch.eye(2, dtype=torch.float64) + math.sin(angle) * turn
    assert gap(flow, expected) < 1e-12
    kink = linear_flow(lambda t: (t - 0.3).abs()[:, None, None], 1.0, 0.0, (0.3,))
    assert float(kink) == pytest.approx(math.exp(-0.5 * (0.09 + 0.49)), rel=1e-12)
    with pytest.raises(RuntimeError, match="does not settle"):
        linear_flow(lambda t: (t - 0.3).sign()[:, None, None], 0.0, 1.0, tolerance=1e-14)


def test_bad_starts() -> None:
    with pytest.raises(ValueError, match="start"):
        imf_iterates(0.0, 1.0, 0.0, 1.0, 1.0, iterations=1, start="refrence")
    with pytest.raises(ValueError, match="start must be positive"):
        start = torch.tensor([[1.0, 2.0], [2.0, 1.0]])
        imf_iterates(0.0, 1.0, 0.0, 1.0, 1.0, iterations=1, start=start)
    with pytest.raises(ValueError, match="iterations"):
        imf_iterates(0.0, 1.0, 0.0, 1.0, 1.0, iterations=-1)
    with pytest.raises(ValueError, match="first"):
        imf_iterates(0.0, 1.0, 0.0, 1.0, 1.0, iterations=1, first="both")
