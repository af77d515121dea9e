"""Steps of samplers: published formulas, exact posteriors, and no wait for the device."""

from __future__ import annotations

import math

import pytest
import torch

from sdekit.score import Gaussian
from sdekit.sde import OU, VE, VP, Brownian, SubVP

DOUBLE = torch.float64
SDES = {
    "ou": OU(1.3, 0.7, 0.9),
    "ou_components": OU([0.5, -0.3], [0.7, 0.1], [0.9, 1.2]),
    "brownian": Brownian(1.7),
    "vp": VP(),
    "vp_cosine": VP("cosine"),
    "subvp": SubVP(),
    "ve": VE(),
    "ve_edm": VE("edm"),
}


def number(x: float) -> torch.Tensor:
    return torch.tensor(x, dtype=DOUBLE)


def close(given, want):
    for a, b in zip(given, want, strict=True):
        assert float(a) == pytest.approx(float(b), rel=1e-12)


def test_vp_formulas():
    t, t_next, dt = number(0.5), number(0.499), 0.001
    beta = (0.1 + 0.5 * 19.9) * dt
    close(
        VP().reverse_diffusion_coefficients(t, t_next), (2 - math.sqrt(1 - beta), beta, beta**0.5)
    )
    shrink = 1 / math.sqrt(1 - beta)
    close(VP().ancestral_coefficients(t, t_next), (shrink, beta * shrink, beta**0.5))
    assert float(VP().langevin_alpha(t, t_next)) == pytest.approx(1 - beta)
    assert float(SubVP().langevin_alpha(t, t_next)) == pytest.approx(1 - beta)


def test_ve_formulas():
    t, t_next = number(0.5), number(0.48)
    high, low = 0.01 * 5000**0.5, 0.01 * 5000**0.48
    b = high**2 - low**2
    close(VE().reverse_diffusion_coefficients(t, t_next), (1, b, b**0.5))
    close(VE().ancestral_coefficients(t, t_next), (1, b, math.sqrt(low**2 * b / high**2)))
    assert float(VE().langevin_alpha(t, t_next)) == 1.0


@pytest.mark.parametrize("name", ["ou", "brownian", "subvp"])
def test_reverse_diffusion_is_eulers_step_of_the_reverse_sde(name):
    sde = SDES[name]
    t, t_next = number(0.7), number(0.65)
    a, b, c = sde.reverse_diffusion_coefficients(t, t_next)
    x, score = torch.tensor([[0.4]], dtype=DOUBLE), -1.7
    g = sde.diffusion(t, x)
    want = x - (sde.drift(t, x) - g**2 * score) * 0.05
    torch.testing.assert_close(sde.uncentered(a * sde.centered(x) + b * score), want)
    torch.testing.assert_close(c.squeeze(), (g * math.sqrt(0.05)).squeeze())


@pytest.mark.parametrize("name", ["ou", "ou_components", "brownian", "subvp"])
@pytest.mark.parametrize(("t", "t_next"), [(0.9, 0.5), (0.3, 0.0)])
def test_ancestral_step_keeps_the_law_of_one_point_exactly(name, t, t_next):
    # Data that are one point: Tweedie's estimate is that point, so a step of any length is exact.
    sde = SDES[name]
    t, t_next = number(t), number(t_next)
    x0 = torch.tensor([[0.3, -1.1]], dtype=DOUBLE)
    score = Gaussian(x0[0], 0.0, sde)
    a, b, c = sde.ancestral_coefficients(t, t_next)

    def step(x):
        return sde.uncentered(a * sde.centered(x) + b * score(t, x))

    law, want = sde.marginal(t, x0), sde.marginal(t_next, x0)
    slope = step(law.mean + 1.0) - step(law.mean)
    torch.testing.assert_close(step(law.mean), want.mean, rtol=1e-12, atol=1e-12)
    var = slope.square() * law.var + c.square()
    torch.testing.assert_close(var, want.var, rtol=1e-12, atol=1e-12)


def test_ancestral_step_of_a_component_without_noise_is_its_flow():
    sde = OU(0.5, 0.0, [0.0, 0.9])
    a, b, c = sde.ancestral_coefficients(number(0.9), number(0.5))
    torch.testing.assert_close(a.squeeze(), number(math.exp(0.2)))
    assert b[0, 0] == c[0, 0] == 0.0
    close(c[0, 1:], OU(0.5, 0.0, 0.9).ancestral_coefficients(number(0.9), number(0.5))[2:])


@pytest.mark.parametrize("name", SDES)
def test_coefficients_converge_to_the_reverse_sde(name):
    # Reverse diffusion and ancestral steps are both (1 - a dt, g^2 dt, g sqrt(dt)) for dt -> 0.
    sde = SDES[name]
    t, dt = number(0.5 * sde.T), 1e-6 * sde.T
    a, g = sde.drift_rate(t), sde.diffusion_rate(t)
    for make in (sde.reverse_diffusion_coefficients, sde.ancestral_coefficients):
        scale, gain, noise = make(t, t - dt)
        torch.testing.assert_close((scale - 1) / dt, -a, rtol=1e-3, atol=1e-6)
        torch.testing.assert_close(gain / dt, g**2, rtol=1e-3, atol=0.0)
        torch.testing.assert_close(noise / math.sqrt(dt), g, rtol=1e-3, atol=0.0)


@pytest.mark.parametrize("name", SDES)
def test_no_value_is_read_on_the_way(name):
    # Tensors on the meta device have no values: reading one, or branching on it, raises.
    sde = SDES[name]
    for shape in ((), (5,)):
        t = torch.empty(shape, device="meta")
        x = torch.empty(5, 2, device="meta")
        for out in (
            *sde.reverse_diffusion_coefficients(t, t),
            *sde.ancestral_coefficients(t, t),
            sde.langevin_alpha(t, t),
            sde.drift(t, x),
            sde.diffusion(t, x),
            sde.marginal(t, x).mean,
            sde.tweedie(t, x, x),
            sde.prior_log_prob(x),
        ):
            assert out.is_meta


@pytest.mark.parametrize("name", SDES)
def test_tweedie_is_the_posterior_mean(name):
    sde = SDES[name]
    t = torch.tensor([0.2, 0.6, 1.0], dtype=DOUBLE) * sde.T
    data = Gaussian([0.3, -1.1], [0.8, 0.5], sde)
    x = torch.randn(3, 2, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    alpha = sde.mean_coefficient(t)
    alpha = alpha if alpha.ndim > 1 else alpha.view(3, 1)
    noise = sde.marginal(t, x).var
    prior_mean, prior_var = data.mean, data.std.square()
    gain = alpha * prior_var / (alpha**2 * prior_var + noise)
    want = prior_mean + gain * (sde.centered(x) - alpha * (prior_mean - sde.offset))
    torch.testing.assert_close(sde.tweedie(t, x, data(t, x)), want, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("sde", [VP(), SubVP()], ids=["vp", "subvp"])
def test_check_grid_says_how_many_steps(sde):
    grid = torch.linspace(1.0, 1e-3, 11)
    with pytest.raises(ValueError, match=r"write steps=20 or more") as error:
        sde.check_grid(grid)
    assert "beta(t) dt < 1" in str(error.value)
    sde.check_grid(torch.linspace(1.0, 1e-3, 21))
    sde.check_grid(torch.linspace(1.0, 1e-3, 1))
    for other in (VP("cosine"), VE(), OU()):
        other.check_grid(grid)
    a, b, c = VP("cosine").reverse_diffusion_coefficients(grid[:-1], grid[1:])
    assert all(torch.isfinite(v).all() for v in (a, b, c))
