"""A training's folder: going on from it; what is refused, kept and said when things go wrong."""

from __future__ import annotations

import copy
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sdekit.likelihood import DataTransform
from sdekit.score import MLP
from sdekit.sde import OU, VE, VP
from sdekit.train import (
    CheckpointError,
    Levels,
    TimeSampler,
    TrainReport,
    denoising_score_matching,
    load_checkpoint,
    train,
)
from sdekit.train.budget import Budget
from sdekit.train.describe import describe
from sdekit.train.learner import READ_EVERY, Learner

DATA = torch.arange(40).view(10, 4) % 5


def make(seed: int = 1, width: int = 16, sde: Any = None) -> MLP:
    return MLP((4,), width, 1, sde=sde or VP(), seed=seed)


def fit(
    folder: Path | None = None, net: Any = None, data: Tensor = DATA, **options: Any
) -> tuple[Tensor, TrainReport]:
    net = make() if net is None else net
    given = {"batch": 8, "save_steps": 5, "steps": 20, "transform": DataTransform(5), **options}
    report = train(net, getattr(net, "sde", VP()), data, folder=folder, **given)
    return torch.cat([p.detach().flatten() for p in net.parameters()]), report


class Crash(Exception):
    pass


def crash(at: int, done: int, way: float, loss: float) -> None:
    if done == at:
        raise Crash


def begun(folder: Path, at: int = 12, **options: Any) -> None:
    """A training that crashed after the checkpoint of step 10."""
    with pytest.raises(Crash):
        fit(folder, on_step=partial(crash, at), **options)


def state(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "state.json").read_text())


@pytest.mark.parametrize("options", [{}, {"precision": "bfloat16", "clip": 0.1}, {"loss": "ssm"}])
def test_a_crash_leaves_no_trace_in_the_bits(tmp_path: Path, options: dict[str, Any]) -> None:
    begun(tmp_path, **options)
    assert state(tmp_path)["step"] == 10
    got, report = fit(tmp_path, **options)
    want, whole = fit(**options)
    assert torch.equal(got, want)
    assert (report.steps, report.resumed_from, report.reproducible) == (20, 10, True)
    assert report.loss == whole.loss and whole.resumed_from is None


def test_a_finished_training_is_not_done_again(tmp_path: Path) -> None:
    want, _ = fit(tmp_path)
    got, report = fit(tmp_path, on_step=partial(crash, 1))
    assert torch.equal(got, want) and report.resumed_from == report.steps == 20


def test_the_model_so_far_is_the_averaged_one(tmp_path: Path) -> None:
    begun(tmp_path, info={"data": "numbers"})
    half = load_checkpoint(tmp_path)
    assert half.info == {"data": "numbers", "steps": 10, "reproducible": True}
    from safetensors.torch import load_file

    tensors = load_file(next(tmp_path.glob("state-*.safetensors")))
    for name, p in half.net.named_parameters():
        assert torch.equal(p, tensors[f"ema/{name}"])
    assert not torch.equal(tensors["net/inlet.weight"], tensors["ema/inlet.weight"])
    want, _ = fit(tmp_path)
    end = load_checkpoint(tmp_path).net
    assert torch.equal(torch.cat([p.flatten() for p in end.parameters()]), want)


def test_longer_and_gentler_is_the_same_training(tmp_path: Path) -> None:
    begun(tmp_path)
    _, report = fit(tmp_path, steps=25, lr=1e-4, clip=0.5)
    assert report.steps == 25 and report.resumed_from == 10


@pytest.mark.parametrize(
    ("what", "options"),
    [
        ("network", {"net": make(width=8)}),
        ("network", {"net": make(seed=2)}),
        ("sde", {"net": make(sde=VE())}),
        ("transform", {"transform": DataTransform(6)}),
        ("data", {"data": (DATA + 1) % 5}),
        ("loss", {"loss": partial(denoising_score_matching, weighting="likelihood")}),
        ("loss", {"loss": partial(denoising_score_matching, times=Levels(torch.tensor([0.1])))}),
        ("loss", {"loss": partial(denoising_score_matching, times=TimeSampler(VP(), t_min=0.1))}),
        ("loss", {"loss": "edm"}),
        ("batch", {"batch": 4}),
        ("ema", {"ema": 0.9}),
        ("precision", {"precision": "bfloat16"}),
        ("seed", {"seed": 3}),
    ],
)
def test_another_training_is_refused(tmp_path: Path, what: str, options: dict[str, Any]) -> None:
    fit(tmp_path, steps=1)
    before = sorted((p.name, p.stat().st_mtime_ns) for p in tmp_path.iterdir())
    with pytest.raises(CheckpointError, match=f"holds a training with another {what}: .* asked"):
        fit(tmp_path, **options)
    assert sorted((p.name, p.stat().st_mtime_ns) for p in tmp_path.iterdir()) == before


