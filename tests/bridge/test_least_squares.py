r"""With affine drifts by least squares the drivers follow the exact iterates, step by step.

A fitted drift is affine, so that its chain's joint law of both ends is known without sampling: what
is compared is the fit alone. The standard error of each entry of the joint mean and covariance is
measured, over R seeds, pooled over entries of a kind. The mean over the seeds must be within LIMIT
standard errors of the exact iterate, beside the bias of second order that a regression has: slopes
fitted to n paths miss by \Delta with E \Delta x x^T \Delta^T = (D + 1) / n times what is left of
the target, which adds up to g^2 T (D + 1) / n a half-step, at the most, in the covariances.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import sdekit_kernels
import torch
from torch import Tensor

from sdekit.bridge import DSB, DSBM, AffineDrift, Cache, LeastSquares, time_grid
from sdekit.bridge.closed_form import AffineMap, Joint, imf_iterates, ipf_iterates
from sdekit.bridge.closed_form.chain import run_chain
from sdekit.bridge.closed_form.inputs import two_laws
from sdekit.bridge.drifts import ReferenceDrift
from sdekit.bridge.driver import Driver
from sdekit.bridge.grid import Direction
from sdekit.bridge.trajectories import chain_noise
from sdekit.sde import OU, VP, AffineSDE, Brownian
from tests.bridge.gaussians import in_errors, laws

STEPS, HALF_STEPS = 5, 3
LIMIT = 5.0


@dataclass
class Gaussian:
    """A law from which a driver can draw."""

    mean: Tensor
    cov: Tensor

    def sample(self, n: int, *, seed: int, first_sample: int = 0) -> Tensor:
        z = sdekit_kernels.normal(
            (n, len(self.mean)),
            seed=seed,
            stream=77,
            first_sample=first_sample,
            dtype=torch.float64,
        )
        return self.mean + z @ torch.linalg.cholesky(self.cov).mT


def ends(d: int, isotropic: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    m0, S0, m1, S1 = laws(d)
    one = torch.eye(d, dtype=torch.float64)
    return (m0, 0.7 * one, m1, 1.6 * one) if isotropic else (m0, S0, m1, S1)


def joint_of(bridge: Driver, direction: Direction, given: Any) -> Joint:
    """The joint of both ends of a fitted chain, exactly."""
    grid, drift = bridge.grid, bridge.transport.drift(direction)
    assert isinstance(drift, AffineDrift)
    source, target = two_laws(*given)
    start = source if direction == "forward" else target
    h, one = grid.lengths(direction), torch.eye(len(start.mean), dtype=torch.float64)
    maps = [
        AffineMap(one + dt * A, dt * c)
        for dt, A, c in zip(h, drift.matrices, drift.shifts, strict=True)
    ]
    g = chain_noise(grid, bridge.reference, direction, bridge.noise, start.mean.unsqueeze(0))
    noise = (g.square() * h.unsqueeze(1)).expand(grid.N, len(start.mean))
    found = run_chain(start, maps, noise).ends
    return found if direction == "forward" else found.reversed()


def make(
    algorithm: str, given: Any, reference: AffineSDE, n: int, seed: int, **more: Any
) -> Driver:
    m0, S0, m1, S1 = given
    options: dict[str, Any] = dict(
        reference=reference,
        steps=STEPS,
        regression=LeastSquares(),
        cache=Cache(paths=n),
        half_steps=HALF_STEPS,
        measure=0,
        fuse=False,
        seed=seed,
    )
    options |= more
    if algorithm == "dsb":
        return DSB(
            Gaussian(m0, S0), Gaussian(m1, S1), dtype=torch.float64, first="paths", **options
        )
    return DSBM(Gaussian(m0, S0), Gaussian(m1, S1), dtype=torch.float64, **options)


def exact(algorithm: str, given: Any, steps: Any = STEPS, **more: Any) -> list[Joint]:
    if algorithm == "dsb":
        return ipf_iterates(*given, half_steps=HALF_STEPS, steps=steps, **more)
    return imf_iterates(*given, iterations=HALF_STEPS, steps=steps, **more)


def kinds(d: int) -> Tensor:
    """A number for each entry of mean and covariance, the same for entries that are alike."""
    end = torch.arange(2 * d) // d
    block = end[:, None] + end
    inside = torch.arange(2 * d) % d
    return torch.cat([end, 2 + 2 * block.flatten() + (inside[:, None] == inside).flatten()])


def worst(found: list[list[Joint]], expected: list[Joint], n: int) -> list[float]:
    """Of each half-step, the largest deviation of the mean over the seeds, in standard errors."""
    out = []
    for i, joint in enumerate(expected[1:]):
        d, var = len(joint.mean0), joint.cov.diagonal()
        # In these units the entries of a kind vary by about as much.
        unit = torch.cat([var, (var[:, None] * var + joint.cov.square()).flatten()]).sqrt()
        bias = torch.cat([torch.zeros(2 * d), torch.full((4 * d * d,), (i + 1) * (d + 1) / n)])
        each = torch.stack([entries(run[i]) for run in found]) / unit
        miss = ((each.mean(0) - entries(joint) / unit).abs() - bias / unit).clamp(min=0.0)
        spread, kind = each.var(0), kinds(d)
        for which in kind.unique():
            error = float(spread[kind == which].mean() / len(found)) ** 0.5
            # The law that a half-step starts from does not vary: it is exact.
            out.append(float(miss[kind == which].max()) / max(error, 1e-9))
    return out


def entries(joint: Joint) -> Tensor:
    return torch.cat([joint.mean, joint.cov.flatten()])


def run(algorithm: str, given: Any, reference: AffineSDE, n: int, **more: Any) -> list[list[Joint]]:
    found = []
    for seed in range(4 if len(given[0]) > 2 else 8):
        bridge = make(algorithm, given, reference, n, seed, **more)
        found.append([joint_of(bridge, s.direction, given) for s in bridge.iterate()])
    return found


CASES = [(1, True), (2, True), (2, False), (20, True), (20, False)]


@pytest.mark.parametrize("algorithm", ["dsb", "dsbm"])
@pytest.mark.parametrize(("d", "isotropic"), CASES)
def test_it_follows_the_exact_iterates(algorithm: str, d: int, isotropic: bool) -> None:
    n, given, reference = 8_000, ends(d, isotropic), Brownian(1.0)
    found = run(algorithm, given, reference, n)
    errors = worst(found, exact(algorithm, given, sigma=1.0), n)
    assert max(errors) < LIMIT, errors
    # The test can tell: the iterates of continuous time do not pass.
    joints = exact(algorithm, given, None, sigma=1.0)
    assert max(worst(found, joints, n)) > 2 * LIMIT


@pytest.mark.parametrize("algorithm", ["dsb", "dsbm"])
@pytest.mark.parametrize("name", ["ou", "vp"])
def test_other_references_and_steps(algorithm: str, name: str) -> None:
    # VP has a diffusion that changes in time: both conventions for its steps are those of the
    # closed forms.
    reference = OU(1.0, 0.3, 0.8, T=1.2) if name == "ou" else VP(beta_min=0.1, beta_max=3.0)
    n, given = 8_000, ends(2, False)
    grid = time_grid(STEPS, float(reference.T), gammas="ramp", ratio=4.0)
    found = run(algorithm, given, reference, n, gammas="ramp", ratio=4.0)
    errors = worst(found, exact(algorithm, given, grid.times, reference=reference), n)
    assert max(errors) < LIMIT, errors


@pytest.mark.parametrize("algorithm", ["dsb", "dsbm"])
def test_without_pairs_as_published(algorithm: str) -> None:
    n, given = 8_000, ends(2, False)
    found = run(algorithm, given, Brownian(1.0), n, antithetic=False)
    errors = worst(found, exact(algorithm, given, sigma=1.0), n)
    assert max(errors) < LIMIT, errors


def test_the_start_of_the_reference() -> None:
    n, given = 8_000, ends(2, False)
    found = run("dsbm", given, Brownian(1.0), n, start="reference")
    errors = worst(found, exact("dsbm", given, sigma=1.0, start="reference"), n)
    assert max(errors) < LIMIT, errors


def test_score_matching_tends_to_the_reversal() -> None:
    # Score matching fits the reversal of continuous time at the grid's times: as the steps become
    # shorter, its chain tends to the continuous first iterate, by halves.
    given, errors = ends(2, False), []
    continuous = ipf_iterates(*given, sigma=1.0, half_steps=1)[1]
    for steps in (10, 40):
        bridge = make("dsb", given, Brownian(1.0), 30_000, 0, steps=steps, half_steps=1)
        assert isinstance(bridge, DSB)
        bridge.first = "score"
        bridge.fit()
        found = joint_of(bridge, "backward", given)
        errors.append(float((found.cov - continuous.cov).abs().max()))
    assert errors[1] < 0.4 * errors[0] < 0.4


@pytest.mark.parametrize("algorithm", ["dsb", "dsbm"])
def test_what_is_sampled_is_the_fitted_chain(algorithm: str) -> None:
    given, n = ends(2, False), 20_000
    bridge = make(algorithm, given, Brownian(1.0), 4_000, 5, half_steps=2)
    for state in bridge.iterate():
        exactly = joint_of(bridge, state.direction, given)
        paths = bridge.sample(n, direction=state.direction, paths=True, seed=9)
        both = [paths[0], paths[-1]] if state.direction == "forward" else [paths[-1], paths[0]]
        assert in_errors(torch.cat(both, 1), exactly.mean, exactly.cov) < 4.5
        last = bridge.sample(n, direction=state.direction, seed=9)
        assert torch.equal(last, paths[-1])
        some = bridge.sample(paths[0, 100:200], direction=state.direction, seed=9, first_sample=100)
        assert torch.allclose(some, paths[-1, 100:200], rtol=0.0, atol=1e-12)


def test_the_reference_is_the_first_forward_chain() -> None:
    bridge = make("dsb", ends(2, False), Brownian(1.0), 1_000, 0)
    assert isinstance(bridge.transport.drift("forward"), ReferenceDrift)
    with pytest.raises(RuntimeError, match="no backward drift"):
        bridge.sample(10, direction="backward")
