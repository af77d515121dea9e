"""The training loop: it learns, it is a function of its seed, it keeps to its budget."""

from __future__ import annotations

import time

import pytest
import torch
from torch import Tensor, nn

from sdekit.likelihood import DataTransform
from sdekit.score import MLP, Gaussian
from sdekit.sde import VP
from sdekit.train import load_digits, train
from sdekit.train.augment import Jitter
from sdekit.train.data import noise_images, permutation
from sdekit.train.loop import learning_rate_factor
from sdekit.train.quality import Judge, gaussian_bits_per_dim
from sdekit.train.recipe import Recipe, fit_digits


@pytest.fixture(scope="module")
def digits() -> object:
    return load_digits()


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
    assert not first.training


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
    with pytest.raises(ValueError, match="lr"):
        train(net, sde, data, transform, steps=1, lr=-1.0)
    with pytest.raises(ValueError, match="no samples"):
        train(net, sde, data[:0], transform, steps=1)
    with pytest.raises(ValueError, match="levels"):
        train(net, sde, data + 7, transform, steps=1)


def test_a_loss_that_diverges_is_reported() -> None:
    net = MLP((4,), 8, 1, sde=VP())
    with torch.no_grad():
        net.outlet.bias.fill_(torch.inf)
    with pytest.raises(ArithmeticError, match="smaller lr"):
        train(net, VP(), torch.zeros(8, 4), DataTransform(5), steps=3)


def test_weights_that_diverge_in_the_last_step_are_reported() -> None:
    # 1e39 is infinite in float32, and the loss was taken before the step.
    with pytest.raises(ArithmeticError, match="weights left the finite numbers by step 2"):
        fit(steps=2, lr=1e39)


def test_digits_are_split_once_and_for_all(digits: object) -> None:
    assert digits.train.shape == (1500, 8, 8) and digits.test.shape == (297, 8, 8)
    assert digits.train.dtype == torch.int64
    assert int(digits.train.min()) == 0 and int(digits.train.max()) == 16
    everything = torch.cat([digits.train, digits.test]).flatten(1)
    assert len(everything.unique(dim=0)) == 1797
    # The first test labels: the split is part of every number that is reported.
    again = load_digits()
    assert torch.equal(again.test_labels, digits.test_labels)
    assert sorted(digits.test_labels.unique().tolist()) == list(range(10))


def test_permutation_is_one() -> None:
    order = permutation(1000, seed=1, stream=6)
    assert order.sort().values.tolist() == list(range(1000))
    assert not torch.equal(order, permutation(1000, seed=1, stream=6, step=1))


def test_jitter_moves_a_share_and_stays_within_the_levels(digits: object) -> None:
    images = digits.train[:400]
    out = Jitter(17, 0.5)(images, seed=1, step=2)
    changed = (out != images).flatten(1).any(1)
    # Binomial(400, 1/2): 5 standard deviations of the share are 0.125.
    assert abs(changed.double().mean().item() - 0.5) < 0.125
    assert int(out.min()) >= 0 and int(out.max()) <= 16
    assert torch.equal(out, Jitter(17, 0.5)(images, seed=1, step=2))
    assert not torch.equal(out, Jitter(17, 0.5)(images, seed=1, step=3))
    assert torch.equal(Jitter(17, 0.0)(images, seed=1, step=2), images)
    fading = Jitter(17, 0.5, final=0.1, fade=0.4)
    assert [fading.share(way) for way in (0.0, 0.4)] == [0.5, 0.5]
    assert [fading.share(way) for way in (0.7, 1.0)] == pytest.approx([0.3, 0.1])
    assert torch.equal(Jitter(17, 0.5, final=0.0)(images, seed=1, step=2, way=1.0), images)
    with pytest.raises(ValueError, match="probability"):
        Jitter(17, 1.5)
    still = Jitter(17, 1.0, rotation=0.0, scale=0.0, shear=0.0, shift=0.0)
    assert torch.equal(still(images, seed=1, step=2), images)
    with pytest.raises(ValueError, match=r"\(B, H, W\)"):
        Jitter(17)(images.flatten(1), seed=0, step=0)


def test_baselines_and_judge(digits: object) -> None:
    transform = DataTransform(17)
    bits = gaussian_bits_per_dim(digits.train, digits.test, transform)
    assert bits.shape == (297,)
    # Measured 2.96: better than 4.09 for uniform pixels.
    assert 2.8 < bits.mean().item() < 3.1
    judge = Judge(digits.train, digits.train_labels, digits.test)
    real, noise, copies = (
        judge(digits.test),
        judge(noise_images(100)),
        judge(digits.train[:100]),
    )
    assert real.confidence > 0.9 > noise.confidence
    assert real.precision > 0.9 and noise.precision == 0.0
    assert copies.nearest == pytest.approx(0.0, abs=1e-6) and real.nearest > 1.0


def test_recipe_is_reproducible(digits: object) -> None:
    recipe = Recipe(width=16, depth=1, batch=64)
    first, report = fit_digits(digits.train, recipe, steps=12)
    again, _ = fit_digits(digits.train, recipe, steps=12)
    assert report.reproducible and torch.equal(weights(first.net), weights(again.net))
    assert first.info["recipe"]["width"] == 16
