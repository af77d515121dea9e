"""What a bridge refuses: every message says what was given and what to write instead."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sdekit as sk
from sdekit.bridge import (
    DSB,
    DSBM,
    Adam,
    BridgeMatching,
    Cache,
    DriftMLP,
    FlowMatching,
    LeastSquares,
)

X, Y = torch.zeros(8, 2), torch.ones(8, 2)
ALL = [DSB, DSBM, BridgeMatching, FlowMatching]
everyone = pytest.mark.parametrize("algorithm", ALL, ids=lambda kind: kind.__name__)


class Law:
    """N(0, 1) of D components."""

    def __init__(self, d: int) -> None:
        self.d = d

    def sample(self, n: int, *, seed: int, first_sample: int) -> Tensor:
        from sdekit_kernels import normal

        return normal((n, self.d), seed=seed, first_sample=first_sample)


@everyone
@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (X, torch.zeros(8, 3), r"shape \(2,\), target of \(3,\).*crop, pad or reshape"),
        (torch.zeros(8, 2, 2), X, r"shape \(2, 2\), target of \(2,\)"),
        (Law(3), X, r"shape \(3,\), target of \(2,\)"),
        (X, Y.double(), r"float32 on .* torch\.float64 on .*write target\.to\(source\)"),
        (X[:0], Y, r"source must have shape \(N, D\.\.\.\), got \(0, 2\)"),
        (X[:, 0], Y, r"got \(8,\): write source\.unsqueeze\(1\)"),
        (X, torch.zeros(8, 0), r"target must have shape .*got \(8, 0\)"),
        (X, Y / 0.0, r"target has .*NaN or infinite, in 8 of its 8"),
    ],
    ids=["components", "axes", "law", "types", "empty", "flat", "nothing", "infinite"],
)
def test_ends(algorithm: Any, source: Any, target: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        algorithm(source, target)


@everyone
def test_nan_in_the_data_is_counted(algorithm: Any) -> None:
    x = X.clone()
    x[5, 1] = x[6, 0] = math.nan
    message = r"source .*in 2 of its 8 samples, sample 5 first: write source\[source\.isfinite"
    with pytest.raises(ValueError, match=message):
        algorithm(x, Y)
    algorithm(x[x.isfinite().flatten(1).all(1)], Y)  # what the message says to write


@everyone
def test_what_is_no_data(algorithm: Any) -> None:
    for name, given in (("source", (X.long(), Y)), ("target", (X, Y.int()))):
        with pytest.raises(TypeError, match=rf"{name} is torch.int\d+: write {name}\.float\(\)"):
            algorithm(*given)
    with pytest.raises(TypeError, match=r"source must be data \(N, D...\).*got list"):
        algorithm([[0.0, 1.0]], Y)
    with pytest.raises(TypeError, match=r"target must be data .*got ndarray"):
        algorithm(X, Y.numpy())


@everyone
def test_references(algorithm: Any) -> None:
    with pytest.raises(ValueError, match=r"no noise in component 0.*give it a diffusion above"):
        algorithm(X, Y, reference=sk.Brownian(0.0))
    with pytest.raises(ValueError, match=r"no noise in component 1.*give it a diffusion above"):
        algorithm(X, Y, reference=sk.OU(1.0, 0.0, torch.tensor([1.0, 0.0])))
    with pytest.raises(TypeError, match=r"AffineSDE \(Brownian, OU.*got GBM"):
        algorithm(X, Y, reference=sk.GBM())
    with pytest.raises(TypeError, match="AffineSDE"):
        algorithm(X, Y, reference=1.0)
    with pytest.raises(ValueError, match=r"\(3,\).* have 2 components"):
        algorithm(X, Y, reference=sk.Brownian(torch.ones(3)))
    with pytest.raises(ValueError, match="sigma"):
        algorithm(X, Y, reference=sk.Brownian(-1.0))


@everyone
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"steps": 0}, ValueError, r"steps must be in \[1, .*got 0"),
        ({"steps": -3}, ValueError, r"steps .*got -3"),
        ({"steps": 2.5}, TypeError, r"steps must be an integer, got 2.5"),
        ({"steps": True}, TypeError, r"steps must be an integer, got True"),
        ({"gammas": torch.tensor([0.5, -0.5, 1.0])}, ValueError, r"above zero, gammas\[1\] = -0.5"),
        ({"gammas": torch.tensor([0.5, 0.5, math.nan])}, ValueError, r"gammas\[2\] = nan"),
        ({"gammas": torch.tensor([0.0, 1.0])}, ValueError, r"gammas\[0\] = 0.0"),
        ({"gammas": torch.tensor([])}, ValueError, r"N of 1 or more, got \(0,\)"),
        ({"gammas": torch.ones(2, 2)}, ValueError, r"gammas must be \(N,\).*got \(2, 2\)"),
        ({"gammas": torch.ones(3)}, ValueError, r"sum to 3.*T = 1.*T=3"),
        ({"gammas": torch.ones(2) / 2, "steps": 3}, ValueError, r"2 gammas for steps=3"),
        ({"gammas": "cosine"}, ValueError, r"unknown gammas 'cosine': known are 'constant'"),
        ({"gammas": "ramp", "ratio": -2.0}, ValueError, r"ratio must be .*got -2"),
        ({"seed": -1}, ValueError, r"seed"),
        ({"regression": "adam"}, TypeError, r"Adam\(\.\.\.\) or LeastSquares\(\), got 'adam'"),
        ({"fresh": True, "nets": ()}, TypeError, r"give nets, or make_net"),
        ({"nets": (nn.Linear(2, 2),)}, TypeError, r"\(forward, backward\), two torch modules"),
        ({"nets": (1, 2)}, TypeError, r"\(forward, backward\), two torch modules"),
        ({"matching": "means"}, ValueError, r"unknown matching 'means'.*Did you mean 'mean'"),
    ],
    ids=lambda given: next(iter(given)) if isinstance(given, dict) else "",
)
def test_numbers_and_names(
    algorithm: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        algorithm(X, Y, **options)


@pytest.mark.parametrize("algorithm", [DSB, DSBM, BridgeMatching], ids=lambda kind: kind.__name__)
def test_too_few_paths_to_measure(algorithm: Any) -> None:
    with pytest.raises(ValueError, match=r"measure=3 paths are too few: 4 or more, or 0"):
        algorithm(X, Y, measure=3)


@pytest.mark.parametrize("algorithm", [DSB, DSBM], ids=lambda kind: kind.__name__)
def test_half_steps(algorithm: Any) -> None:
    for given in (0, -1, 1 << 13):
        with pytest.raises(ValueError, match=rf"half_steps must be in \[1, 8192\), got {given}"):
            algorithm(X, Y, half_steps=given)


@pytest.mark.parametrize(("algorithm", "states"), [(DSB, 21), (DSBM, 2)], ids=["DSB", "DSBM"])
def test_a_cache_larger_than_memory(algorithm: Any, states: int) -> None:
    each = states * 2 * 4
    bridge = algorithm(X, Y, cache=Cache(paths=1000, memory=100 * each + 3), measure=0)
    message = (
        rf"1000 paths of {states} states of shape \(2,\) in torch.float32 takes {1000 * each} bytes"
        rf", {100 * each + 3} are free on cpu: 100 paths fit; write paths=100, more memory=, or "
        r"stored=False"
    )
    # Before anything is trained, though the first half-step simulates no path.
    with pytest.raises(ValueError, match=message):
        bridge.advance()
    assert bridge.half_step == 0
    # More than the machine itself has: 2^40 paths.
    bridge = algorithm(X, Y, cache=Cache(paths=1 << 40), measure=0)
    with pytest.raises(ValueError, match=rf"takes {(1 << 40) * each} bytes, \d+ are free on cpu"):
        bridge.advance()
    for fits in (Cache(paths=100, memory=100 * each), Cache(paths=None, memory=100 * each)):
        bridge = algorithm(
            X, Y, cache=fits, measure=0, half_steps=2, regression=LeastSquares(ridge=1e-3)
        )
        assert len(bridge.fit()) == 2


def test_numbers_of_a_cache() -> None:
    with pytest.raises(ValueError, match=r"how large\? write paths=..., memory=... \(bytes\)"):
        Cache(paths=None)
    for name in ("paths", "memory", "refresh"):
        with pytest.raises(ValueError, match=rf"{name} must be in \[1, .*got 0"):
            Cache(**{name: 0})
        with pytest.raises(TypeError, match=rf"{name} must be an integer, got 1.5"):
            Cache(**{name: 1.5})


class Wrong(nn.Module):
    """Gives ``shape`` for each row, whatever it is asked."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(shape))

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return self.weight.expand(len(x), *self.weight.shape)


