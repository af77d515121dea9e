"""Where losses look: importance-sampled times, finite levels, streams that nobody shares."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

import sdekit
from sdekit.noise import keys
from sdekit.sde import OU, VE, VP, AffineSDE, SubVP
from sdekit.train import Levels, TimeSampler, default_times, denoising_score_matching
from sdekit.train.times import pick, stratified
from sdekit.train.weighting import LogNormal, MinSNR, get_weighting, level
from tests.train.losses.cases import DOUBLE, make_data


@pytest.mark.parametrize("sde", [VP(), SubVP(), VE(sigma_max=10.0)], ids=["vp", "subvp", "ve"])
def test_importance_sampled_times_keep_the_mean_and_lower_the_variance(sde: AffineSDE) -> None:
    # s = 0 under g^2: E = \int g^2 / sigma^2 dt / (T - t_min) = 2 (l(T) - l(t_min)) / (T - t_min).
    x0 = torch.zeros(16, 2, dtype=DOUBLE)
    steps, t_min = 400, 1e-3
    ends = torch.tensor([t_min, 1.0], dtype=DOUBLE)
    want = 2.0 * float(level(sde, ends).diff()) / (1.0 - t_min)
    found = {}
    for proposal in ("uniform", "log_snr"):
        sampler = TimeSampler(sde, proposal=proposal, t_min=t_min)
        each = torch.stack(
            [
                denoising_score_matching(
                    sde,
                    lambda _t, x: torch.zeros_like(x),
                    x0,
                    seed=3,
                    step=step,
                    weighting="likelihood",
                    times=sampler,
                ).mean()
                for step in range(steps)
            ]
        )
        error = float(each.std()) / math.sqrt(steps)
        assert abs(float(each.mean()) - want) < 5 * error
        found[proposal] = float(each.var())
    # 2 D B squares of normals with one weight: what is left is 2 / (D B) want^2.
    assert found["log_snr"] == pytest.approx(2.0 / 32 * want**2, rel=0.3)
    assert found["log_snr"] < (0.8 if isinstance(sde, VE) else 0.3) * found["uniform"]


def test_the_weighting_chooses_its_times() -> None:
    sde = VP()
    assert default_times(sde, get_weighting("likelihood")).proposal == "log_snr"
    assert default_times(sde, LogNormal(-0.5, 1.0)).proposal == "lognormal"
    for name in ("simple", "uniform", "min_snr"):
        assert default_times(sde, get_weighting(name)).proposal == "uniform"
    each = OU(theta=[1.0, 2.0])
    assert default_times(each, get_weighting("likelihood")).proposal == "uniform"
    x0 = make_data(2).sample(16)

    def score(_t: Tensor, x: Tensor) -> Tensor:
        return -x

    chosen = TimeSampler(sde, proposal="log_snr")
    left = denoising_score_matching(sde, score, x0, seed=0, weighting="likelihood")
    right = denoising_score_matching(sde, score, x0, seed=0, weighting="likelihood", times=chosen)
    assert torch.equal(left, right)


def test_levels_are_even_and_stratified() -> None:
    k = pick(7, 70, seed=1, step=4)
    assert k.bincount(minlength=7).tolist() == [10] * 7 and not torch.equal(k, pick(7, 70, seed=1))
    # Each place sees each level: 4000 draws of place 0, 5 standard errors of a share of 1 / 4.
    first = torch.stack([pick(4, 3, seed=2, step=step)[0] for step in range(4000)])
    share = first.bincount(minlength=4) / 4000
    assert (share - 0.25).abs().max() < 5 * math.sqrt(0.25 * 0.75 / 4000)
    sde = VE(sigma_min=0.01, sigma_max=20.0)
    even = Levels.even(sde, 5)
    gaps = level(sde, even.times).diff()
    torch.testing.assert_close(gaps, gaps.mean().expand(4), rtol=1e-9, atol=0.0)
    t, factor = even(10, seed=1)
    assert set(t.tolist()) == set(even.times.tolist()) and bool((factor == 1.0).all())
    u = stratified(8, seed=3)
    assert sorted((8 * u).floor().tolist()) == list(range(8))


def test_streams_of_training_are_all_different() -> None:
    # Every ``X_STREAM = keys.TRAIN + n`` of the library, wherever it stands.
    root = Path(sdekit.__file__).parent
    pattern = re.compile(r"^\w+_STREAM: Final = keys\.TRAIN(?: \+ (\d+))?$", re.MULTILINE)
    found = [int(n or 0) for p in root.rglob("*.py") for n in pattern.findall(p.read_text())]
    assert len(found) >= 6 and sorted(set(found)) == sorted(found)
    assert keys.TRAIN + max(found) < keys.INIT


def test_bad_input_is_refused() -> None:
    for bad in ([], [0.2, 0.2], [[0.1, 0.2]], [0.5, 0.1]):
        with pytest.raises(ValueError, match="must be"):
            Levels(torch.tensor(bad))
    with pytest.raises(ValueError, match="levels must be in"):
        Levels.even(VP(), 1)
    with pytest.raises(TypeError, match="AffineSDE"):
        default_times(object(), get_weighting("simple"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="gamma"):
        MinSNR(0.0)
    with pytest.raises(ValueError, match="n must be in"):
        stratified(0, seed=0)