def test_what_is_damaged_is_refused(tmp_path: Path) -> None:
    begun(tmp_path)
    path, tensors = tmp_path / "state.json", next(tmp_path.glob("state-*.safetensors"))
    text, data = path.read_text(), tensors.read_bytes()
    for size in (0, 7, len(data) // 2, len(data) - 1):
        tensors.write_bytes(data[:size])
        with pytest.raises(CheckpointError, match="cut short: its hash differs; remove"):
            fit(tmp_path)
    tensors.unlink()
    with pytest.raises(CheckpointError, match="which is missing"):
        fit(tmp_path)
    tensors.write_bytes(data)
    whole = json.loads(text)
    for broken, message in [
        (text[:100], "it is no JSON"),
        ("[]", "of kind None"),
        (json.dumps({**whole, "version": 9}), "version 9; this sdekit goes on with .* version 1"),
        (json.dumps({**whole, "format": "other"}), "kind 'other'"),
        (json.dumps({**whole, "tensors": None}), "does not say where its tensors are"),
        (json.dumps({k: v for k, v in whole.items() if k != "seconds"}), "hold together"),
    ]:
        path.write_text(broken)
        with pytest.raises(CheckpointError, match=message):
            fit(tmp_path)
    path.write_text(text)
    assert torch.equal(fit(tmp_path)[0], fit()[0])
    with pytest.raises(NotADirectoryError, match="is a file"):
        fit(path)


@pytest.mark.parametrize("room", [0, 1000, 20_000])
def test_a_full_disk_keeps_the_last_checkpoint(tmp_path: Path, room: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(done: int, way: float, loss: float) -> None:
        if done == 7:
            # Files end at ``room`` bytes: the system refuses to write more, half way through.
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))

    try:
        with pytest.raises(OSError, match="the checkpoint of step 5 stays: make room") as caught:
            fit(tmp_path, on_step=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(caught.value.filename).startswith(str(tmp_path))
    kinds = sorted(p.name.split("-")[0] for p in tmp_path.iterdir())
    assert kinds == ["model.safetensors", "state", "state.json"]
    assert state(tmp_path)["step"] == load_checkpoint(tmp_path).info["steps"] == 5
    got, report = fit(tmp_path)
    assert torch.equal(got, fit()[0]) and report.resumed_from == 5


def test_no_room_for_the_first_checkpoint_is_said_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device .no checkpoint was written yet"):
        fit(tmp_path, on_step=partial(crash, 1))
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def listening() -> Iterator[None]:
    """Ctrl-C does what it does in a terminal; a shell's background jobs ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("listening")
def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)

    def press(done: int, way: float, loss: float) -> None:
        if done == 7:
            os.kill(os.getpid(), signal.SIGINT)

    # The signal comes within the loop: the step after it is ended, too.
    with pytest.raises(KeyboardInterrupt, match=r"at step [78], saved in .*give the same command"):
        fit(tmp_path, on_step=press)
    assert signal.getsignal(signal.SIGINT) is before
    assert state(tmp_path)["step"] in (7, 8)
    assert torch.equal(fit(tmp_path)[0], fit()[0])
    # Without a folder there is nothing to save: it stops at once.
    with pytest.raises(KeyboardInterrupt):
        fit(on_step=press)


def test_losses_that_are_read_seldom_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on CUDA: told late, in turn, with the same values; the same bits, resumed or not."""
    told: list[tuple[int, float]] = []
    want, each = fit(on_step=lambda done, _, loss: told.append((done, loss)))
    reads: list[int] = []
    read = Learner.read

    def counted(self: Learner) -> None:
        reads.append(len(self._unread))
        read(self)

    monkeypatch.setitem(READ_EVERY, "cpu", 7)
    monkeypatch.setattr(Learner, "read", counted)
    late: list[tuple[int, float]] = []
    got, report = fit(on_step=lambda done, _, loss: late.append((done, loss)), save_steps=None)
    assert torch.equal(got, want) and late == told and report.loss == each.loss
    assert [n for n in reads if n] == [7, 7, 6]
    # Step 13 is told after step 17.
    begun(tmp_path, at=13, save_steps=10)
    assert state(tmp_path)["step"] == 10
    got, report = fit(tmp_path)
    assert torch.equal(got, want) and report.resumed_from == 10 and report.loss == each.loss


def test_a_divergence_that_is_read_late_is_never_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(READ_EVERY, "cpu", 7)
    net, step = make(), Learner.step

    def spoilt(self: Learner, each: Tensor, rate: float) -> Any:
        return step(self, each * (torch.nan if rate and self.average.updates == 8 else 1.0), rate)

    monkeypatch.setattr(Learner, "step", spoilt)
    with pytest.raises(ArithmeticError, match=r"the loss is nan at step 8: .*of step 5 stays"):
        fit(tmp_path, net)
    assert state(tmp_path)["step"] == 5 and state(tmp_path)["loss"]["status"] == "diverged"


class Slotted:
    """A law that hides in a slot."""

    __slots__ = ("__dict__", "_gap")

    def __init__(self, gap: Any, **more: Any) -> None:
        self._gap = gap
        vars(self).update(more)

    def loss(self, *_: Any, **__: Any) -> None:
        """None."""


def scaled(gap: float) -> Any:
    return lambda *_: gap


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Levels(torch.tensor([0.1, 0.5])), Levels(torch.tensor([0.9, 1.0]))),
        (TimeSampler(VP(), proposal="lognormal"), TimeSampler(VP(), proposal="lognormal", std=1.3)),
        (Slotted(1), Slotted(2)),
        (Slotted(1, _deep={"a": [torch.ones(2)]}), Slotted(1, _deep={"a": [torch.zeros(2)]})),
        (Slotted(torch.ones(2)), Slotted(torch.ones(2).int())),
        (Slotted(1).loss, Slotted(2).loss),
        (scaled(0.1), scaled(0.2)),
        (lambda x: x + 1, lambda x: x + 2),
        (lambda x, a=1: x, lambda x, a=2: x),
        (partial(print, 1), partial(print, 2)),
        (nn.Linear(2, 2), nn.Linear(2, 2).requires_grad_(False)),
        (torch.float32, torch.float64),
    ],
    ids=lambda v: type(v).__name__,
)
def test_what_an_object_hides_is_told(one: Any, other: Any) -> None:
    if isinstance(one, nn.Module):
        with torch.no_grad():
            other.weight.copy_(one.weight + 1e-3)
    first, second = json.dumps(describe(one)), json.dumps(describe(other))
    assert first != second and json.dumps(describe(one)) == first
    assert " at 0x" not in first
    # As an option of a loss, too, and in a copy of the object.
    assert describe(partial(print, times=one)) != describe(partial(print, times=other))
    if not isinstance(one, torch.dtype | type(lambda: 0)):
        assert json.dumps(describe(copy.deepcopy(one))) == first