@pytest.mark.parametrize("given", ["nets", "make_net"])
@pytest.mark.parametrize("shape", [(1,), (), (2, 2), (2, 1)], ids=str)
def test_networks_of_another_shape(given: str, shape: tuple[int, ...]) -> None:
    # (B, 1) would be stretched to (B, 2) by the loss, and nonsense fitted.
    def make(direction: str) -> nn.Module:
        return Wrong(2) if direction == "forward" else Wrong(*shape)

    nets: dict[str, Any] = {
        "nets": {"nets": (make("forward"), make("backward"))},
        "make_net": {"make_net": make},
    }[given]
    message = (
        r"the backward network.* gives .*at states \(3, 2\) and times .*: a network of one drift "
        r"must give \(3, 2\)"
    )
    with pytest.raises(ValueError, match=message):
        DSB(X, Y, measure=0, **nets).advance()


def test_a_network_of_both_drifts_that_gives_one() -> None:
    with pytest.raises(ValueError, match=r"of both drifts must give \(3, 2, 2\)"):
        DSBM(X, Y, nets=DriftMLP((2,), 8, 1))
    with pytest.raises(TypeError, match=r"needs two networks: nets=\(forward, backward\)"):
        DSB(X, Y, nets=DriftMLP((2,), 8, 1, drifts=2))
    with pytest.raises(ValueError, match=r"events of shape \(3,\), x has \(3, 2\)"):
        DSBM(X, Y, nets=DriftMLP((3,), 8, 1, drifts=2))


