"""Recipes: each builds and runs, shortened; images as ends, and the U-Net between them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import sdekit_kernels
import torch
from torch import Tensor, nn

import sdekit as sk
from sdekit.bridge import DSB, DSBM, Adam, Cache, DriftMLP, DriftUNet, NetworkDrift, time_grid
from sdekit.bridge.closed_form import imf_iterates
from sdekit.bridge.drifts import Direction
from sdekit.bridge.ends import points_of, two_ends
from sdekit.bridge.interpolation import Interpolation
from sdekit.bridge.recipes import RECIPES, arrivals, fitted, judged, recipe
from sdekit.bridge.recipes.images import ImageRecipe
from sdekit.data import Dataset, digits, moons
from sdekit.likelihood import DataTransform
from sdekit.quality import FeatureRecipe
from sdekit.sde import Brownian

IMAGES = ("letters-to-digits", "mnist")
TINY: dict[str, Any] = dict(
    size="tiny", precision="full", batch=4, paths=4, grid=3, half_steps=2, measure=0
)


ONCE: dict[str, Any] = dict(half_steps=2, measure=0, fuse=False)


def normals(*shape: int, seed: int = 0) -> Tensor:
    return sdekit_kernels.normal(shape, seed=seed, stream=9)


# -- the table -------------------------------------------------------------------------------------


def test_the_table() -> None:
    assert list(RECIPES) == ["moons", "gaussian", "letters-to-digits", "mnist"]
    for name, algorithms in RECIPES.items():
        for algorithm, found in algorithms.items():
            assert recipe(name, algorithm) == found
            assert found.name == name and found.algorithm == algorithm
            # Plain numbers, which a JSON can keep.
            assert found.numbers()["name"] == name and "sigma" in found.numbers()
    assert recipe("moons").algorithm == "dsbm" and recipe("gaussian").algorithm == "dsb"
    assert recipe("moons", seed=3, sigma=0.5).changed(sigma=1.0) == recipe("moons", seed=3)


def test_what_the_table_refuses() -> None:
    with pytest.raises(ValueError, match=r"moon.*letters-to-digits"):
        recipe("moon")
    with pytest.raises(ValueError, match=r"sinkhorn.*dsb"):
        recipe("moons", "sinkhorn")
    with pytest.raises(TypeError, match=r"'stepz'.*half_steps.*steps"):
        recipe("moons", stepz=3)
    with pytest.raises(ValueError, match=r"least squares.*no steps"):
        recipe("gaussian").shortened(10)


# -- the plane -------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["dsb", "dsbm"])
def test_moons_shortened(algorithm: str) -> None:
    short = recipe("moons", algorithm, half_steps=2, measure=0, paths=256, samples=500)
    bridge = short.shortened(5).fit()
    assert isinstance(bridge, DSB if algorithm == "dsb" else DSBM)
    assert [len(state.losses) for state in bridge.states] == [5, 5]
    assert fitted(bridge) == ["forward", "backward"]
    x0, x1 = short.held_out(7)
    assert bridge.sample(x0).shape == (7, 2) == bridge.sample(x1, direction="backward").shape
    # Held-out points are no points of the fit.
    seen = bridge.transport.ends[1].draw(0, 1, 0, 500)
    assert not bool((x1[:, None] == seen).all(-1).any())


def test_moons_from_python() -> None:
    bridge = sk.bridge.recipes.moons(seed=4, samples=10)
    assert bridge.seed == 4 and bridge.half_step == 0 and fitted(bridge) == []
    torch.testing.assert_close(
        bridge.transport.ends[1].draw(0, 1, 0, 10).sort(0).values,
        moons.sample(10, seed=4).sort(0).values,
    )


@pytest.mark.parametrize("algorithm", ["dsb", "dsbm"])
def test_gaussian_follows_the_exact_iterates(algorithm: str) -> None:
    # A regression over n paths of 2 components leaves D (D + 1) / n nats a half-step, 3e-4 here,
    # beside the sampling error of each term: measured 1 to 4 percent at 20,000 paths.
    short: Any = recipe("gaussian", algorithm, half_steps=3, measure=0)
    bridge = short.driver()
    found = [short.fitted_kl(bridge) for _ in bridge.iterate()]
    exact, limit = short.exact_kl(bridge, 3)
    for mine, theirs in zip(found, exact, strict=True):
        assert mine == pytest.approx(theirs, rel=0.1, abs=1e-3)
    # The last one is nearer than the one before, of the chain and in continuous time.
    assert limit[2] < limit[1] < limit[0] and exact[2] < exact[1] < exact[0]


# -- images ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("algorithm", ["dsbm", "dsb"])
def test_images_shortened(name: str, algorithm: str, tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    pytest.importorskip("mlxtend")
    short = recipe(name, algorithm, **TINY).shortened(2)
    assert isinstance(short, ImageRecipe)
    bridge = short.driver()
    assert bridge.one_net == (algorithm == "dsbm")
    bridge.fit()
    x0, x1 = short.held_out(6)
    assert x0.shape == x1.shape == (6, 1, 28, 28)
    assert float(x1.min()) >= -1.0 and float(x1.max()) <= 1.0
    there, back = arrivals(bridge, x0), arrivals(bridge, x1, "backward")
    assert bool(there.isfinite().all()) and bool(back.isfinite().all())
    # The noise of the last step is what they leave away.
    last = float(bridge.grid.lengths("forward")[-1]) ** 0.5 * short.sigma
    assert float((bridge.sample(x0) - there).std()) == pytest.approx(last, rel=0.05)
    features = FeatureRecipe(channels=(2, 2), features=4, steps=1, batch=8)
    numbers = judged(short, bridge, n=6, features=features, folder=tmp_path)
    assert set(numbers) == {"forward", "backward"}
    assert {"moved", "samples", "real", "reference"} <= set(numbers["forward"])
    assert ("samples" in numbers["backward"]) == (name == "letters-to-digits")


def test_first_steps() -> None:
    learner = Adam(steps=3, first_steps=5)
    assert [learner.of(n, False).steps for n in (1, 2, 3)] == [5, 5, 3]
    assert [learner.of(n, True).steps for n in (1, 2, 3)] == [5, 3, 3]
    assert Adam(steps=3).of(1, False) == Adam(steps=3)
    with pytest.raises(ValueError, match="first_steps"):
        Adam(first_steps=0)
    short = recipe("moons", half_steps=3, steps=2, first_steps=4, measure=0, paths=64)
    assert [len(state.losses) for state in short.fit().states] == [4, 4, 2]


# -- the U-Net -------------------------------------------------------------------------------------


def unet(**options: Any) -> DriftUNet:
    pytest.importorskip("diffusers")
    given = {"channels": (8, 8), "layers": 1, **options}
    return DriftUNet((1, 8, 8), **given)


def test_unet_is_zero_at_first_and_a_function_of_its_seed() -> None:
    x, t = normals(3, 1, 8, 8), torch.tensor([0.1, 0.5, 0.9])
    assert not bool(unet()(t, x).any())
    one = unet(drifts=2, seed=3)
    assert one(t, x).shape == (3, 2, 1, 8, 8) and one(t[0], x).shape == (3, 2, 1, 8, 8)
    twin = DriftUNet(**one.config())
    for p, q in zip(one.parameters(), twin.parameters(), strict=True):
        assert torch.equal(p, q)
    other = unet(drifts=2, seed=4)
    assert any(
        not torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters(), strict=True)
    )
    with pytest.raises(ValueError, match=r"\(1, 8, 8\)"):
        one(t, x[:, :, :4])
    with pytest.raises(ValueError, match="precision"):
        unet(precision="half")


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("sigma", [0.3, 2.0])
def test_the_unit_is_the_spread_of_the_target(direction: Direction, sigma: float) -> None:
    # Ends N(0, 1) and N(0, 4), independent: a gap of variance 5, over T = 2.
    T, n = 2.0, 20_000
    x0, x1, z = normals(n, 1, seed=1), 2.0 * normals(n, 1, seed=2), normals(n, 1, seed=3)
    net = unet(T=T, scale=5.0**0.5 / T, sigma=sigma)
    for at in (0.02, 0.7, 1.0, 1.3, 1.98):
        t = torch.full((n,), at)
        between = Interpolation(Brownian(sigma, T=T), t, x0, x1)
        target = between.drift(direction, between.point(z))
        scaled = net.drift_unit(t, direction) * target[:, 0]
        # The std of a std over n draws is 1 / sqrt(2 n) = 0.005.
        assert float(scaled.std()) == pytest.approx(1.0, abs=0.025)
    assert float(net.drift_unit(torch.tensor(0.3), direction)) > 0.0
    plain = unet(scale=4.0)
    assert float(plain.drift_unit(torch.tensor(0.3), direction)) == 0.25


class Scaled(nn.Module):
    """A network of both drifts in units of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.net = DriftMLP((1,), width=24, depth=2, drifts=2)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        out: Tensor = self.net(t, x)
        return out

    def drift_unit(self, t: Tensor, direction: Direction) -> Tensor:
        left = 1.0 - t if direction == "forward" else t
        return (left / (left + 1.0)).sqrt()


