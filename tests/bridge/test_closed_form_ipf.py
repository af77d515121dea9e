"""The iterates of IPF between Gaussians, for the continuous reference and for chains of N steps."""

from __future__ import annotations

import itertools
import math

import pytest
import sdekit_kernels
import torch
from torch import Tensor

from sdekit.bridge.closed_form import Joint, gaussian_bridge, ipf_iterates
from sdekit.bridge.measures import gaussian_kl
from sdekit.sde import OU, VP, AffineSDE, Brownian
from tests.bridge.gaussians import REFERENCES, draws, gap, laws


def error(one: Joint, other: Joint) -> float:
    return max(gap(one.cov, other.cov), gap(one.mean, other.mean))


def conditioned(joint: Joint, mean1: Tensor, cov11: Tensor) -> Joint:
    """X_0 given X_T as it was, X_T ~ N(mean1, cov11): by the formulas of Gaussian conditioning."""
    K = joint.cov01 @ torch.linalg.inv(joint.cov11)
    rest = joint.cov00 - K @ joint.cov01.mT
    mean0 = joint.mean0 + K @ (mean1 - joint.mean1)
    return Joint(mean0, mean1, rest + K @ cov11 @ K.mT, K @ cov11, cov11)


@pytest.mark.parametrize("name", REFERENCES)
def test_half_steps_are_conditionings(name: str) -> None:
    m0, S0, m1, S1 = laws()
    joints = ipf_iterates(m0, S0, m1, S1, half_steps=10, reference=REFERENCES[name])
    for i, (before, after) in enumerate(itertools.pairwise(joints), 1):
        if i % 2:
            expected = conditioned(before, m1, S1)
        else:
            expected = conditioned(before.reversed(), m0, S0).reversed()
        assert error(after, expected) < 1e-11


@pytest.mark.parametrize("d", [1, 2, 20])
def test_one_marginal_is_exact_and_the_class_is_kept(d: int) -> None:
    m0, S0, m1, S1 = laws(d)
    joints = ipf_iterates(m0, S0, m1, S1, 0.8, half_steps=6)
    assert len(joints) == 7
    for i, joint in enumerate(joints):
        if i % 2:
            assert gap(joint.mean1, m1) == 0.0 and gap(joint.cov11, S1) < 1e-15
        else:
            assert gap(joint.mean0, m0) == 0.0 and gap(joint.cov00, S0) < 1e-15
        # Reference times two factors: only they change, the mixed part of the precision does not.
        mixed = torch.linalg.inv(joint.cov)[:d, d:]
        assert gap(mixed, -torch.eye(d, dtype=torch.float64) / 0.64) < 1e-9


@pytest.mark.parametrize("name", REFERENCES)
def test_it_converges_at_its_rate(name: str) -> None:
    # Means lose the square of the largest canonical correlation of the bridge's ends in two
    # half-steps: the product of both slopes.
    m0, S0, m1, S1 = laws()
    bridge = gaussian_bridge(m0, S0, m1, S1, reference=REFERENCES[name]).joint
    slopes = torch.linalg.solve(bridge.cov00, bridge.cov01)
    slopes = slopes @ torch.linalg.solve(bridge.cov11, bridge.cov01.mT)
    rate = float(torch.linalg.eigvals(slopes).abs().max())
    most = math.ceil(2 * math.log(1e-6) / math.log(rate))
    joints = ipf_iterates(m0, S0, m1, S1, half_steps=most, reference=REFERENCES[name])
    means = [gap(j.mean, bridge.mean) for j in joints]
    assert means[-1] / means[-3] == pytest.approx(rate, rel=0.02)
    for joint, before in zip(joints[1:-1], joints[:-2], strict=True):
        pair = [gaussian_kl(bridge.mean, bridge.cov, j.mean, j.cov) for j in (before, joint)]
        assert pair[1] <= pair[0] + 1e-12