def test_what_is_told_of_an_object_is_the_same_in_every_process() -> None:
    code = """
import json
from functools import partial
from sdekit.sde import VP
from sdekit.train import TimeSampler, denoising_score_matching
from sdekit.train.describe import describe

f = lambda x: x in {'a', 'b', 'c', 'd'} or (lambda y: y)
law = TimeSampler(VP(), proposal="log_snr")
print(json.dumps(describe([f, {"u", "v"}, partial(denoising_score_matching, times=law)])))
"""
    path = os.pathsep.join(p for p in sys.path if p)
    runs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(runs) == 1 and "denoising_score_matching" in runs.pop()


def test_an_object_in_a_circle_comes_to_an_end() -> None:
    one, other = Slotted(1), Slotted(1)
    one.self, other.self = one, {"me": other}
    assert describe(one) != describe(other)


def test_an_exploding_loss_leaves_its_status_and_the_last_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(ArithmeticError, match=r"at step \d+: .*the checkpoint of step \d+ stays"):
        fit(tmp_path, lr=1e4, save_steps=1, steps=50)
    found = state(tmp_path)
    assert found["loss"]["status"] == "diverged" and found["loss"]["lr"] == 1e4
    assert "at step" in found["loss"]["what"]
    good = load_checkpoint(tmp_path)
    assert all(bool(p.isfinite().all()) for p in good.net.parameters())
    with pytest.raises(ArithmeticError, match=r"diverged with lr=10000.*smaller lr it goes on"):
        fit(tmp_path, lr=1e4, steps=50)
    assert state(tmp_path) == found


