"""A bridge's folder: going on from it; what is refused, kept and said when things go wrong."""

from __future__ import annotations

import functools
import inspect
import json
import os
import resource
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sdekit as sk
from sdekit.bridge import (
    Adam,
    BridgeState,
    Cache,
    DriftMLP,
    LeastSquares,
    bridge_matching,
    flow_matching,
    load,
    save,
)
from sdekit.bridge.keeper import Keeper
from sdekit.sde import OU, VP, AffineSDE, Brownian
from sdekit.train import CheckpointError, load_checkpoint
from sdekit.train import train as train_score
from sdekit.train.learner import READ_EVERY, Learner
from tests.bridge.folders import X, Y, begun, make, net, samples


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three waits a checkpoint, on a busy disk, are most of these tests' time."""
    monkeypatch.setattr("sdekit.files.os.fsync", lambda _: None)


@functools.cache
def whole(algorithm: str) -> tuple[Tensor, list[BridgeState]]:
    """What a fit without a folder comes to."""
    bridge = make(algorithm)
    states = bridge.fit()
    return samples(bridge), states


def same(states: list[BridgeState], expected: list[BridgeState]) -> bool:
    """Everything but the clock."""
    return [replace(s, seconds={}) for s in states] == [replace(s, seconds={}) for s in expected]


def state(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "state.json").read_text())


