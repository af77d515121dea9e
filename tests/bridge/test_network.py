"""The small network for drifts: what it can be exactly, and how it begins."""

from __future__ import annotations

import math
from typing import Any

import pytest
import sdekit_kernels
import torch

from sdekit.bridge import DSBM, Adam, DriftMLP, NetworkDrift, ot_cfm, time_grid


@pytest.mark.parametrize("drifts", [1, 2])
@pytest.mark.parametrize("affine", [True, False])
def test_it_begins_at_zero_and_has_its_shape(drifts: int, affine: bool) -> None:
    net = DriftMLP((3, 2), width=8, depth=2, drifts=drifts, affine=affine, T=2.0, scale=3.0)
    x, t = torch.ones(5, 3, 2), torch.linspace(0.0, 2.0, 5)
    shape = (5, 3, 2) if drifts == 1 else (5, 2, 3, 2)
    for time in (t, t[1]):
        out = net(time, x)
        assert out.shape == shape and not bool(out.any())


def test_its_affine_path_is_an_affine_drift() -> None:
    # a(t) = 0.5 t / T for each component, W, c(t) = -t / T + 1: exact, with F still zero.
    net = DriftMLP((3,), width=8, depth=1, T=2.0, scale=4.0)
    W = sdekit_kernels.normal((3, 3), seed=1)
    assert net.matrix is not None and net.scales is not None
    with torch.no_grad():
        net.matrix.weight.copy_(4.0 * W)
        # slopes first, then shifts; the first feature is t / T.
        net.scales.weight[:3, 0] = 4.0 * 0.5
        net.scales.weight[3:, 0] = -1.0
        net.scales.bias[3:] = 1.0
    x, t = sdekit_kernels.normal((6, 3), seed=2), torch.linspace(0.0, 2.0, 6)
    way = (t / 2.0).unsqueeze(1)
    assert torch.allclose(net(t, x), x @ W.mT + 0.5 * way * x + 1.0 - way, atol=1e-6)


def test_two_drifts_have_slopes_and_shifts_of_their_own() -> None:
    net = DriftMLP((2,), width=4, depth=1, drifts=2)
    assert net.scales is not None
    with torch.no_grad():
        # slopes of the first drift (2), of the second (2), then shifts likewise.
        net.scales.bias.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0, 0.1, 0.2, 0.3, 0.4]))
    out = net(torch.tensor(0.5), torch.ones(1, 2))
    expected = torch.tensor([[[1.1, 2.2], [3.3, 4.4]]])
    assert torch.allclose(out, expected)


@pytest.mark.parametrize("affine", [True, False])
def test_its_config_makes_it_again(affine: bool) -> None:
    net = DriftMLP((2,), 6, 2, T=3.0, scale=2.0, features=3, drifts=2, affine=affine, seed=5)
    again = DriftMLP(**net.config())
    assert again.config() == net.config()
    again.load_state_dict(net.state_dict())
    with torch.no_grad():
        for weight in (*net.parameters(), *again.parameters()):
            weight.fill_(0.1)
    x = torch.ones(4, 2)
    assert torch.equal(again(torch.tensor(0.3), x), net(torch.tensor(0.3), x))


def filled(**more: Any) -> DriftMLP:
    """A network none of whose paths is zero."""
    net = DriftMLP((2,), width=8, depth=2, T=2.0, scale=3.0, **more)
    with torch.no_grad():
        for i, p in enumerate(net.parameters()):
            p.copy_(0.5 * sdekit_kernels.normal((1, p.numel()), seed=i).view_as(p))
    return net


def limits(net: DriftMLP) -> list[list[float]]:
    """The range in units of x."""
    return [(net.scale * net.get_buffer(name)).tolist() for name in ("low", "high")]


def test_it_sees_all_until_a_regression_shows_it_something() -> None:
    net = filled(affine=False).eval()
    x, t = 50.0 * sdekit_kernels.normal((8, 2), seed=1), torch.tensor(0.5)
    far = net(t, x)
    assert not torch.allclose(far, net(t, 2.0 * x))
    net.see(torch.tensor([[-3.0, 1.5], [6.0, 0.0]]))
    assert limits(net) == [[-3.0, 0.0], [6.0, 1.5]]
    net.see(torch.tensor([[0.0, 9.0]]))
    assert limits(net) == [[-3.0, 0.0], [6.0, 9.0]]
    net.forget_range()
    assert torch.equal(net(t, x), far)
    # Of one row: both limits are there. What is not finite is nowhere.
    net.see(torch.tensor([[1.5, -3.0], [torch.nan, torch.inf]]))
    assert limits(net) == [[1.5, -3.0]] * 2
    # A network in training has none.
    assert torch.equal(net.train()(t, x), far)


@pytest.mark.parametrize("affine", [True, False])
def test_beyond_what_it_has_seen_only_the_affine_path_goes_on(affine: bool) -> None:
    free, net, t = filled(affine=affine).eval(), filled(affine=affine).eval(), torch.tensor(0.5)
    seen = 2.0 * sdekit_kernels.normal((64, 2), seed=1)
    net.see(seen)
    # Within, to the bit: a regression fits the network without limits.
    assert torch.equal(net(t, seen), free(t, seen))
    least, most = seen.aminmax(dim=0)
    way = torch.tensor([[1.0, 0.0], [-0.4, 1.0]])
    border = torch.where(way > 0, most, torch.where(way < 0, least, 0.0))
    steps = [net(t, border + k * way) - net(t, border) for k in (1.0, 10.0, 1_000.0)]
    for k, step in zip((10.0, 1_000.0), steps[1:], strict=True):
        expected = k * steps[0] if affine else torch.zeros(2, 2)
        assert torch.allclose(step, expected, rtol=1e-4, atol=1e-5)
    assert bool(steps[0].any()) is affine
    # Without limits the layers go on, too.
    beyond = free(t, border + 1_000.0 * way) - free(t, border)
    assert not torch.allclose(beyond, steps[2], rtol=0.1)