def test_networks_of_another_kind() -> None:
    double = [DriftMLP((2,), 8, 1, dtype=torch.float64) for _ in range(2)]
    message = (
        r"the forward network has weights in torch.float64 on cpu, the ends are torch.float32 on "
        r"cpu, .*write net.to\('cpu', torch.float32\)"
    )
    with pytest.raises(TypeError, match=message):
        DSB(X, Y, nets=double)
    DSB(X.double(), Y.double(), nets=double)
    with pytest.raises(TypeError, match=r"backward network of make_net must be a torch.nn.Module"):
        DSB(X, Y, measure=0, make_net=lambda _: torch.sin).advance()
    with pytest.raises(ValueError, match="has no parameters"):
        DSB(X, Y, nets=[nn.Identity(), nn.Flatten()])
    with pytest.raises(TypeError, match="not both"):
        DSB(X, Y, nets=double, make_net=lambda _: Wrong(2))


def test_numbers_of_a_regression() -> None:
    for name in ("steps", "batch"):
        with pytest.raises(ValueError, match=rf"{name} must be in \[1, .*got 0"):
            Adam(**{name: 0})
    with pytest.raises(ValueError, match=r"lr must be finite and above zero, got -0\.001"):
        Adam(lr=-1e-3)
    with pytest.raises(ValueError, match="ridge"):
        LeastSquares(ridge=-1.0)
    with pytest.raises(TypeError, match="fits no network: leave nets away, or write Adam"):
        nets = DriftMLP((2,), 8, 1, drifts=2)
        DSBM(X, Y, nets=nets, regression=LeastSquares(), measure=0)
    with pytest.raises(TypeError, match="fits no network: leave nets away, or write Adam"):
        DSB(X, Y, make_net=lambda _: nets, regression=LeastSquares(), measure=0)


def test_first_steps_are_those_of_new_networks() -> None:
    given = Adam(steps=10, first_steps=30)
    assert [given.of(n, False).steps for n in (1, 2, 3)] == [30, 30, 10]
    assert [given.of(n, True).steps for n in (1, 2, 3)] == [30, 10, 10]
    assert [given.of(n, False, fresh=True).steps for n in (1, 2, 3)] == [30, 30, 30]


def test_two_caches_share_the_memory() -> None:
    # 2 ends of 2 float32 numbers take 16 bytes a path.
    for sweep, paths in (("turns", 64), ("both", 32)):
        net = DriftMLP((2,), 8, 1, drifts=2)
        options = {"nets": net, "sweep": sweep, "cache": Cache(None, memory=1024), "measure": 0}
        bridge = DSBM(X, Y, steps=4, half_steps=2, regression=Adam(steps=2, batch=8), **options)
        bridge.fit()
        assert bridge._sizes == {2: paths}


def test_what_is_asked_of_a_bridge() -> None:
    bridge = DSBM(X, Y, steps=4, measure=0)
    with pytest.raises(RuntimeError, match=r"no forward drift: fit\(\) makes it"):
        bridge.sample(X)
    with pytest.raises(ValueError, match=r"x has shape \(8, 3\), this bridge is between events"):
        bridge.sample(torch.zeros(8, 3))
    with pytest.raises(TypeError, match=r"floating-point tensor, got torch.int64: write x.float"):
        bridge.sample(X.long())
    with pytest.raises(ValueError, match="the number of samples"):
        bridge.sample(-1)
    with pytest.raises(ValueError, match=r"unknown direction 'backwards'.*Did you mean 'backward'"):
        bridge.sample(X, direction="backwards")
    with pytest.raises(ValueError, match="unknown method 'ode'"):
        bridge.sample(X, method="ode")
    with pytest.raises(TypeError, match="give prior="):
        bridge.log_likelihood(X)