@pytest.mark.parametrize("algorithm", ["dsb", "dsbm", "one net", "both", "fresh"])
def test_a_crash_leaves_no_trace_in_the_bits(tmp_path: Path, algorithm: str) -> None:
    # In half-step 1, 2 and 3, before and after the cache is refilled.
    for at in (7, 33, 59):
        folder = tmp_path / str(at)
        begun(folder, algorithm, at)
        found = state(folder)
        assert found["half_step"] == at // 20 and found["inside"]["step"] == at % 20 // 5 * 5
        bridge, callbacks = make(algorithm), []
        states = bridge.fit(folder=folder, callbacks=[callbacks.append])
        want, expected = whole(algorithm)
        assert torch.equal(samples(bridge), want) and same(states, expected)
        assert [s.half_step for s in callbacks] == [1, 2, 3][at // 20 :]
        assert all(sum(s.seconds.values()) > 0.0 for s in states)
        assert sorted(p.name.split("-")[0] for p in folder.iterdir()) == ["state", "state.json"]


def test_the_same_object_goes_on_after_a_crash(tmp_path: Path) -> None:
    bridge = begun(tmp_path, "one net")
    assert same(bridge.fit(folder=tmp_path), whole("one net")[1])
    assert torch.equal(samples(bridge), whole("one net")[0])


def test_least_squares_go_on_after_each_half_step(tmp_path: Path) -> None:
    first = make("least squares", half_steps=2).iterate(folder=tmp_path)
    next(first)
    first.close()
    bridge = make("least squares")
    assert same(bridge.fit(folder=tmp_path), whole("least squares")[1])
    assert torch.equal(samples(bridge), whole("least squares")[0])


def test_half_steps_may_grow_and_a_finished_fit_does_nothing(tmp_path: Path) -> None:
    make("dsb", half_steps=2).fit(folder=tmp_path)
    before = sorted((p.name, p.stat().st_mtime_ns) for p in tmp_path.iterdir())
    again, called = make("dsb", half_steps=2), []
    assert len(again.fit(folder=tmp_path, callbacks=[called.append])) == 2 and not called
    assert sorted((p.name, p.stat().st_mtime_ns) for p in tmp_path.iterdir()) == before
    bridge = make("dsb")
    seen = [s.half_step for s in bridge.iterate(folder=tmp_path)]
    assert seen == [3] and torch.equal(samples(bridge), whole("dsb")[0])


def test_a_bridge_that_was_fitted_before_goes_into_a_folder(tmp_path: Path) -> None:
    bridge = make("dsbm")
    bridge.advance()
    bridge.fit(folder=tmp_path)
    assert torch.equal(samples(bridge), whole("dsbm")[0])
    with pytest.raises(CheckpointError, match=r"has done 3 half-steps, .* holds 1"):
        make("dsbm", half_steps=1).fit(folder=tmp_path / "other")
        bridge.fit(folder=tmp_path / "other")


def test_networks_with_weights_of_their_own_and_their_buffers_come_back(tmp_path: Path) -> None:
    class Own(nn.Module):
        """Another first weight each time it is made, as torch's own layers have."""

        made = 0

        def __init__(self) -> None:
            super().__init__()
            self.inner = net(seed=Own.made)
            Own.made += 1
            self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

        def forward(self, t: Tensor, x: Tensor) -> Tensor:
            self.calls += 1
            return self.inner(t, x)

    def nets() -> tuple[nn.Module, nn.Module]:
        return Own(), Own()

    Own.made = 0
    one = make("dsb", nets=nets())
    one.fit()
    Own.made = 0
    begun(tmp_path, nets=nets())
    two = make("dsb", nets=nets())
    two.fit(folder=tmp_path)
    assert torch.equal(samples(one), samples(two)) and int(two.networks.of("forward", 9).calls) > 0
    with pytest.raises(TypeError, match=r"Own is none that sdekit can build .*give nets="):
        load(tmp_path)
    assert torch.equal(samples(load(tmp_path, nets=nets(), fuse=False)), samples(two))


def test_a_cache_as_large_as_memory_allowed_keeps_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = [6 * 2 * 4 * 50]
    monkeypatch.setattr("sdekit.bridge.cache._available", lambda device: free[0])
    cache = {"cache": Cache(paths=None, memory=1 << 40), "first": "paths", "half_steps": 1}
    one = make("dsb", **cache)
    one.fit()
    begun(tmp_path, at=12, **cache)
    assert state(tmp_path)["inside"]["paths"] == 50
    free[0] *= 3
    two = make("dsb", **cache)
    two.fit(folder=tmp_path)
    assert torch.equal(samples(one), samples(two))


REFUSED: list[tuple[str, str, dict[str, Any]]] = [
    ("algorithm", "dsbm", {}),
    ("algorithm", "dsb", {"first": "paths"}),
    ("algorithm", "dsb", {"matching": "drift"}),
    ("algorithm", "dsb", {"start": "gaussian"}),
    ("algorithm", "dsb", {"antithetic": False}),
    ("algorithm", "fresh", {}),
    ("shape", "dsb", {"ends": (X[:, :1], Y[:, :1]), "make_net": None}),
    ("dtype", "dsb", {"ends": (X.double(), Y.double()), "make_net": None}),
    ("grid", "dsb", {"steps": 6}),
    ("grid", "dsb", {"gammas": "linear"}),
    ("reference", "dsb", {"reference": Brownian(1.5)}),
    ("reference", "dsb", {"reference": OU(1.0)}),
    ("source", "dsb", {"ends": (X + 1e-6, Y)}),
    ("target", "dsb", {"ends": (X, Y.flip(0))}),
    ("cache", "dsb", {"cache": Cache(paths=65, refresh=11)}),
    ("regression", "dsb", {"regression": Adam(steps=21, batch=16)}),
    ("regression", "dsb", {"regression": LeastSquares()}),
    ("seed", "dsb", {"seed": 2}),
]


@pytest.mark.parametrize(
    ("what", "algorithm", "options"), REFUSED, ids=[f"{w}-{i}" for i, (w, *_) in enumerate(REFUSED)]
)
def test_another_bridge_is_refused(
    tmp_path: Path, what: str, algorithm: str, options: dict[str, Any]
) -> None:
    next(make("dsb").iterate(folder=tmp_path))
    before = sorted((p.name, p.stat().st_mtime_ns) for p in tmp_path.iterdir())
    with pytest.raises(CheckpointError, match=f"holds a bridge with another {what}: .* asked"):
        make(algorithm, **options).fit(folder=tmp_path)
    assert sorted((p.name, p.stat().st_mtime_ns) for p in tmp_path.iterdir()) == before


def test_another_network_is_refused_and_what_may_differ_is_not(tmp_path: Path) -> None:
    begun(tmp_path)
    for nets in ({"make_net": functools.partial(net, width=9)}, {"make_net": None}):
        with pytest.raises(CheckpointError, match=r"its network \(backward\) is .*'width'"):
            make("dsb", **nets).fit(folder=tmp_path)
    more = {"regression": Adam(steps=20, batch=16, lr=1e-4, clip=0.5), "measure": 0}
    assert len(make("dsb", **more).fit(folder=tmp_path)) == 3
    begun(tmp_path / "one", "one net")
    with pytest.raises(CheckpointError, match="one network for both drifts there, two networks"):
        make("dsbm").fit(folder=tmp_path / "one")
    # A score model's folder is no bridge's, and the other way round.
    with pytest.raises(CheckpointError, match=r"of kind 'sdekit.bridge'.*'sdekit.training'"):
        score = sk.score.MLP((2,), 4, 1, sde=VP())
        train_score(score, score.sde, X, None, steps=1, batch=8, folder=tmp_path)


def test_what_is_damaged_is_named(tmp_path: Path) -> None:
    begun(tmp_path)
    path, tensors = tmp_path / "state.json", next(tmp_path.glob("state-*.safetensors"))
    text, data = path.read_text(), tensors.read_bytes()
    for size in (0, len(data) // 2, len(data) - 1):
        tensors.write_bytes(data[:size])
        for opened in (lambda: make("dsb").fit(folder=tmp_path), lambda: load(tmp_path)):
            with pytest.raises(CheckpointError, match="cut short: its hash differs; remove"):
                opened()
    tensors.write_bytes(data)
    known = json.loads(text)
    for key in ("settings", "states", "networks", "drifts", "inside", "regression", "loss"):
        path.write_text(json.dumps({k: v for k, v in known.items() if k != key}))
        with pytest.raises(CheckpointError, match=r"state.json does not hold together: "):
            make("dsb").fit(folder=tmp_path)
    path.write_text(text[:50])
    with pytest.raises(CheckpointError, match="it is no JSON"):
        make("dsb").fit(folder=tmp_path)
    path.write_text(text)
    bridge = make("dsb")
    bridge.fit(folder=tmp_path)
    assert torch.equal(samples(bridge), whole("dsb")[0])


@pytest.mark.parametrize("room", [0, 3000])
def test_a_full_disk_keeps_the_last_checkpoint(tmp_path: Path, room: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    bridge, steps = make("dsb"), 0

    def fill(done: int, way: float, loss: float) -> None:
        nonlocal steps
        steps += 1
        if steps == 33:
            # Files end at ``room`` bytes: the system refuses to write more, half way through.
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))

    try:
        with bridge._kept(tmp_path, None, 5) as keeper:
            bridge._advance(keeper, fill)
            with pytest.raises(OSError, match="half-step 2, step 10 stays: make room") as caught:
                bridge._advance(keeper, fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(caught.value.filename).startswith(str(tmp_path))
    assert sorted(p.name.split("-")[0] for p in tmp_path.iterdir()) == ["state", "state.json"]
    assert same(bridge.fit(folder=tmp_path), whole("dsb")[1])


def test_no_room_after_a_half_step_is_no_step_forward(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bridge = make("dsb")
    finish = Keeper.finish

    def full(self: Keeper) -> None:
        if len(self.states) == 2:
            raise OSError(28, "No space left on device")
        finish(self)

    monkeypatch.setattr(Keeper, "finish", full)
    with pytest.raises(OSError, match="No space"):
        bridge.fit(folder=tmp_path)
    assert bridge.half_step == state(tmp_path)["half_step"] == 1
    monkeypatch.undo()
    assert same(bridge.fit(folder=tmp_path), whole("dsb")[1])


@pytest.fixture
def listening() -> Iterator[None]:
    """Ctrl-C does what it does in a terminal; a shell's background jobs ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("listening")
@pytest.mark.parametrize("algorithm", ["dsbm", "least squares"])
def test_ctrl_c_saves_and_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, algorithm: str
) -> None:
    before, drawn = signal.getsignal(signal.SIGINT), 0
    bridge = make(algorithm)
    simulate = type(bridge.transport).simulate

    def press(self: Any, *args: Any, **options: Any) -> Tensor:
        nonlocal drawn
        drawn += 1
        # In the refilling of half-step 2; where nothing is refilled, in its filling.
        if drawn == (3 if algorithm == "dsbm" else 4):
            os.kill(os.getpid(), signal.SIGINT)
        return simulate(self, *args, **options)

    monkeypatch.setattr(type(bridge.transport), "simulate", press)
    with pytest.raises(KeyboardInterrupt, match=r"stopped by Ctrl-C, half-step .*same command"):
        bridge.fit(folder=tmp_path)
    assert signal.getsignal(signal.SIGINT) is before
    monkeypatch.undo()
    found = state(tmp_path)
    assert (found["inside"] is None) == (algorithm == "least squares")
    bridge = make(algorithm)
    assert same(bridge.fit(folder=tmp_path), whole(algorithm)[1])


def spoilt(at: int) -> Any:
    """A learner's step whose loss is NaN at the at-th one of a fit."""
    step, count = Learner.step, 0

    def spoil(self: Learner, each: Tensor, rate: float) -> Any:
        nonlocal count
        count += 1
        return step(self, each * (torch.nan if count == at else 1.0), rate)

    return spoil


@pytest.mark.parametrize("every", [1, 7])
def test_a_divergence_is_named_and_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    monkeypatch.setitem(READ_EVERY, "cpu", every)
    monkeypatch.setattr(Learner, "step", spoilt(34))
    told = (
        r"half-step 2 \(forward drift, lr=0.001\): the loss is nan at step 13: .*"
        r"\(the checkpoint of half-step 2, step 10 stays in "
    )
    with pytest.raises(ArithmeticError, match=told):
        make("dsb").fit(folder=tmp_path, save_steps=5)
    monkeypatch.undo()
    found = state(tmp_path)
    assert found["loss"]["status"] == "diverged" and found["inside"]["step"] == 10
    for _ in range(2):
        with pytest.raises(ArithmeticError, match=r"diverged with lr=0.001: half-step 2.*step 10"):
            make("dsb").fit(folder=tmp_path)
    assert state(tmp_path) == found
    gentler = make("dsb", regression=Adam(steps=20, batch=16, lr=5e-4))
    assert len(gentler.fit(folder=tmp_path)) == 3 and state(tmp_path)["loss"]["status"] == "finite"


def test_losses_that_are_read_seldom_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(READ_EVERY, "cpu", 7)
    begun(tmp_path)
    bridge, told = make("dsb"), []
    bridge.fit(folder=tmp_path)
    assert torch.equal(samples(bridge), whole("dsb")[0])
    make("dsb").advance(lambda done, way, loss: told.append((done, way, loss)))
    assert [t[0] for t in told] == list(range(1, 21)) and told[-1][1] == 1.0
    assert tuple(t[2] for t in told) == whole("dsb")[1][0].losses


def test_a_simulation_that_diverges_is_named(tmp_path: Path) -> None:
    bridge = make("dsbm", half_steps=2)
    bridge.advance()
    with torch.no_grad():
        for p in bridge.networks.of("backward", 2).parameters():
            p.fill_(1e30)
    told = r"half-step 2 \(forward drift, lr=0.001\): 64 of 64 backward paths left the finite"
    with pytest.raises(ArithmeticError, match=told):
        bridge.fit(folder=tmp_path)
    assert state(tmp_path)["half_step"] == 1 and state(tmp_path)["loss"]["status"] == "diverged"
    with pytest.raises(ArithmeticError, match="64 of 64"):
        make("dsbm", half_steps=2).fit(folder=tmp_path)


def test_a_folder_serves_one_fit_at_a_time(tmp_path: Path) -> None:
    going = make("dsb").iterate(folder=tmp_path)
    next(going)
    with pytest.raises(BlockingIOError, match="another process"):
        make("dsb").fit(folder=tmp_path)
    going.close()
    assert len(make("dsb").fit(folder=tmp_path)) == 3


def test_the_bar_goes_on_where_it_stood(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make("dsb", half_steps=2).fit(folder=tmp_path)
    make("dsb").fit(folder=tmp_path, progress=True)
    shown = capsys.readouterr().err
    assert "half-step 3 of 3, step 20" in shown and "100%" in shown and "  0%" not in shown


# -- a file of a bridge ----------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["dsb", "one net", "least squares"])
def test_a_bridge_comes_back_from_a_file_and_from_a_folder(tmp_path: Path, algorithm: str) -> None:
    bridge = begun(tmp_path / "run", algorithm) if algorithm != "least squares" else make(algorithm)
    bridge.fit(folder=tmp_path / "run")
    save(bridge, tmp_path / "bridge.safetensors")
    for path in (tmp_path / "bridge.safetensors", tmp_path / "run"):
        got = load(path, fuse=False)
        assert torch.equal(samples(got), samples(bridge))
        flow = bridge.sample(X[:5], method="flow")
        assert torch.equal(got.sample(X[:5], method="flow"), flow)
        law = torch.distributions.Independent(torch.distributions.Normal(torch.zeros(2), 1.0), 1)
        expected = bridge.log_likelihood(Y[:3], prior=law).log_prob
        assert torch.equal(got.log_likelihood(Y[:3], prior=law).log_prob, expected)
        with pytest.raises(RuntimeError, match=r"without its source: give states x \(B, 2\), or"):
            got.sample(4)
        drawn = load(path, source=X, target=Y, fuse=False).sample(4, direction="backward")
        assert torch.equal(drawn, bridge.sample(4, direction="backward"))
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["bridge.safetensors"]


def test_a_half_done_bridge_and_its_relatives_come_back(tmp_path: Path) -> None:
    begun(tmp_path / "run", at=13)
    assert load(tmp_path / "run").backward is None
    begun(tmp_path / "later")
    one = make("dsb", half_steps=1)
    one.fit()
    # In the middle of half-step 2: the bridge of half-step 1.
    assert torch.equal(samples(load(tmp_path / "later", fuse=False)), samples(one))
    options: dict[str, Any] = {"steps": 4, "regression": Adam(steps=3, batch=8), "cache": Cache(16)}
    ou = OU(torch.tensor([0.5, 1.0]), 0.3, torch.tensor([1.0, 2.0]), T=2.0)
    for make_one, more in ((flow_matching, {}), (bridge_matching, {"reference": ou, "measure": 0})):
        bridge = make_one(X, Y, **options, **more)
        bridge.fit()
        save(bridge, tmp_path / "one")
        got = load(tmp_path / "one")
        assert torch.equal(got.sample(X), bridge.sample(X))


def test_a_reference_of_the_users_own_is_given_again(tmp_path: Path) -> None:
    class Own(AffineSDE):
        """Brownian motion whose noise grows."""

        T, t_min, t_min_likelihood = 1.0, 1e-3, 1e-5

        def drift_rate(self, t: Any) -> Tensor:
            return torch.zeros_like(torch.as_tensor(t, dtype=torch.float64))

        def diffusion_rate(self, t: Any) -> Tensor:
            return 1.0 + torch.as_tensor(t, dtype=torch.float64)

        def log_mean_ratio(self, s: Any, t: Any) -> Tensor:
            return torch.zeros_like(torch.as_tensor(t, dtype=torch.float64))

        def transition_variance(self, s: Any, t: Any) -> Tensor:
            s, t = (torch.as_tensor(v, dtype=torch.float64) for v in (s, t))
            return ((1.0 + t) ** 3 - (1.0 + s) ** 3) / 3.0

    bridge = make("dsb", reference=Own(), half_steps=2)
    bridge.fit()
    save(bridge, tmp_path / "one")
    with pytest.raises(TypeError, match="reference Own is none that sdekit can build: give ref"):
        load(tmp_path / "one")
    with pytest.raises(CheckpointError, match="with another reference"):
        load(tmp_path / "one", reference=Brownian(1.0))
    assert torch.equal(
        samples(load(tmp_path / "one", reference=Own(), fuse=False)), samples(bridge)
    )


def test_what_is_no_bridge_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none")
    with pytest.raises(CheckpointError, match="no bridge was saved in"):
        load(tmp_path)
    bridge = make("dsb", half_steps=1)
    bridge.fit()
    save(bridge, tmp_path / "one")
    data = (tmp_path / "one").read_bytes()
    for size in (0, 20, len(data) // 2, len(data) - 1):
        (tmp_path / "cut").write_bytes(data[:size])
        with pytest.raises(CheckpointError, match=str(tmp_path / "cut")):
            load(tmp_path / "cut")
    with pytest.raises(CheckpointError, match=r"its network \(backward\) is .*'width': 8"):
        load(tmp_path / "one", nets=(net(), net(width=9)))
    with pytest.raises(CheckpointError, match=r"kind 'sdekit.bridge'.*reads 'sdekit.score'"):
        load_checkpoint(tmp_path / "one")
    bridge.transport.forward = lambda t, x: x
    with pytest.raises(TypeError, match="forward drift is function, which no half-step"):
        save(bridge, tmp_path / "two")


def test_every_argument_of_the_network_is_kept() -> None:
    given = set(inspect.signature(DriftMLP).parameters) - {"seed", "dtype", "device"}
    made = DriftMLP((2, 3), 7, 2, T=2.0, scale=3.0, features=4, drifts=2)
    assert set(made.config()) == given
    again = DriftMLP(**json.loads(json.dumps(made.config())))
    assert [p.shape for p in again.parameters()] == [p.shape for p in made.parameters()]
    assert again.config() == made.config()


@pytest.mark.parametrize(
    ("name", "value"), [("warmup", 1.0), ("warmup", -0.1), ("ema", 1.0), ("clip", 0.0)]
)
def test_numbers_of_a_regression(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        Adam(**{name: value})
    with pytest.raises(ValueError, match="precision"):
        Adam(precision="half")
