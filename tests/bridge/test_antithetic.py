r"""Examples by pairs: they are the published ones on average, with less noise.

Of the chain u ~ N(0, s), u' = u + \sqrt{\gamma} z the reversal at u' is v = -u' / (s + \gamma),
fitted to (u - u') / \gamma = -z / \sqrt{\gamma}. With e = v - target the gradients by shift and
slope of v are e and e u'. Per example their variances are, with s' = s + \gamma,

    alone        s / (\gamma s')      s / \gamma
    by pairs     2 s / s'^2           8 (s / s')^2      (twice the variance of a pair's mean)

so that pairs save the factors s' / (2 \gamma) and s'^2 / (8 \gamma s).
"""

from __future__ import annotations

from typing import Any

import pytest
import sdekit_kernels
import torch
from torch import Tensor

from sdekit.bridge import Cache, time_grid
from sdekit.bridge.antithetic import Pairing
from sdekit.bridge.cache import Trajectories
from sdekit.bridge.drifts import ReferenceDrift
from sdekit.bridge.ends import two_ends
from sdekit.bridge.interpolation import Interpolation
from sdekit.bridge.matching_problems import BridgeProblem
from sdekit.bridge.points import Points, Starts
from sdekit.bridge.problems import Examples, PathProblem, Problem, ScoreProblem
from sdekit.sde import OU, Brownian

N = 10
OTHERS = OU(1.2, 0.4, 0.9)


def normals(n: int, d: int, seed: int) -> Tensor:
    return sdekit_kernels.normal((n, d), seed=seed, stream=9, dtype=torch.float64)


class Pairs(Points):
    """Two fixed ends a step."""

    def batch(self, step: int, size: int) -> tuple[Tensor, ...]:
        return normals(size, 3, 2 * step + 1), 2.0 + normals(size, 3, 2 * step + 2)


def paths_problem(paths: int, *, s: float = 1.0, reference: Any = OTHERS, **more: Any) -> Problem:
    """Reverse the reference's Euler chain from N(0, s)."""
    grid = time_grid(N, float(reference.T))
    lengths = grid.lengths("forward")

    def make(first: int, count: int) -> Tensor:
        x = s**0.5 * normals(first + count, 3, 5)[first:]
        states = [x]
        for k, (t, dt) in enumerate(zip(grid.times[:-1], lengths, strict=True)):
            z = normals(first + count, 3, 6 + k)[first:]
            g = reference.diffusion(t, x)
            x = x + dt * reference.drift(t, x) + g * dt**0.5 * z
            states.append(x)
        return torch.stack(states)

    like = torch.empty(0, 3, dtype=torch.float64)
    cache = Trajectories(Cache(paths=paths), make, N + 1, like, seed=3, half_step=1)
    return PathProblem(cache, grid, ReferenceDrift(reference), "backward", **more)


def score_problem(**more: Any) -> Problem:
    data = normals(40, 3, 1)
    points = Starts(two_ends(data, data, (0, 1))[0], 4, 1, 40)
    return ScoreProblem(points, time_grid(N, float(OTHERS.T)), OTHERS, **more)


def bridge_problem(**more: Any) -> Problem:
    grid = time_grid(N, float(OTHERS.T))
    return BridgeProblem(Pairs(4, 1, 40), grid, OTHERS, ("forward",), **more)


MAKERS: dict[str, Any] = {
    "paths": lambda **more: paths_problem(64, **more),
    "score": score_problem,
    "bridge": bridge_problem,
    "both": lambda **more: BridgeProblem(
        Pairs(4, 1, 40), time_grid(N, 1.0), Brownian(1.0), ("forward", "backward"), **more
    ),
    "uniform": lambda **more: bridge_problem(uniform=True, **more),
}


@pytest.mark.parametrize("kind", list(MAKERS))
def test_the_first_of_each_pair_is_the_published_example(kind: str) -> None:
    alone: Examples = MAKERS[kind](antithetic=False).batch(3, 20)
    pairs: Examples = MAKERS[kind]().batch(3, 40)
    for published, found in zip(alone, pairs, strict=True):
        if published is not None:
            assert torch.allclose(found[::2], published, rtol=1e-12, atol=1e-12)
    assert torch.equal(pairs.t[1::2], pairs.t[::2])
    # Of an odd number the last one is alone.
    odd: Examples = MAKERS[kind]().batch(3, 39)
    for whole, part in zip(pairs, odd, strict=True):
        if whole is not None:
            assert torch.equal(part, whole[:39])