def test_its_range_travels_with_its_weights_and_its_type() -> None:
    net, again = filled(), filled()
    net.see(sdekit_kernels.normal((16, 2), seed=3))
    assert {"low", "high"} <= net.state_dict().keys()
    again.load_state_dict(net.state_dict())
    assert limits(again) == limits(net)
    assert limits(again.double()) == limits(net.double())
    # Weights from before there was a range.
    older = {k: v for k, v in net.state_dict().items() if k not in ("low", "high")}
    again.load_state_dict(older)
    assert limits(again) == [[-math.inf] * 2, [math.inf] * 2]


def test_a_regression_shows_the_network_what_it_fits_and_nothing_of_those_before() -> None:
    x = sdekit_kernels.normal((64, 2), seed=1)
    bridge = DSBM(x, x + 4.0, steps=4, measure=0, half_steps=2, regression=Adam(steps=5, batch=8))
    shown: list[list[torch.Tensor]] = []
    problem = bridge.problem

    def watched(half_step: int) -> Any:
        made = problem(half_step)
        batch, seen = made.batch, list[torch.Tensor]()
        shown.append(seen)

        def kept(*args: Any, **options: Any) -> Any:
            examples = batch(*args, **options)
            seen.append(examples.x.clone())
            return examples

        made.batch = kept
        return made

    bridge.problem = watched  # type: ignore[method-assign]
    for states in bridge.iterate():
        net = bridge.networks.known[states.direction]
        assert isinstance(net, DriftMLP)
        least, most = torch.cat(shown[-1]).aminmax(dim=0)
        assert limits(net) == [least.tolist(), most.tolist()]
        # The next regression of this network begins anew.
        net.see(torch.full((1, 2), 1e3))
    bridge.half_steps = 4
    for states in bridge.iterate():
        (low, high) = limits(bridge.networks.known[states.direction])  # type: ignore[arg-type]
        assert max(high) < 100.0 and min(low) > -100.0


class Around(torch.nn.Module):
    """A network that is a part of another."""

    def __init__(self, net: DriftMLP) -> None:
        super().__init__()
        self.net = net

    def forward(self, t: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.net(t, 0.5 * x)
        return out


def test_a_part_of_another_network_has_no_limits_and_keeps_none() -> None:
    x = sdekit_kernels.normal((64, 2), seed=1)
    nets = [Around(DriftMLP((2,), width=4, depth=1)) for _ in range(2)]
    nets[0].net.see(x)
    DSBM(x, x, steps=4, nets=nets, measure=0, half_steps=2, regression=Adam(steps=2, batch=8)).fit()
    assert all(limits(each.net) == [[-math.inf] * 2, [math.inf] * 2] for each in nets)


def test_a_regression_that_ends_early_leaves_no_range() -> None:
    x = sdekit_kernels.normal((64, 2), seed=1)
    bridge = DSBM(x, x, steps=4, measure=0, half_steps=3, regression=Adam(steps=4, batch=8))
    way = bridge.advance().direction
    net = bridge.networks.known[way]
    assert isinstance(net, DriftMLP) and max(limits(net)[1]) < 10.0
    bridge.advance()

    def stop(step: int, way: float, loss: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bridge.advance(stop)
    assert limits(net) == [[-math.inf] * 2, [math.inf] * 2]


def test_noisy_drifts_are_given_in_units_of_the_root_of_the_time_left() -> None:
    net = DriftMLP((1,), width=4, depth=1, T=2.0, drifts=2, noisy=True)
    t = torch.tensor([0.0, 1.5, 2.0])
    forward, backward = net.drift_unit(t, "forward"), net.drift_unit(t, "backward")
    least = 1e-3**0.5
    assert forward.tolist() == pytest.approx([1.0, 0.5, least])
    assert backward.tolist() == pytest.approx([least, 0.75**0.5, 1.0])
    assert DriftMLP((1,)).drift_unit(t, "forward").tolist() == [1.0] * 3
    # What the network gives is divided by it.
    assert net.scales is not None
    with torch.no_grad():
        net.scales.bias[2:] = 3.0
    grid = time_grid(4, 2.0)
    drift = NetworkDrift(net, grid, "forward", row=0)
    assert float(drift(t[1], torch.zeros(1, 1)).detach()) == pytest.approx(6.0)


def test_the_networks_that_a_fit_makes_are_noisy_and_those_of_a_flow_not() -> None:
    x = sdekit_kernels.normal((64, 2), seed=1)
    options: dict[str, Any] = dict(steps=4, regression=Adam(steps=1, batch=8))
    bridge, flow = DSBM(x, x, measure=0, half_steps=1, **options), ot_cfm(x, x, **options)
    for driver, noisy in ((bridge, True), (flow, False)):
        driver.fit()
        (net,) = driver.networks.known.values()
        assert isinstance(net, DriftMLP) and net.noisy is noisy
