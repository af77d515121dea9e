"""Adapters: the exact conditional expectations of Gaussian data give back the exact score."""

from __future__ import annotations

import pytest
import torch

from sdekit.score import Gaussian, from_edm, from_eps, from_v, from_x0
from sdekit.sde import OU, VE, VP, Brownian, SubVP, expand

DOUBLE = torch.float64
SDES = {
    "ou": OU(1.3, 0.7, 0.9),
    "ou_components": OU([0.5, -0.3], [0.7, 0.1], [0.9, 1.2]),
    "brownian": Brownian(1.7),
    "vp": VP(),
    "subvp": SubVP(),
    "ve": VE(),
    "ve_edm": VE("edm"),
}
MEAN, STD = torch.tensor([0.5, -1.0], dtype=DOUBLE), torch.tensor([0.7, 0.2], dtype=DOUBLE)


def expectations(sde, t, x):
    """E[x_0 | x_t] by Gaussian regression, and from it eps and v."""
    alpha, std = expand(sde.mean_coefficient(t), x), expand(sde.std(t), x)
    y = x - torch.as_tensor(sde.offset, dtype=DOUBLE)
    centre = MEAN - torch.as_tensor(sde.offset, dtype=DOUBLE)
    gain = alpha * STD**2 / (alpha**2 * STD**2 + std**2)
    y0 = centre + gain * (y - alpha * centre)
    eps = (y - alpha * y0) / std
    v = (alpha * eps - std * y0) / (alpha**2 + std**2).sqrt()
    return y0 + torch.as_tensor(sde.offset, dtype=DOUBLE), eps, v


@pytest.mark.parametrize("name", SDES)
@pytest.mark.parametrize("times", [[0.1, 0.5, 1.0], 0.3])
def test_exact_networks_give_the_exact_score(name, times):
    sde = SDES[name]
    t = torch.tensor(times, dtype=DOUBLE) * sde.T
    x = torch.randn(3, 2, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    want = Gaussian(MEAN, STD, sde)(t, x)
    for i, adapt in ((0, from_x0), (1, from_eps), (2, from_v)):
        score = adapt(lambda t, x, i=i: expectations(sde, t, x)[i], sde)
        torch.testing.assert_close(score(t, x), want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", [n for n in SDES if n != "ou_components"])
@pytest.mark.parametrize("times", [[0.1, 0.5, 1.0], 0.3])
def test_edm_denoiser_gives_the_exact_score(name, times):
    sde = SDES[name]
    t = torch.tensor(times, dtype=DOUBLE) * sde.T
    x = torch.randn(3, 2, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)

    def denoiser(x, sigma):
        # Knows nothing of the SDE: data plus noise of level sigma.
        gain = STD**2 / (STD**2 + sigma.reshape(-1, 1) ** 2)
        return MEAN + gain * (x - MEAN)

    want = Gaussian(MEAN, STD, sde)(t, x)
    torch.testing.assert_close(from_edm(denoiser, sde)(t, x), want, rtol=1e-9, atol=1e-9)


def test_v_under_vp_is_the_papers():
    # Salimans & Ho 2022: x_0 = alpha z - sigma v, so eps = sigma z + alpha v.
    sde, t = VP(), torch.tensor([0.2, 0.7], dtype=DOUBLE)
    x = torch.randn(2, 3, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)
    v = torch.randn(2, 3, generator=torch.Generator().manual_seed(2), dtype=DOUBLE)
    alpha, std = sde.mean_coefficient(t).view(2, 1), sde.std(t).view(2, 1)
    got = from_v(lambda t, x: v, sde)(t, x)
    torch.testing.assert_close(got, from_x0(lambda t, x: alpha * x - std * v, sde)(t, x))
    torch.testing.assert_close(got, from_eps(lambda t, x: std * x + alpha * v, sde)(t, x))


def test_float32_near_zero_has_no_cancellation():
    # The score of eps = 1 is -1 / std, also where 1 - exp(-x) would be 0 in float32.
    sde = VP()
    t = torch.tensor([1e-7, 1e-6, 1e-5])
    got = from_eps(lambda t, x: torch.ones_like(x), sde)(t, torch.zeros(3, 1))
    want = -1.0 / sde.std(t.double()).view(3, 1)
    torch.testing.assert_close(got.double(), want, rtol=1e-6, atol=0.0)


ADAPTERS = [from_eps, from_x0, from_v, from_edm]


@pytest.mark.parametrize("adapt", ADAPTERS)
def test_wrong_networks_are_refused(adapt):
    x, t = torch.ones(2, 3), torch.tensor(0.5)
    with pytest.raises(ValueError, match=r"returned shape \(2, 1\) for x of shape \(2, 3\)"):
        adapt(lambda a, b: torch.ones(2, 1), VP())(t, x)
    with pytest.raises(TypeError, match="must return a tensor, got NoneType"):
        adapt(lambda a, b: None, VP())(t, x)
    with pytest.raises(TypeError, match="net must be callable"):
        adapt(3, VP())
    with pytest.raises(TypeError, match="AffineSDE"):
        adapt(lambda a, b: b, object())


def test_edm_refuses_levels_that_differ_by_component():
    with pytest.raises(ValueError, match="use from_x0"):
        from_edm(lambda x, sigma: x, OU([1.0, 2.0]))


@pytest.mark.parametrize("name", ["subvp", "ve"])
def test_float16_keeps_the_score_where_the_variance_underflows(name):
    # At t_min the std is 1.1e-4 (subVP), 1.3e-4 (VE): float16 has no square of these, only 0.
    sde = SDES[name]
    t, x = torch.tensor(sde.t_min), torch.zeros(1, 1, dtype=torch.float16)
    x0 = torch.full_like(x, 1e-6)
    want = x0.double() / sde.std(t).double().square()
    for score in (from_x0(lambda t, x: x0, sde), from_edm(lambda x, level: x0, sde)):
        # x0 and std are subnormal or nearly: 6e-8 apart, a twentieth of x0 and 5e-4 of std.
        torch.testing.assert_close(score(t, x).double(), want, rtol=2e-2, atol=0.0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_edm_level_is_not_rounded_to_half_precision(dtype):
    seen = []

    def denoiser(x, level):
        seen.append(level)
        return x

    sde, t = VE("edm"), torch.tensor(0.997, dtype=DOUBLE)
    from_edm(denoiser, sde)(t.float() if dtype != DOUBLE else t, torch.ones(1, 1, dtype=dtype))
    wanted = DOUBLE if dtype == DOUBLE else torch.float32
    assert seen[0].dtype == wanted
    torch.testing.assert_close(seen[0], t.to(wanted), rtol=1e-6, atol=0.0)
