"""The Schrödinger bridge between Gaussians: its coupling, marginals, drifts, and a simulation."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from scipy.linalg import sqrtm

import sdekit as sk
from sdekit.bridge.closed_form import BridgeMixture, Joint, gaussian_bridge, imf_iterates
from sdekit.bridge.closed_form.linear_flow import linear_flow
from sdekit.sde import GBM, OU, VE, VP, AffineSDE, Brownian
from tests.bridge.gaussians import REFERENCES, covariance, draws, gap, in_errors, laws

TIMES = torch.tensor([0.05, 0.3, 0.5, 0.8, 0.95], dtype=torch.float64)


def independent(reference: AffineSDE) -> BridgeMixture:
    """Bridges over independent ends: reciprocal, but not Markov."""
    m0, S0, m1, S1 = laws()
    bridge = gaussian_bridge(m0, S0, m1, S1, reference=reference)
    return replace(bridge, joint=Joint(m0, m1, S0, 0.0 * S0, S1))


@pytest.mark.parametrize("sigma", [0.05, 0.5, 1.0, 3.0, 30.0])
def test_one_dimension_by_its_quadratic(sigma: float) -> None:
    # exp(x y / sigma^2) is the only mixed term of the coupling's density: the precision's entry is
    # -1 / sigma^2, so that c^2 + sigma^2 c - S0 S1 = 0.
    c = float(gaussian_bridge(0.3, 0.7, -1.0, 1.9, sigma).joint.cov01)
    assert abs(c**2 + sigma**2 * c - 0.7 * 1.9) < 1e-13 * max(1.0, sigma**2)
    assert c > 0.0


def test_the_golden_ratio_of_unit_gaussians() -> None:
    joint = gaussian_bridge(-0.1, torch.ones(5), 0.1, torch.ones(5), 1.0).joint
    assert gap(joint.cov01, (math.sqrt(5) - 1) / 2 * torch.eye(5, dtype=torch.float64)) < 1e-15


@pytest.mark.parametrize("d", [2, 20])
@pytest.mark.parametrize("sigma", [0.3, 1.0])
def test_the_published_formula(d: int, sigma: float) -> None:
    m0, S0, m1, S1 = laws(d)
    root = torch.from_numpy(sqrtm(S0.numpy()).real)
    one = torch.eye(d, dtype=torch.float64)
    D = torch.from_numpy(sqrtm((4 * root @ S1 @ root + sigma**4 * one).numpy()).real)
    expected = 0.5 * (root @ D @ torch.linalg.inv(root) - sigma**2 * one)
    assert gap(gaussian_bridge(m0, S0, m1, S1, sigma).joint.cov01, expected) < 1e-11


@pytest.mark.parametrize("name", REFERENCES)
def test_the_coupling_is_the_references_times_two_factors(name: str) -> None:
    # With the right marginals and this entry of the precision it is the bridge: there is no other.
    reference = REFERENCES[name]
    bridge = gaussian_bridge(*laws(), reference=reference)
    alpha, v = bridge.reference.step(0.0, bridge.T)
    precision = torch.linalg.inv(bridge.joint.cov)
    assert gap(precision[:2, 2:], torch.diag(-alpha / v)) < 1e-10
    m0, S0, m1, S1 = laws()
    for have, want in zip(
        (bridge.joint.mean0, bridge.joint.cov00, bridge.joint.mean1, bridge.joint.cov11),
        (m0, S0, m1, S1),
        strict=True,
    ):
        assert gap(have, want) < 1e-15


def test_the_coupling_in_twenty_dimensions() -> None:
    reference = OU(torch.linspace(-0.5, 3.0, 20, dtype=torch.float64), mu=1.0, sigma=0.7, T=0.8)
    bridge = gaussian_bridge(*laws(20), reference=reference)
    alpha, v = bridge.reference.step(0.0, bridge.T)
    assert gap(torch.linalg.inv(bridge.joint.cov)[:20, 20:], torch.diag(-alpha / v)) < 1e-9


@pytest.mark.parametrize("markov", [True, False])
@pytest.mark.parametrize("name", REFERENCES)
def test_drifts_move_the_marginals(name: str, markov: bool) -> None:
    # m' = b(m) and S' = A S + S A^T + g^2 forward, - g^2 backward, without it along the flow; the
    # derivatives by central differences of 1e-4, whose error is some 1e-8.
    reference = REFERENCES[name]
    process = gaussian_bridge(*laws(), reference=reference) if markov else independent(reference)
    t, h = TIMES * process.T, 1e-4
    low, here, high = (process.marginal(t + s) for s in (-h, 0.0, h))
    assert low.cov is not None and here.cov is not None and high.cov is not None
    g2 = torch.diag_embed(process.reference.rates(t)[1])
    for drift, sign in (
        (process.forward_drift(t), 1.0),
        (process.backward_drift(t), -1.0),
        (process.flow(t), 0.0),
    ):
        assert gap(drift(here.mean), (high.mean - low.mean) / (2 * h)) < 1e-6
        moved = drift.matrix @ here.cov + here.cov @ drift.matrix.mT + sign * g2
        assert gap(moved, (high.cov - low.cov) / (2 * h)) < 1e-6


@pytest.mark.parametrize("name", REFERENCES)
def test_the_drift_has_the_coupling_and_the_mixture_is_markov(name: str) -> None:
    bridge = gaussian_bridge(*laws(), reference=REFERENCES[name])
    flow = linear_flow(lambda t: bridge.forward_drift(t).matrix, 0.0, bridge.T)
    assert gap(bridge.joint.cov00 @ flow.mT, bridge.joint.cov01) < 1e-11
    s, t, u = (f * bridge.T for f in (0.2, 0.5, 0.9))
    middle = torch.linalg.inv(bridge.covariance(t, t))
    through = bridge.covariance(s, t) @ middle @ bridge.covariance(t, u)
    assert gap(through, bridge.covariance(s, u)) < 1e-12
    assert gap(bridge.covariance(u, s), bridge.covariance(s, u).mT) < 1e-15
    other = independent(REFERENCES[name])
    middle = torch.linalg.inv(other.covariance(t, t))
    through = other.covariance(s, t) @ middle @ other.covariance(t, u)
    assert gap(through, other.covariance(s, u)) > 1e-2


@pytest.mark.parametrize(
    "reference",
    [Brownian(1e-4), Brownian(1e4), OU(50.0, 0.5), OU(-50.0), VE(), VE("edm"), VP("cosine")],
    ids=["still", "wild", "ou", "unstable", "ve", "edm", "cosine"],
)
def test_extreme_references_keep_their_digits(reference: AffineSDE) -> None:
    # The coupling by its formula and by both drifts: relative to its own size, as small as 1e-20.
    bridge = gaussian_bridge(*laws(), reference=reference)
    there = linear_flow(lambda t: bridge.forward_drift(t).matrix, 0.0, bridge.T, reference.breaks)
    back = linear_flow(lambda t: bridge.backward_drift(t).matrix, bridge.T, 0.0, reference.breaks)
    joint, size = bridge.joint, float(bridge.joint.cov01.abs().max())
    assert gap(joint.cov00 @ there.mT, joint.cov01) < 1e-8 * size
    assert gap(joint.cov11 @ back.mT, joint.cov01.mT) < 1e-8 * size


@pytest.mark.parametrize("name", REFERENCES)
def test_both_drifts_differ_by_the_score(name: str) -> None:
    bridge = gaussian_bridge(*laws(), reference=REFERENCES[name])
    x = draws(torch.zeros(2, dtype=torch.float64), covariance(3, 2), 5, seed=1)
    t = 0.4 * bridge.T
    law = bridge.marginal(t)
    assert law.cov is not None
    score = -torch.linalg.solve(law.cov, (x - law.mean).mT).mT
    difference = bridge.forward_drift(t)(x) - bridge.backward_drift(t)(x)
    assert gap(difference, bridge.reference.rates(t)[1] * score) < 1e-12


def test_ends_of_the_marginals_and_point_masses() -> None:
    m0, S0, m1, S1 = laws()
    bridge = gaussian_bridge(m0, S0, m1, S1, 0.6)
    first, last = bridge.marginal(0.0), bridge.marginal(1.0)
    assert first.cov is not None and last.cov is not None
    assert gap(first.cov, S0) < 1e-15 and gap(last.cov, S1) < 1e-15
    # Between two points it is the Brownian bridge.
    bridge = gaussian_bridge(m0, 0.0, m1, 0.0, 0.6)
    t, x = torch.tensor(0.3, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    law = bridge.marginal(t)
    assert law.cov is not None
    assert gap(law.cov, 0.36 * 0.21 * torch.eye(2, dtype=torch.float64)) < 1e-15
    assert gap(bridge.forward_drift(t)(x), (m1 - x) / 0.7) < 1e-13
    assert gap(bridge.backward_drift(t)(x), (x - m0) / 0.3) < 1e-13


def test_singular_covariances_are_limits() -> None:
    m0, _, m1, S1 = laws()
    flat = torch.diag(torch.tensor([1.0, 0.0], dtype=torch.float64))
    exact = gaussian_bridge(m0, flat, m1, S1, 0.6)
    # Its own null direction changes as 1e-10; the rest by as much.
    near = gaussian_bridge(m0, flat + 1e-10 * torch.eye(2, dtype=torch.float64), m1, S1, 0.6)
    assert gap(exact.joint.cov, near.joint.cov) < 1e-8
    x = torch.ones(2, dtype=torch.float64)
    assert gap(exact.forward_drift(0.2)(x), near.forward_drift(0.2)(x)) < 1e-7
    flow = linear_flow(lambda t: exact.forward_drift(t).matrix, 0.0, 1.0)
    assert gap(flat @ flow.mT, exact.joint.cov01) < 1e-11


@pytest.mark.parametrize("method", ["heun", "euler_maruyama"])
@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("name", ["brownian per component", "ou"])
def test_a_simulation_has_the_coupling(name: str, backward: bool, method: str) -> None:
    # 20 000 paths: 20 moments of both ends within 4.5 standard errors (one run in 7000 fails).
    # Heun's method, of weak order two, has the bridge's own; Euler's 20 steps are off by more than
    # 6 standard errors, and have the exact moments of their own chain.
    m0, S0, m1, S1 = laws()
    bridge, n = gaussian_bridge(m0, S0, m1, S1, reference=REFERENCES[name]), 20_000
    steps = 100 if method == "heun" else 20
    start = draws(m1, S1, n, seed=3) if backward else draws(m0, S0, n, seed=3)
    equation = bridge.backward_equation() if backward else bridge.forward_equation()
    span = (bridge.T, 0.0) if backward else (0.0, bridge.T)
    end = sk.solve(equation, start, *span, steps, seed=5, method=method).x
    x = torch.cat([end, start] if backward else [start, end], 1)
    expected = bridge.joint
    if method == "euler_maruyama":
        assert in_errors(x, expected.mean, expected.cov) > 6.0
        first = "backward" if backward else "forward"
        expected = imf_iterates(
            *laws(),
            iterations=1,
            start=expected,
            reference=REFERENCES[name],
            steps=steps,
            first=first,
        )[1]
    assert in_errors(x, expected.mean, expected.cov) < 4.5


def test_equations_take_times_one_a_sample_and_events() -> None:
    bridge = gaussian_bridge(*laws(), reference=REFERENCES["ou"])
    equation = bridge.forward_equation()
    t, x = torch.tensor([0.1, 0.7]), torch.ones(2, 1, 2)
    drift, noise = equation.drift(t, x), equation.diffusion(t, x)
    assert drift.shape == x.shape and drift.dtype == torch.float32 and noise.shape == x.shape
    for i in range(2):
        assert gap(drift[i], equation.drift(t[i], x)[i]) < 1e-6
    with pytest.raises(ValueError, match="2 components"):
        equation.drift(t[0], torch.ones(2, 3))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (dict(m0=torch.zeros(2), m1=torch.zeros(3)), "same D components"),
        (dict(S0=-1.0), "positive semi-definite"),
        (dict(S1=torch.tensor([[1.0, 0.5], [0.0, 1.0]])), "symmetric"),
        (dict(S1=torch.full((2, 2), math.nan)), "finite"),
        (dict(S1=torch.ones(2, 3)), r"matrix \(2, 2\)"),
        (dict(sigma=0.0), "no noise in component 0"),
        (dict(sigma=torch.tensor([1.0, 0.0])), "no noise in component 1"),
        (dict(sigma=torch.ones(3)), "events of shape"),
    ],
)
def test_bad_laws(given: dict, message: str) -> None:
    good = dict(m0=torch.zeros(2), S0=1.0, m1=0.0, S1=1.0, sigma=1.0)
    with pytest.raises(ValueError, match=message):
        gaussian_bridge(**{**good, **given})


def test_bad_references_and_times() -> None:
    with pytest.raises(TypeError, match="either sigma"):
        gaussian_bridge(0.0, 1.0, 0.0, 1.0)
    with pytest.raises(TypeError, match="either sigma"):
        gaussian_bridge(0.0, 1.0, 0.0, 1.0, 1.0, reference=Brownian())
    with pytest.raises(TypeError, match="AffineSDE"):
        gaussian_bridge(0.0, 1.0, 0.0, 1.0, reference=GBM())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="m0 must be a number"):
        gaussian_bridge("zero", 1.0, 0.0, 1.0, 1.0)
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        gaussian_bridge(0.0, 1.0, 0.0, 1.0, 1.0).marginal(1.5)