def test_a_network_with_units_of_its_own() -> None:
    x, t = normals(5, 1), torch.linspace(0.1, 0.9, 5)
    net, grid = Scaled(), time_grid(8, 1.0)
    with torch.no_grad():
        net.net.layers[-1].weight.fill_(0.1)
    for row, way in ((0, "forward"), (1, "backward")):
        direction: Direction = "forward" if way == "forward" else "backward"
        drift = NetworkDrift(net, grid, direction, row=row)
        unit = net.drift_unit(t, direction)
        torch.testing.assert_close(drift(t, x), net(t, x)[:, row] / unit[:, None])
        torch.testing.assert_close(drift.units(t)[:, row], unit)
        assert drift.units(t).shape == (5, 2)


@pytest.mark.parametrize("sweep", ["turns", "both"])
def test_units_do_not_change_what_is_learned(sweep: str) -> None:
    # As ``test_networks_learn`` of the drivers: within 0.12 of the exact iterates.
    given = (0.0, 1.0, 1.0, 0.25, 1.0)
    forward = imf_iterates(*given, iterations=2, steps=8)[2]
    x, y = normals(2_000, 1, seed=1), 1.0 + 0.5 * normals(2_000, 1, seed=2)
    learner = Adam(steps=250, batch=256, lr=5e-3, ema=0.98)
    options: dict[str, Any] = dict(regression=learner, steps=8, cache=Cache(512), sweep=sweep)
    bridge = DSBM(x, y, nets=Scaled(), **options, **ONCE)
    bridge.fit()
    there = bridge.sample(x)
    assert float(there.mean()) == pytest.approx(float(forward.mean1), abs=0.12)
    assert float(there.std()) == pytest.approx(float(forward.cov11) ** 0.5, abs=0.12)
    if sweep == "both":
        # The backward drift saw data at its end too: the iterate that begins the other way.
        backward = imf_iterates(*given, iterations=2, steps=8, first="forward")[2]
        back = bridge.sample(y, direction="backward")
        assert float(back.mean()) == pytest.approx(float(backward.mean0), abs=0.12)
        assert float(back.std()) == pytest.approx(float(backward.cov00) ** 0.5, abs=0.12)