@pytest.mark.parametrize("reference", [Brownian(0.9), OU(1.0, 0.3, 0.8), VP(beta_max=1.0)])
def test_variances_converge_at_the_square_of_that_rate(reference: AffineSDE) -> None:
    bridge = gaussian_bridge(0.0, 0.7, 1.0, 1.9, reference=reference).joint
    rate = float(bridge.cov01**2 / (bridge.cov00 * bridge.cov11))
    joints = ipf_iterates(0.0, 0.7, 1.0, 1.9, half_steps=30, reference=reference)
    left = [e for e in (gap(j.cov, bridge.cov) for j in joints) if e > 1e-10]
    assert len(left) > 4
    assert left[-1] / left[-3] == pytest.approx(rate**2, rel=1e-3)


def test_singular_ends_converge_too() -> None:
    m0, _, m1, _ = laws()
    flat = torch.diag(torch.tensor([1.0, 0.0], dtype=torch.float64))
    bridge = gaussian_bridge(m0, flat, m1, flat, 0.7).joint
    assert error(ipf_iterates(m0, flat, m1, flat, 0.7, half_steps=130)[-1], bridge) < 1e-12


def test_small_noise_stays_accurate() -> None:
    # sigma 0.01: naive conditioning loses 8 digits a step here. The mixed entry of the precision,
    # c / (S0 S1 - c^2) = 1 / sigma^2, is kept to what the joint's own entries can say.
    joints = ipf_iterates(0.0, 1.0, 1.0, 2.0, 0.01, half_steps=400)
    j = joints[-1]
    expected = gaussian_bridge(0.0, 1.0, 1.0, 2.0, 0.01).joint
    left = [abs(float(x.cov01 - expected.cov01)) for x in (joints[200], j)]
    assert left[1] < left[0] < abs(float(joints[2].cov01 - expected.cov01))
    c, s = float(j.cov01), float(j.cov00 * j.cov11)
    assert c**2 + 1e-4 * c == pytest.approx(s, rel=1e-13)


@pytest.mark.parametrize("matching", ["mean", "conditional"])
@pytest.mark.parametrize(
    "reference", [Brownian(0.9), OU(1.0, 0.3, 0.8), VP(beta_max=3.0)], ids=["bm", "ou", "vp"]
)
def test_chains_tend_to_the_continuous_iterates(reference: AffineSDE, matching: str) -> None:
    m0, S0, m1, S1 = laws()
    exact = ipf_iterates(m0, S0, m1, S1, half_steps=6, reference=reference)
    errors = []
    for steps in (100, 200, 400):
        chain = ipf_iterates(
            m0, S0, m1, S1, half_steps=6, reference=reference, steps=steps, matching=matching
        )
        assert gap(chain[5].cov11, S1) < 1e-15 and gap(chain[6].cov00, S0) < 1e-15
        errors.append([error(a, b) for a, b in zip(chain[1:], exact[1:], strict=True)])
    for coarse, fine in zip(errors[1], errors[2], strict=True):
        assert math.log2(coarse / fine) == pytest.approx(1.0, abs=0.15)
    assert max(errors[2]) < 0.05


def test_a_grid_of_times_is_the_steps_of_the_paper() -> None:
    # gamma_k of De Bortoli et al.: x + gamma f(x) + sqrt(2 gamma) z is Euler's step for g^2 = 2.
    gamma = torch.tensor([0.01, 0.03, 0.05, 0.03, 0.01], dtype=torch.float64)
    times = torch.cat([torch.zeros(1, dtype=torch.float64), gamma.cumsum(0)])
    reference = OU(1.0, 0.0, 2.0**0.5, T=float(gamma.sum()))
    (joint,) = ipf_iterates(1.0, 0.5, 0.0, 1.0, half_steps=0, reference=reference, steps=times)
    shrink, variance = 1.0, 0.5
    for step in gamma.tolist():
        shrink, variance = shrink * (1 - step), variance * (1 - step) ** 2 + 2 * step
    assert float(joint.cov01) == pytest.approx(0.5 * shrink, rel=1e-13)
    assert float(joint.cov11) == pytest.approx(variance, rel=1e-13)


