"""The corrector "ou": exact where the data are Gaussian of the std given, whatever its step."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sdekit_kernels import normal

from sdekit.sample import CORRECTORS, sample
from sdekit.score import Gaussian, GaussianMixture
from sdekit.sde import OU
from tests.sample.cases import SDES


def tables(sde, t, snr, **given):
    t = torch.tensor(t, dtype=torch.float64)
    return CORRECTORS["ou"](sde, t, 0.9 * t, snr, **given).values()


@pytest.mark.parametrize("snr", [0.05, 0.16, 1.0, 30.0])
@pytest.mark.parametrize("name", SDES)
def test_the_variance_of_gaussian_data_is_kept_by_any_step(name, snr):
    sde, times = SDES[name], [0.9 * SDES[name].T, 0.3, 0.01]
    eps, noise = tables(sde, times, snr, data_std=0.7)
    t = torch.tensor(times, dtype=torch.float64)
    variance = (sde.mean_coefficient(t) * 0.7).square() + sde.std(t).square()
    after = (1 - eps / variance).square() * variance + noise.square()
    torch.testing.assert_close(after, variance, rtol=1e-13, atol=0.0)
    # Langevin's step of this size inflates it by the docstring's 1 / (1 - eps / (2 V)).
    langevin = 2 * eps / (1 - (1 - eps / variance).square())
    torch.testing.assert_close(langevin, variance / (1 - eps / (2 * variance)))
    # Never longer than the step of "annealed", which is stable for any data up to snr = 1.
    assert bool((eps <= 2 * (snr * sde.std(t)).square() * (1 + 1e-12)).all())


@pytest.mark.parametrize("data_std", [0.0, 0.3, 2.0])
def test_what_remains_for_other_data(data_std):
    sde, snr = SDES["vp"], 0.16
    eps, noise = (float(v) for v in tables(sde, [0.3], snr, data_std=data_std))
    t = torch.tensor(0.3, dtype=torch.float64)
    alpha, sigma = float(sde.mean_coefficient(t)), float(sde.std(t))
    v = alpha**2 * data_std**2 + sigma**2
    for own in (0.0, 0.5, 1.0):
        wanted = alpha**2 * own**2 + sigma**2
        held = noise**2 / (1 - (1 - eps / wanted) ** 2)
        assert held == pytest.approx(wanted * (2 - eps / v) / (2 - eps / wanted), rel=1e-12)
        leading = eps / 2 * (1 / wanted - 1 / v)
        assert abs(held / wanted - 1 - leading) < 2 * snr**4
        assert abs(held / wanted - 1) < snr**2 * (1 + snr**2)


def test_per_component_stds_and_parameters():
    sde = OU([0.5, 1.0], [0.7, 0.1], [0.9, 1.2])
    spread = torch.tensor([[0.4, 0.9]], dtype=torch.float64)
    eps, noise = tables(sde, [0.9, 0.3], 0.5, data_std=spread)
    assert eps.shape == noise.shape == (2, 2)
    t = torch.tensor([0.9, 0.3], dtype=torch.float64)
    variance = (sde.mean_coefficient(t) * spread).square() + sde.std(t).square()
    torch.testing.assert_close((1 - eps / variance) ** 2 * variance + noise**2, variance)
    x = sample(
        sde,
        Gaussian([1.0, 2.0], [0.4, 0.9], sde),
        (20000, 2),
        times=np.linspace(0.5, 0.4999, 40),
        x_init=torch.zeros(20000, 2),
        predictor="none",
        corrector="ou",
        snr=2.0,
        data_std=[0.4, 0.9],
        denoise=False,
        fuse=False,
    ).double()
    t = torch.tensor([0.4999], dtype=torch.float64)
    variance = ((sde.mean_coefficient(t) * spread).square() + sde.std(t).square())[0]
    assert bool(((x.var(0) / variance - 1).abs() < 5 * np.sqrt(2 / 20000)).all())


def test_modes_of_a_mixture_keep_their_width_where_langevin_widens_them():
    # 30 steps at almost one time, from the law itself. The modes are 8 of their stds apart, each of
    # variance V = alpha^2 0.3^2 + sigma^2; Langevin holds V / (1 - eps / (2 V)), 1.14 V at snr =
    # 0.7, and 10,000 samples know V to 1.4 percent. A step forgets a part 1 - eps / V = 0.75 of it.
    sde, n, t, snr = SDES["vp"], 10000, 0.05, 0.7
    score = GaussianMixture([[-1.5], [1.5]], 0.3, None, sde)
    at = torch.tensor(t, dtype=torch.float64)
    alpha, sigma = float(sde.mean_coefficient(at)), float(sde.std(at))
    x = alpha * score.sample(n, seed=5) + sigma * normal((n, 1), seed=12, stream=99)
    variance = alpha**2 * 0.09 + sigma**2
    eps = 2 * (snr * sigma) ** 2
    for corrector, wanted in (("annealed", 1 / (1 - eps / (2 * variance))), ("ou", 1.0)):
        y = sample(
            sde,
            score,
            (n, 1),
            times=np.linspace(t, 0.9999 * t, 31),
            x_init=x,
            predictor="none",
            corrector=corrector,
            corrector_first=True,
            snr=snr,
            denoise=False,
            fuse=False,
            seed=6,
            **({"data_std": 0.3} if corrector == "ou" else {}),
        ).double()
        # langevin_alpha is 1 - beta_i, within 1e-4 of 1 on steps so short.
        held = float((y.abs() - 1.5 * alpha).square().mean()) / variance
        assert abs(held / wanted - 1) < 5 * np.sqrt(2 / n), (corrector, held, wanted)
    assert abs(1 / (1 - eps / (2 * variance)) - 1) > 0.1
