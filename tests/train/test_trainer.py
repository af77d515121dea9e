"""The trainer: it learns, it is a function of its seed, it keeps to its budget."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sdekit.data import digits
from sdekit.likelihood import DataTransform
from sdekit.score import MLP, Gaussian
from sdekit.sde import VE, VP
from sdekit.train import denoising_score_matching, sliced_score_matching, train
from sdekit.train import recipe as recipes
from sdekit.train.budget import learning_rate_factor
from sdekit.train.parallel import data_parallel


def fit(seed: int = 0, steps: int = 20, **options: object) -> tuple[MLP, object]:
    sde = VP()
    net = MLP((4,), 16, 1, sde=sde, seed=1)
    data = torch.arange(40).view(10, 4) % 5
    report = train(net, sde, data, DataTransform(5), steps=steps, batch=8, seed=seed, **options)
    return net, report


def weights(net: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def test_same_seed_same_weights() -> None:
    (first, report), (again, _), (other, _) = fit(), fit(), fit(seed=1)
    assert torch.equal(weights(first), weights(again))
    assert not torch.equal(weights(first), weights(other))
    assert report.reproducible and report.steps == 20 and report.stopped_by == "steps"
    assert report.resumed_from is None and not first.training


def test_training_finds_a_gaussian_score() -> None:
    # One pixel, uniform on two neighbouring bins of many: nearly a point; instead take the digits'
    # way of scaling with a wide uniform law, whose diffused score at t = T / 2 is nearly Gaussian.
    sde = VP()
    transform = DataTransform(64)
    data = torch.arange(64).repeat(16).view(-1, 1)
    net = MLP((1,), 32, 1, sde=sde, data_std=1.0)
    before = MLP((1,), 32, 1, sde=sde, data_std=1.0)
    train(net, sde, data, transform, steps=1000, batch=128, lr=5e-3, ema=0.95)
    t = torch.tensor(0.5)
    x = torch.linspace(-1.5, 1.5, 31).view(-1, 1)
    # x_0 uniform on [-1, 1): variance 1/3, and alpha(1/2)^2 / 3 is small against sigma(1/2)^2.
    want = Gaussian(0.0, (1 / 3) ** 0.5, sde)(t, x)
    with torch.no_grad():
        error = (net(t, x) - want).abs().max()
        assert error < 0.25 * (before(t, x) - want).abs().max()
        # Measured 0.006 to 0.016 with 12 seeds; the score there is up to 1.6.
        assert error < 0.05


def test_numbers_need_no_transform() -> None:
    sde, data = VP(), torch.linspace(-1, 1, 64).view(32, 2)
    net = MLP((2,), 8, 1, sde=sde)
    report = train(net, sde, data, steps=3, batch=8)
    assert report.steps == 3 and bool(weights(net).isfinite().all())
    with pytest.raises(TypeError, match="transform=DataTransform"):
        train(net, sde, data.long(), steps=3)


@pytest.mark.parametrize(
    "loss",
    ["ism", "edm", partial(sliced_score_matching, reduced=True)],
    ids=["ism", "edm", "ssm reduced"],
)
def test_any_loss_will_do(loss: object) -> None:
    before, after = MLP((4,), 16, 1, sde=VP(), seed=1), fit(loss=loss)[0]
    assert bool(weights(after).isfinite().all())
    assert not torch.equal(weights(before), weights(after))


def test_the_loss_gets_its_options() -> None:
    plain, same = fit()[0], fit(loss=partial(denoising_score_matching, weighting="simple"))[0]
    other = fit(loss=partial(denoising_score_matching, weighting="likelihood"))[0]
    assert torch.equal(weights(plain), weights(same))
    assert not torch.equal(weights(plain), weights(other))


def test_budget_by_the_clock() -> None:
    start = time.perf_counter()
    _, report = fit(steps=10**6, seconds=0.3)
    assert time.perf_counter() - start < 5.0
    assert report.stopped_by == "seconds" and not report.reproducible and report.steps >= 1


def test_learning_rate_rises_and_falls_to_zero() -> None:
    assert learning_rate_factor(0.0, 0.1) == 0.0
    assert learning_rate_factor(0.05, 0.1) == pytest.approx(0.5)
    assert learning_rate_factor(0.1, 0.1) == pytest.approx(1.0)
    assert learning_rate_factor(0.55, 0.1) == pytest.approx(0.5)
    assert learning_rate_factor(1.0, 0.1) == pytest.approx(0.0, abs=1e-12)


def test_bad_budgets_and_numbers_are_refused() -> None:
    sde, transform = VP(), DataTransform(5)
    net, data = MLP((4,), 8, 1, sde=sde), torch.zeros(3, 4)
    with pytest.raises(ValueError, match="how long"):
        train(net, sde, data, transform)
    for options in ({"steps": 0}, {"seconds": 0.0}, {"seconds": float("nan")}):
        with pytest.raises(ValueError, match=r"steps|seconds"):
            train(net, sde, data, transform, **options)
    for name in ("lr", "clip", "save_seconds", "warmup"):
        with pytest.raises(ValueError, match=name):
            train(net, sde, data, transform, steps=1, **{name: -1.0})
    with pytest.raises(ValueError, match="float16' is for CUDA"):
        train(net, sde, data, transform, steps=1, precision="float16")
    with pytest.raises(ValueError, match="Did you mean 'bfloat16'"):
        train(net, sde, data, transform, steps=1, precision="bfloat")
    with pytest.raises(ValueError, match="unknown loss"):
        train(net, sde, data, transform, steps=1, loss="dms")
    with pytest.raises(ValueError, match="no samples"):
        train(net, sde, data[:0], transform, steps=1)
    with pytest.raises(ValueError, match="levels"):
        train(net, sde, data + 7, transform, steps=1)


def test_what_cannot_be_trained_is_refused_by_its_own_name() -> None:
    net, data = MLP((4,), 8, 1, sde=VP()), torch.zeros(6, 4)
    data[2, 1], data[5, 0] = torch.nan, torch.inf
    with pytest.raises(ValueError, match=r"infinite numbers in 2 of 6 samples.* is sample 2"):
        train(net, VP(), data, steps=1)
    with pytest.raises(ValueError, match="Identity has no parameters"):
        train(nn.Identity(), VP(), torch.zeros(6, 4), steps=1)
    for warmup in (1.0, 2.0):
        with pytest.raises(ValueError, match=f"warmup .* below 1, got {warmup:g}"):
            train(net, VP(), torch.zeros(6, 4), steps=1, warmup=warmup)


def test_a_network_made_for_another_equation_is_refused(tmp_path: Path) -> None:
    net, other = MLP((4,), 8, 1, sde=VP()), VE("geometric", sigma_min=0.01, sigma_max=20.0)
    with pytest.raises(ValueError, match=r"another equation, VP\(.*instead of VE\(.*MLP\(\.\.\., "):
        train(net, other, torch.zeros(6, 4), steps=1, folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    # An equal one in another object is the same.
    assert train(net, VP(), torch.zeros(6, 4), steps=1).steps == 1


@pytest.mark.parametrize("loss", ["ism", "ssm", partial(sliced_score_matching, reduced=False)])
def test_what_is_not_compiled_is_refused(loss: object) -> None:
    with pytest.raises(ValueError, match="differentiates the network twice"):
        fit(steps=1, loss=loss, compiled=True)


@pytest.mark.parametrize(("device", "kind"), [("cpu", "gloo"), ("cuda", "nccl")])
def test_processes_talk_by_what_the_network_is_on(
    device: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.distributed, "init_process_group", opened.append)
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: None)
    with data_parallel(4, torch.device(device)):
        assert opened == [kind]


def test_a_network_of_another_output_shape_is_refused() -> None:
    class Wrong(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, t: Tensor, x: Tensor) -> Tensor:
            return self.layer(x)

    with pytest.raises(ValueError, match=r"\(3, 3\) for x of shape \(3, 4\)"):
        train(Wrong(), VP(), torch.zeros(3, 4), steps=1)


def test_a_loss_that_diverges_is_reported() -> None:
    net = MLP((4,), 8, 1, sde=VP())
    with torch.no_grad():
        net.outlet.bias.fill_(torch.inf)
    with pytest.raises(ArithmeticError, match=r"by step 0: write a smaller lr than 0\.002"):
        train(net, VP(), torch.zeros(8, 4), DataTransform(5), steps=3)


def test_weights_that_diverge_in_the_last_step_are_reported() -> None:
    # 1e39 is infinite in float32, and the loss was taken before the step.
    with pytest.raises(ArithmeticError, match="weights left the finite numbers by step 2"):
        fit(steps=2, lr=1e39)


def test_a_loss_that_explodes_stays_finite_and_is_reported() -> None:
    # Adam's steps have size lr: the weights grow to 1e4, the loss to 1e8, and nothing overflows.
    with pytest.raises(ArithmeticError, match=r"the loss is \d.*e\+\d+ at step \d+: write"):
        fit(steps=50, lr=1e4)


def test_clipping_scales_the_gradient_down() -> None:
    # Adam does not see the gradients' size but in its eps: with them at 1e-12 it hardly moves.
    start = weights(MLP((4,), 16, 1, sde=VP(), seed=1))
    free = (weights(fit(steps=5, clip=1e9)[0]) - start).norm()
    held = (weights(fit(steps=5, clip=1e-12)[0]) - start).norm()
    assert torch.equal(weights(fit(clip=1e9)[0]), weights(fit()[0]))
    assert held < 0.01 * free


def test_half_precision_is_near_full() -> None:
    full, half = fit(steps=50)[1], fit(steps=50, precision="bfloat16")[1]
    # bfloat16 has 8 bits: relative errors of 0.4 %, and the loss is one of squares.
    assert half.loss != full.loss and half.loss == pytest.approx(full.loss, rel=0.05)
    assert weights(fit(precision="bfloat16")[0]).dtype == torch.float32


@pytest.mark.slow
def test_compiled_is_the_same_to_rounding() -> None:
    plain, compiled = fit(steps=5)[1], fit(steps=5, compiled=True)[1]
    assert compiled.loss == pytest.approx(plain.loss, rel=1e-4)


def test_compiling_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[nn.Module] = []
    monkeypatch.setattr(torch, "compile", lambda net: asked.append(net) or net)
    net, _ = fit(compiled=True)
    assert asked == [net] and torch.equal(weights(net), weights(fit()[0])) and len(asked) == 1


def test_recipe_is_reproducible() -> None:
    recipe = recipes.Recipe(width=16, depth=1, batch=64)
    first, report = recipes.fit(digits(), recipe, steps=12)
    again, _ = recipes.fit(digits(), recipe, steps=12)
    assert report.reproducible and torch.equal(weights(first.net), weights(again.net))
    assert first.info["recipe"]["width"] == 16
