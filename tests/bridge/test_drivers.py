"""The drivers with networks, their measures, their relatives, and what they refuse."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import sdekit_kernels
import torch
from torch import Tensor

import sdekit as sk
from sdekit.bridge import (
    DSB,
    DSBM,
    Adam,
    AffineDrift,
    BridgeWarning,
    Cache,
    DriftMLP,
    LeastSquares,
    bridge_matching,
    flow_matching,
    ot_cfm,
    sf2m,
    time_grid,
)
from sdekit.bridge.closed_form import gaussian_bridge, imf_iterates, ipf_iterates
from sdekit.bridge.couplings import Coupled, optimal_assignment
from sdekit.bridge.driver import Driver
from sdekit.bridge.ends import two_ends
from sdekit.bridge.measures import wasserstein2
from sdekit.bridge.monitor import reversibility, warn_if_worse
from sdekit.bridge.state import EndError, Estimate, Measures
from sdekit.bridge.transport import Transport
from sdekit.sde import OU, Brownian
from tests.bridge.gaussians import draws, laws


def normals(n: int, d: int, seed: int) -> Tensor:
    return sdekit_kernels.normal((n, d), seed=seed, stream=9)


SMALL: dict[str, Any] = dict(
    steps=8, cache=Cache(paths=512), half_steps=2, measure=0, fuse=False, seed=1
)


def learner(steps: int = 250) -> Adam:
    return Adam(steps=steps, batch=256, lr=5e-3, ema=0.98)


def net(direction: str = "forward", drifts: int = 1) -> DriftMLP:
    return DriftMLP((1,), width=24, depth=2, seed=len(direction), drifts=drifts)


@pytest.mark.parametrize("algorithm", ["dsb", "dsb drift", "dsbm", "dsbm one net"])
def test_networks_learn(algorithm: str) -> None:
    # N(0, 1) to N(1, 0.25), beside the exact iterates: means and stds within 0.12 of theirs, which
    # differ from the reference's by 0.5 and more.
    x, y = normals(2_000, 1, 1), 1.0 + 0.5 * normals(2_000, 1, 2)
    options = SMALL | dict(regression=learner())
    given = (0.0, 1.0, 1.0, 0.25, 1.0)
    bridge: Driver
    if algorithm.startswith("dsbm"):
        exact = imf_iterates(*given, iterations=2, steps=8)
        nets = dict(nets=net(drifts=2)) if "one" in algorithm else dict(make_net=net)
        bridge = DSBM(x, y, **nets, **options)
    else:
        exact = ipf_iterates(*given, half_steps=2, steps=8)
        matching = "drift" if "drift" in algorithm else "mean"
        bridge = DSB(x, y, make_net=net, matching=matching, first="paths", **options)
    states = bridge.iterate()
    assert next(states).direction == "backward"
    back = bridge.sample(y, direction="backward")
    assert float(back.mean()) == pytest.approx(float(exact[1].mean0), abs=0.12)
    assert float(back.std()) == pytest.approx(float(exact[1].cov00) ** 0.5, abs=0.12)
    assert next(states).direction == "forward"
    there = bridge.sample(x)
    assert float(there.mean()) == pytest.approx(float(exact[2].mean1), abs=0.12)
    assert float(there.std()) == pytest.approx(float(exact[2].cov11) ** 0.5, abs=0.12)


def test_trajectories_that_are_not_stored() -> None:
    x, y = normals(200, 1, 1), normals(200, 1, 2)
    for stored in (True, False):
        options = SMALL | dict(regression=learner(6), cache=Cache(paths=256, stored=stored))
        states = DSB(x, y, make_net=net, first="paths", **options).fit()
        assert all(0.0 < s.loss < 10.0 for s in states)


def test_the_same_seed_gives_the_same_bits() -> None:
    x, y = normals(200, 1, 1), normals(200, 1, 2)
    options = SMALL | dict(regression=learner(20), half_steps=3)

    def sampled(bridge: Driver) -> Tensor:
        return torch.cat([bridge.sample(x), bridge.sample(x, direction="backward")])

    whole = DSB(x, y, make_net=net, **options)
    whole.fit()
    steps = DSB(x, y, make_net=net, **options)
    for state, expected in zip(steps.iterate(), whole.states, strict=True):
        # What is looked at in between changes nothing.
        steps.sample(5, direction=state.direction, seed=77)
        assert state.losses == expected.losses
    assert torch.equal(sampled(steps), sampled(whole))
    other = DSB(x, y, make_net=net, **(options | dict(seed=2)))
    other.fit()
    assert not torch.equal(sampled(other), sampled(whole))


def test_warm_and_fresh() -> None:
    x = normals(64, 1, 1)
    made: list[str] = []

    def make(direction: str) -> DriftMLP:
        made.append(direction)
        return net(direction)

    options = SMALL | dict(regression=learner(2), half_steps=4, cache=Cache(paths=64))
    DSB(x, x, make_net=make, **options).fit()
    assert made == ["backward", "forward"]
    made.clear()
    DSB(x, x, make_net=make, fresh=True, **options).fit()
    assert made == ["backward", "forward"] * 2


def test_callbacks_and_the_bar(capsys: pytest.CaptureFixture[str]) -> None:
    x, seen = normals(64, 1, 1), []
    options = SMALL | dict(regression=learner(3), cache=Cache(paths=64))
    states = DSBM(x, x, make_net=net, **options).fit(progress=True, callbacks=[seen.append])
    assert seen == states and len(states) == 2 and len(states[0].losses) == 3
    assert "bridge: 100%" in capsys.readouterr().err


class Law:
    """A Gaussian with a density."""

    def __init__(self, mean: Tensor, cov: Tensor) -> None:
        self.own = torch.distributions.MultivariateNormal(mean, cov)

    def log_prob(self, x: Tensor) -> Tensor:
        out: Tensor = self.own.log_prob(x)
        return out


def exact_transport(steps: int) -> tuple[Transport, tuple[Tensor, ...]]:
    """The exact bridge between two Gaussians, its drifts at the times of a grid."""
    given = laws(2)
    bridge = gaussian_bridge(*given, sigma=1.0)
    grid = time_grid(steps, 1.0)
    x, y = draws(given[0], given[1], 500, 1), draws(given[2], given[3], 500, 2)
    forward, backward = (
        bridge.forward_drift(grid.asked("forward")),
        bridge.backward_drift(grid.asked("backward")),
    )
    made = Transport(
        grid,
        Brownian(1.0),
        two_ends(x, y, (0, 1)),
        AffineDrift(forward.matrix, forward.shift, grid, "forward"),
        AffineDrift(-backward.matrix, -backward.shift, grid, "backward"),
        fuse=False,
    )
    return made, given


def test_the_flow_and_the_likelihood_of_the_exact_bridge() -> None:
    made, (m0, S0, m1, S1) = exact_transport(100)
    x = draws(m0, S0, 200, 5)
    there = made.sample(x, method="flow", rtol=1e-6, atol=1e-6)
    back = made.sample(there, method="flow", direction="backward", rtol=1e-6, atol=1e-6)
    assert float((back - x).abs().max()) < 1e-4
    # The drifts are interpolated between 100 times, and held in the first and the last step.
    y = draws(m1, S1, 8, 6)
    found = made.log_likelihood(y, prior=Law(m0, S0), rtol=1e-4, atol=1e-4).log_prob
    assert float((found - Law(m1, S1).log_prob(y)).abs().max()) < 0.05
    found = made.log_likelihood(x[:8], prior=Law(m1, S1), at="source", rtol=1e-4, atol=1e-4)
    assert float((found.log_prob - Law(m0, S0).log_prob(x[:8])).abs().max()) < 0.05
    with pytest.raises(TypeError, match="give prior="):
        made.flow()
    assert isinstance(made.flow(Law(m0, S0)), sk.Flow)


def test_the_residual_of_reversibility_in_closed_form() -> None:
    # One step between N(0, s) and N(0, u), x + v x and x + w x, noise q: with R = (log F - log B),
    # E_f R = (E_f (x0 - (1 + w) x1)^2 - q) / 2 q, and likewise back.
    s, u, v, w, q, n = 0.8, 1.7, -0.3, -0.45, 1.0, 40_000
    grid = time_grid(1, 1.0)
    x = s**0.5 * normals(n, 1, 1).double()
    y = u**0.5 * normals(n, 1, 2).double()

    def drift(value: float, direction: Any) -> AffineDrift:
        one = torch.full((1, 1, 1), value, dtype=torch.float64)
        return AffineDrift(one, torch.zeros(1, 1, dtype=torch.float64), grid, direction)

    made = Transport(
        grid,
        Brownian(1.0),
        two_ends(x, y, (0, 1)),
        drift(v, "forward"),
        drift(w, "backward"),
        fuse=False,
    )
    forth = made.sample(x, paths=True, seed=1)
    back = made.sample(y, paths=True, seed=2, direction="backward").flip(0)
    found = reversibility(made, forth, back)
    a, b = 1.0 + v, 1.0 + w
    of_forth = (s - 2 * b * a * s + b * b * (a * a * s + q) - q) / (2 * q)
    of_back = (u - 2 * a * b * u + a * a * (b * b * u + q) - q) / (2 * q)
    assert abs(found.value - of_forth - of_back) < 4 * found.std_error
    assert found.std_error < 0.02


def test_the_residual_of_the_exact_bridge_falls_with_the_steps() -> None:
    values = []
    for steps in (10, 40):
        made, (m0, S0, m1, S1) = exact_transport(steps)
        forth = made.sample(draws(m0, S0, 20_000, 3), paths=True)
        back = made.sample(draws(m1, S1, 20_000, 4), paths=True, direction="backward")
        values.append(reversibility(made, forth, back.flip(0)))
    assert abs(values[1].value) < 0.1
    assert values[0].std_error < 0.05


def test_measures_fall_as_it_converges() -> None:
    m0, S0, m1, S1 = laws(2)
    x, y = draws(m0, S0, 4_000, 1), draws(m1, S1, 4_000, 2)
    options = SMALL | dict(
        regression=LeastSquares(), cache=Cache(paths=4_000), half_steps=6, measure=300, steps=20
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", BridgeWarning)
        states = DSB(x, y, **options).fit()
    first, last = states[1].measures, states[-1].measures
    assert states[0].measures.target is None and states[0].measures.source is not None
    assert first.target is not None and last.target is not None
    assert last.target.sliced < 0.75 * first.target.sliced
    changes = [s.measures.change for s in states[1:]]
    assert all(c is not None for c in changes[1:])
    assert changes[-1].value < 0.1 * changes[1].value  # type: ignore[union-attr]
    residuals = [s.measures.reversibility for s in states]
    assert residuals[-1].value < 0.3 * residuals[0].value  # type: ignore[union-attr]
    assert set(states[0].seconds) == {"simulation", "regression", "measures"}


def test_a_worse_iteration_warns() -> None:
    def at(sliced: float) -> Measures:
        return Measures(target=EndError(sliced, 0.05, Estimate(0.0, 0.1)))

    with pytest.warns(BridgeWarning, match=r"half-step 4 .* at the target went from 0.2 to 0.3"):
        warn_if_worse(4, "forward", at(0.2), at(0.3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_worse(4, "forward", at(0.2), at(0.22))
        warn_if_worse(4, "forward", at(0.01), at(0.06))  # within the floor
        warn_if_worse(3, "backward", Measures(), at(0.3))  # nothing to compare it with
    with pytest.warns(BridgeWarning, match=r"half-step 3 .* at the target"):
        # One network for both drifts: what fits the way back may spoil the way there.
        warn_if_worse(3, "backward", at(0.2), at(0.3))


@pytest.mark.parametrize(
    ("reference", "way"), [(sk.VE(), "forward"), (Brownian(3.0), "forward"), (sk.VP(), "forward")]
)
def test_a_last_step_louder_than_its_end_is_told(reference: Any, way: str) -> None:
    x, y = normals(500, 2, 1), 0.1 * normals(500, 2, 2)
    with pytest.warns(
        BridgeWarning, match=rf"last step {way} adds noise of std .* own std is 0.09"
    ):
        DSB(x, y, reference=reference, steps=20)


def test_steps_that_are_short_enough_are_not() -> None:
    x, y = normals(500, 2, 1), 0.5 * normals(500, 2, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        DSB(x, y, steps=20)
        DSBM(x, 0.1 * y, gammas="ramp", ratio=50.0, steps=30)
        flow_matching(x, 0.001 * y)
    with pytest.raises(TypeError, match="no noise to turn round: leave antithetic away"):
        flow_matching(x, y, antithetic=True)


def test_an_affine_drift_of_many_components_at_times_of_their_own() -> None:
    grid, d = time_grid(5, 1.0), 9
    matrices = sdekit_kernels.normal((5, d, d), seed=1, dtype=torch.float64)
    drift = AffineDrift(matrices, matrices[:, 0], grid, "forward")
    t = torch.tensor([0.0, 0.33, 0.2, 0.33, 0.95], dtype=torch.float64)
    x = sdekit_kernels.normal((5, d), seed=2, dtype=torch.float64)
    each = torch.cat([drift(s, row[None]) for s, row in zip(t, x, strict=True)])
    assert torch.allclose(drift(t, x), each, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("make", [bridge_matching, sf2m, flow_matching, ot_cfm])
def test_relatives(make: Any) -> None:
    m0, S0, m1, S1 = laws(2)
    x, y = draws(m0, S0, 600, 1), draws(m1, S1, 600, 2)
    options = dict(steps=20, regression=LeastSquares(), cache=Cache(paths=600), fuse=False)
    bridge = make(x, y, **(options | (dict(measure=0) if make in (bridge_matching, sf2m) else {})))
    bridge.fit()
    there, back = bridge.sample(x), bridge.sample(y, direction="backward")
    # 600 draws of one law are 0.2 apart in W_2; source and target are 3.3.
    floor = wasserstein2(draws(m1, S1, 600, 3), y)
    assert wasserstein2(there, y) < 2.5 * floor
    assert wasserstein2(back, x) < 2.5 * floor
    if make in (flow_matching, ot_cfm):
        with pytest.raises(RuntimeError, match="flow has no noise"):
            bridge.sample(x, method="sde")


def test_couplings() -> None:
    x, y = normals(256, 2, 1), normals(256, 2, 2) * 2.0
    ends = two_ends(x, y, (0, 1))
    costs = {}
    for how in ("independent", "ot", "entropic"):
        x0, x1 = Coupled(how, ends, Brownian(0.3), 1, 1, 256).batch(0, 256)
        costs[how] = float((x0 - x1).square().sum(1).mean())
    assert costs["ot"] == pytest.approx(wasserstein2(x, y) ** 2, rel=1e-6)
    # The entropic plan costs more, by 2 D sigma^2 at the most; draws from it vary by some 0.05.
    assert costs["ot"] < costs["entropic"] < costs["ot"] + 4 * 0.09 + 0.15 < costs["independent"]
    x0, x1 = Coupled("reference", ends, OU(1.0, 0.5, 0.8), 1, 1, 256).batch(0, 256)
    expected = OU(1.0, 0.5, 0.8).transition(0.0, 1.0, x0)
    z = (x1 - expected.mean) / expected.std
    assert abs(float(z.mean())) < 4 / 512**0.5 and abs(float(z.std()) - 1.0) < 4 / 1024**0.5
    assert optimal_assignment(x, x.flip(0)).tolist() == list(range(255, -1, -1))


def test_nothing_is_drawn_twice() -> None:
    x, y = normals(100, 1, 1), normals(100, 1, 2)
    ends = two_ends(x, y, (0, 1))
    pairs = Coupled("reference", ends, Brownian(1.0), 1, 1, 100)
    increments = torch.cat([b - a for a, b in (pairs.batch(s, 50) for s in range(4))])
    assert len(increments.unique()) == 200


@pytest.mark.parametrize("algorithm", [DSB, DSBM])
def test_bad_input(algorithm: Any) -> None:
    x, y = torch.zeros(8, 2), torch.ones(8, 2)
    with pytest.raises(ValueError, match=r"shape \(2,\), target of \(3,\)"):
        algorithm(x, torch.zeros(8, 3))
    with pytest.raises(ValueError, match="write target"):
        algorithm(x, y.double())
    with pytest.raises(TypeError, match="write source"):
        algorithm(x.long(), y)
    with pytest.raises(TypeError, match="a law with sample"):
        algorithm([0.0], y)
    with pytest.raises(ValueError, match="NaN or infinite"):
        algorithm(x, y / 0.0)
    with pytest.raises(ValueError, match="no noise in component 1"):
        algorithm(x, y, reference=Brownian(torch.tensor([1.0, 0.0])))
    with pytest.raises(TypeError, match="AffineSDE"):
        algorithm(x, y, reference=sk.GBM())
    with pytest.raises(ValueError, match="steps"):
        algorithm(x, y, steps=0)
    with pytest.raises(ValueError, match="gamma must be"):
        algorithm(x, y, gammas=torch.tensor([0.5, -0.5, 1.0]))
    with pytest.raises(ValueError, match="half_steps"):
        algorithm(x, y, half_steps=0)
    with pytest.raises(TypeError, match="regression"):
        algorithm(x, y, regression="adam")
    with pytest.raises(TypeError, match="one and the same network"):
        algorithm(x, y, nets=[net()] * 2)
    with pytest.raises(ValueError, match="unknown matching"):
        algorithm(x, y, matching="means")
    bridge = algorithm(x, y, regression=LeastSquares(), cache=Cache(memory=10), measure=0)
    with pytest.raises(ValueError, match=r"takes \d+ bytes, 10 are free on cpu: 0 paths fit"):
        bridge.advance()


def test_bad_input_of_one() -> None:
    x = torch.zeros(8, 1)
    with pytest.raises(TypeError, match="needs two networks"):
        DSB(x, x, nets=net())
    with pytest.raises(ValueError, match='matching="drift"'):
        DSBM(x, x, nets=net(drifts=2), matching="mean")
    with pytest.raises(ValueError, match="first"):
        DSB(x, x, first="scores")
    with pytest.raises(ValueError, match="start"):
        DSBM(x, x, start="refrence")
    with pytest.raises(TypeError, match="fits no network"):
        DSBM(x, x, nets=net(drifts=2), regression=LeastSquares(), measure=0).advance()
    with pytest.raises(ValueError, match="grid"):
        DSBM(x, x, times="uniform", regression=LeastSquares())
    bridge = DSB(x, x)
    with pytest.raises(ValueError, match="direction"):
        bridge.sample(x, direction="foward")
    with pytest.raises(ValueError, match="x has shape"):
        bridge.sample(torch.zeros(8, 2))
    with pytest.raises(RuntimeError, match="fit"):
        bridge.sample(x, method="flow")


class Diverges(torch.nn.Module):
    """Infinite where x is large."""

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return 1e30 * x


def test_a_path_that_diverges_is_named() -> None:
    x = torch.ones(8, 1)
    made = Transport(
        time_grid(5, 1.0), Brownian(1.0), two_ends(x, x, (0, 1)), Diverges(), fuse=False
    )
    with pytest.raises(ArithmeticError, match="forward paths left the finite numbers"):
        made.sample(x)