def test_both_drifts_from_couplings_of_their_own() -> None:
    x, y = normals(64, 1, seed=1), 9.0 + normals(64, 1, seed=2)
    options: dict[str, Any] = dict(regression=Adam(steps=2, batch=8), cache=Cache(32), sweep="both")
    bridge = DSBM(x, y, nets=Scaled(), steps=4, **options, **ONCE)
    bridge.advance()
    problem = bridge.problem(2)
    t, states, target, seen = problem.batch(0, 7)
    assert t.shape == (7,) and states.shape == (7, 1) and target.shape == (7, 2, 1)
    assert seen is not None and seen[:, :, 0].tolist() == [[1.0, 0.0]] * 4 + [[0.0, 1.0]] * 3
    assert not bool(target[:4, 1].any()) and not bool(target[4:, 0].any())
    # A step to the end lands on it: on data, at which the paths of the other direction began.
    ends = states + (1.0 - t)[:, None] * target[:, 0], states + t[:, None] * target[:, 1]
    for arrived, data in ((ends[0][:4], y), (ends[1][4:], x)):
        assert bool((arrived - data.T).abs().min(1).values.max() < 1e-4)
    assert problem.most == 64 and problem.batch(1, 1).x.shape == (1, 1)
    with pytest.raises(ValueError, match="one network"):
        DSBM(x, y, sweep="both")


# -- data sets as ends -----------------------------------------------------------------------------


def test_data_sets_as_ends() -> None:
    data = digits()
    x = points_of(data)
    assert x.dtype == torch.float32 and float(x.min()) > -1.0 and float(x.max()) < 1.0
    assert data.transform is not None
    assert torch.equal(data.transform.inverse(x), data.train)
    assert torch.equal(data.transform.inverse(points_of(data, "test")), data.test)
    with pytest.raises(ValueError, match="part"):
        points_of(data, "all")
    # Their other end says what type they take.
    one, other = two_ends(data, torch.zeros(5, 8, 8, dtype=torch.float64), (0, 1))
    assert one.like.dtype == other.like.dtype == torch.float64
    assert two_ends(data, data, (0, 1))[1].like.shape == (0, 8, 8)
    # Floating-point data are taken as they are; their held-out part is not drawn.
    plane = moons(20, test=5)
    drawn = two_ends(plane, moons, (0, 1))[0].draw(0, 1, 0, 20)
    assert torch.equal(drawn.sort(0).values, plane.train.sort(0).values)


def test_a_data_set_with_limits_of_its_own() -> None:
    k = torch.tensor([[0], [3]])
    x = points_of(Dataset("k", k, k, transform=DataTransform(4, 0.0, 8.0)))
    assert x.flatten().tolist() == [1.0, 7.0]


def test_recipes_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe("moons").seed = 1  # type: ignore[misc]