@pytest.mark.parametrize("kind", ["score", "bridge"])
def test_a_pair_lies_round_its_mean_and_its_targets_too(kind: str) -> None:
    # Targets are affine in z: the mean of a pair's is the target at the mean of its states.
    e: Examples = MAKERS[kind]().batch(0, 40)
    t, x, y = e.t[::2], e.x.view(20, 2, 3).mean(1), e.target.view(20, 2, 3).mean(1)
    if kind == "score":
        means = torch.stack([OTHERS.marginal(t, v.expand(20, 3)).mean for v in normals(40, 3, 1)])
        assert float((means - x).abs().amax(2).min(0).values.max()) < 1e-12
        expected = -OTHERS.drift(t, x)
    else:
        between = Interpolation(OTHERS, t, normals(20, 3, 1), 2.0 + normals(20, 3, 2))
        assert torch.allclose(x, between.point(torch.zeros_like(x)), rtol=0.0, atol=1e-12)
        expected = between.drift("forward", x)
    assert torch.allclose(y, expected, rtol=0.0, atol=1e-10)


def test_a_step_and_its_opposite() -> None:
    problem: Any = paths_problem(64)
    e, paths = problem.batch(0, 40), problem.cache.all()
    grid = time_grid(N, float(OTHERS.T))
    for k in range(N):
        t, gamma = grid.times[k], grid.lengths("forward")[k]
        means = paths[k] + gamma * OTHERS.drift(t, paths[k])
        rows = (e.t[::2] - grid.times[k + 1]).abs() < 1e-9
        middle = e.x.view(20, 2, 3).mean(1)[rows]
        assert len(middle) == 2
        assert float((middle[:, None] - means).abs().amax(2).min(1).values.max()) < 1e-12


@pytest.mark.parametrize("size", [40, 39])
@pytest.mark.parametrize("parts", [2, 3, 7])
def test_each_process_has_its_own_rows(size: int, parts: int) -> None:
    whole = paths_problem(64).batch(2, size)
    for rank in range(parts):
        rows = slice(rank * size // parts, (rank + 1) * size // parts)
        part = paths_problem(64).batch(2, size, rows)
        assert len(part.x) == len(part.target) == len(part.t) == size
        for one, other in zip(whole[:3], part[:3], strict=True):
            assert torch.allclose(one[rows], other[rows], rtol=1e-13, atol=1e-13)


def test_rows_of_draws() -> None:
    pairing = Pairing(True)
    assert pairing.draws(7) == 4 and Pairing(False).draws(7) == 7
    examples = torch.arange(14)
    for start in range(8):
        for stop in range(start, 8):
            own, wanted = pairing.of(slice(start, stop), 7)
            assert torch.equal(examples.view(7, 2)[own].flatten()[wanted], examples[start:stop])


@pytest.mark.parametrize("s", [1.0, 0.5])
def test_what_pairs_save(s: float) -> None:
    n, gamma = 60_000, 1.0 / N
    after = s + gamma
    variances = {}
    for antithetic in (False, True):
        problem = paths_problem(n, s=s, reference=Brownian(1.0), antithetic=antithetic)
        # The first step of the chain is the last one of its reversal.
        e = problem.at(N - 1)
        left = -e.x / after - e.target
        for name, gradient in (("shift", left), ("slope", left * e.x)):
            each = gradient.view(n, 2, 3).mean(1) if antithetic else gradient
            # Neither has any bias.
            error = float((each.var() / each.numel()) ** 0.5)
            assert abs(float(each.mean())) < 4.5 * error
            factor = 2.0 if antithetic else 1.0
            centred = each - each.mean()
            spread = factor * float((centred.square().var() / each.numel()) ** 0.5)
            variances[name, antithetic] = factor * float(each.var()), spread
    expected = {
        ("shift", False): s / (gamma * after),
        ("slope", False): s / gamma,
        ("shift", True): 2.0 * s / after**2,
        ("slope", True): 8.0 * (s / after) ** 2,
    }
    for key, (value, error) in variances.items():
        assert value == pytest.approx(expected[key], abs=4.5 * error), key