def test_one_step_by_hand() -> None:
    # X_1 = X_0 + sigma z, X_0 ~ N(0, s), then B(x) = s / (s + sigma^2) x for either target (A = 1).
    s, q, s1 = 0.7, 0.25, 2.0
    back = s / (s + q)
    for matching in ("mean", "conditional"):
        joints = ipf_iterates(0.0, s, 0.0, s1, 0.5, half_steps=2, steps=1, matching=matching)
        assert float(joints[1].cov00) == pytest.approx(back**2 * s1 + q, rel=1e-14)
        assert float(joints[1].cov01) == pytest.approx(back * s1, rel=1e-14)
        # Then F: the regression of X_1 on X_0, or x + back (E[X_1 | X_0 = x] - x).
        slope = back * s1 / (back**2 * s1 + q)
        forward = 1 + back * (slope - 1) if matching == "mean" else slope
        assert float(joints[2].cov11) == pytest.approx(forward**2 * s + q, rel=1e-13)


def test_least_squares_on_the_published_loss_gives_the_same_chain() -> None:
    # The loss of De Bortoli et al. (their eq. 12) on 100 000 paths, backward then forward, affine
    # models by least squares. Sampling errors of the two fits and of the simulations add up to some
    # 4 / sqrt(n) of the joint's entries, which are of order one: 0.03 is more than twice that.
    m0, S0, m1, S1 = laws()
    n, steps, theta, sigma = 100_000, 5, 1.0, 0.8
    h = 1.0 / steps
    joints = ipf_iterates(
        m0, S0, m1, S1, half_steps=2, reference=OU(theta, 0.0, sigma), steps=steps
    )
    maps = [lambda x: (1.0 - h * theta) * x] * steps
    x = draws(m0, S0, n, seed=1)
    for half_step in range(3):
        path = [x]
        for k, step in enumerate(maps):
            z = sdekit_kernels.normal((n, 2), seed=half_step, stream=3, step=k, dtype=torch.float64)
            path.append(step(path[-1]) + sigma * h**0.5 * z)
        ends = [path[0], path[-1]] if half_step % 2 == 0 else [path[-1], path[0]]
        sampled = torch.cat(ends, 1)
        assert gap(torch.cov(sampled.mT), joints[half_step].cov) < 0.03
        assert gap(sampled.mean(0), joints[half_step].mean) < 0.03
        fitted = []
        for k in reversed(range(steps)):
            now, then = path[k], path[k + 1]
            design = torch.cat([then, torch.ones(n, 1, dtype=torch.float64)], 1)
            target = then + maps[k](now) - maps[k](then)
            weights = torch.linalg.lstsq(design, target).solution
            fitted.append(lambda x, w=weights: x @ w[:2] + w[2])
        maps = fitted
        x = draws(m1, S1, n, seed=2) if half_step % 2 == 0 else draws(m0, S0, n, seed=4)


@pytest.mark.parametrize("steps", [0, -3, 2.5, torch.tensor([0.0, 0.5]), torch.tensor([0.0, 1, 1])])
def test_bad_steps(steps: object) -> None:
    with pytest.raises(ValueError, match="steps"):
        ipf_iterates(0.0, 1.0, 0.0, 1.0, 1.0, half_steps=1, steps=steps)  # type: ignore[arg-type]


def test_bad_counts() -> None:
    with pytest.raises(ValueError, match="half_steps"):
        ipf_iterates(0.0, 1.0, 0.0, 1.0, 1.0, half_steps=-1)
    with pytest.raises(ValueError, match="matching"):
        ipf_iterates(0.0, 1.0, 0.0, 1.0, 1.0, half_steps=1, steps=2, matching="means")