def test_a_smaller_rate_goes_on_after_a_divergence(tmp_path: Path) -> None:
    # Infinite in float32: the weights after step 7, whose checkpoint is not written.
    def spoil(net: MLP, done: int, way: float, loss: float) -> None:
        if done == 7:
            with torch.no_grad():
                net.outlet.bias.fill_(torch.nan)

    net = make()
    with pytest.raises(ArithmeticError, match="nan at step 7"):
        fit(tmp_path, net, on_step=partial(spoil, net))
    assert state(tmp_path)["loss"]["status"] == "diverged" and state(tmp_path)["step"] == 5
    _, report = fit(tmp_path, lr=1e-3)
    assert report.resumed_from == 5 and state(tmp_path)["loss"]["status"] == "finite"


def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path) -> None:
    net = make()

    def spoil(done: int, way: float, loss: float) -> None:
        if done == 10:
            with torch.no_grad():
                net.outlet.bias.fill_(torch.inf)

    with pytest.raises(ArithmeticError, match="weights left the finite numbers by step 10"):
        fit(tmp_path, net, on_step=spoil)
    assert state(tmp_path)["step"] == 5


def test_the_clock_goes_on_where_it_stood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("sdekit.train.budget.time.perf_counter", lambda: now[0])

    def pass_time(at: int, done: int, way: float, loss: float) -> None:
        assert way == pytest.approx((done - 1) / 10)
        now[0] += 1.0
        crash(at, done, way, loss)

    by_clock = {"steps": None, "seconds": 10.0, "save_steps": 1}
    with pytest.raises(Crash):
        fit(tmp_path, on_step=partial(pass_time, 4), **by_clock)
    # An hour later; step 4 was not saved, and its second is not counted.
    now[0] += 3600.0
    _, report = fit(tmp_path, on_step=lambda *_: now.__setitem__(0, now[0] + 1.0), **by_clock)
    assert (report.resumed_from, report.stopped_by) == (3, "seconds")
    assert report.seconds == pytest.approx(10.0, abs=2.0) and report.steps in (10, 11)
    assert not report.reproducible


def test_what_has_no_name_is_kept_as_a_state_alone(tmp_path: Path) -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.sde, self.inner = OU(), make(sde=OU())

        def forward(self, t: Tensor, x: Tensor) -> Tensor:
            return self.inner(t, x)

    begun(tmp_path, net=Own())
    assert not (tmp_path / "model.safetensors").exists()
    assert state(tmp_path)["settings"]["network"]["name"].endswith("Own")
    assert torch.equal(fit(tmp_path, Own())[0], fit(net=Own())[0])


def test_a_folder_serves_one_training_at_a_time(tmp_path: Path) -> None:
    def second(done: int, way: float, loss: float) -> None:
        fit(tmp_path)

    with pytest.raises(BlockingIOError, match="another process trains") as caught:
        fit(tmp_path, on_step=second)
    assert caught.value.filename == str(tmp_path)
    assert fit(tmp_path)[1].steps == 20


def test_grids_are_for_images(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"not for data of shape \(4,\)"):
        fit(tensorboard=tmp_path, grid_every=3)


def test_budget() -> None:
    budget = Budget(10, 100.0)
    budget.start(3, 5.0)
    assert budget.way == 0.3 and not budget.led and budget.elapsed >= 5.0
    budget.move(60.0)
    assert budget.way == 0.6 and budget.led
    budget.done = 10
    budget.move(70.0)
    assert budget.way == 1.0 and budget.stopped_by == "steps"


def test_bar_and_board(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    net = MLP((4, 4), 8, 1, sde=VP())
    plain = MLP((4, 4), 8, 1, sde=VP())
    data = torch.arange(160).view(10, 4, 4) % 5
    given = {"transform": DataTransform(5), "steps": 6, "batch": 8, "clip": 1.0}
    train(net, net.sde, data, progress=True, tensorboard=tmp_path, grid_every=4, **given)
    train(plain, plain.sde, data, **given)
    # Looking on changes nothing.
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), plain.parameters(), strict=True))
    shown = capsys.readouterr().err
    assert "100%" in shown and "step 6, loss" in shown and "images/s" in shown
    board = EventAccumulator(str(tmp_path))
    board.Reload()
    assert set(board.Tags()["scalars"]) == {"loss", "lr", "images_per_second", "grad_norm"}
    assert [e.step for e in board.Scalars("loss")] == [1, 2, 3, 4, 5, 6]
    images = board.Images("samples")
    assert [e.step for e in images] == [4, 6]
    assert (images[0].width, images[0].height) == (16, 16)
