"""Equations made of two functions: what their values may look like, and what they do not change."""

from __future__ import annotations

import pytest
import torch

import sdekit as sk


class Plain:
    def __init__(self, drift, diffusion, **attributes):
        self.drift, self.diffusion = drift, diffusion
        self.__dict__.update(attributes)


@pytest.mark.parametrize("noise_type", ["additive", "diagonal"])
@pytest.mark.parametrize("method", ["euler_maruyama", "heun"])
def test_a_diffusion_a_component_stays_one_for_every_size_of_the_batch(noise_type, method):
    """As many samples as components: a vector is still one entry a component, as in torch."""
    sigma = torch.tensor([0.0, 1.0, 5.0])
    kind = {"noise_type": noise_type}
    kind["interpretation"] = "stratonovich" if method == "heun" else "ito"
    sde = Plain(lambda t, x: -x, lambda t, x: sigma, **kind)
    whole = sk.solve(sde, torch.ones(4, 3), steps=3, method=method, seed=1).x
    part = sk.solve(sde, torch.ones(3, 3), steps=3, method=method, seed=1).x
    assert torch.equal(whole[:3], part)
    assert torch.equal(part[:, 0], part[0, 0].expand(3)) and part[:, 2].std() > 0
    sk.solve(sde, torch.ones(2, 4, 3), steps=3, method=method)


@pytest.mark.parametrize("noise_type", ["additive", "diagonal"])
def test_a_diffusion_a_sample(noise_type):
    g = torch.linspace(0, 1, 5)[:, None]
    sde = Plain(lambda t, x: -x, lambda t, x: g, noise_type=noise_type)
    sol = sk.solve(sde, torch.ones(5, 3), steps=2)
    assert torch.allclose(sol.x[0], torch.tensor(0.25)) and (sol.x[1:] != 0.25).all()


@pytest.mark.parametrize("backend", ["auto", "torch"])
@pytest.mark.parametrize("method", ["euler_maruyama", "heun"])
def test_parameters_of_another_type_do_not_change_the_states(method, backend):
    sde = Plain(lambda t, x: -x.double(), lambda t, x: torch.ones_like(x), noise_type="additive")
    x0 = torch.ones(5, 3)
    sol = sk.solve(sde, x0, steps=3, method=method, backend=backend, save_at=[0.0, 0.1, 1.0])
    assert sol.x.dtype == x0.dtype


@pytest.mark.parametrize("noise_type", ["additive", "diagonal", "scalar", "general"])
def test_an_ode_of_any_declared_noise(noise_type):
    shape = (5, 3, 2) if noise_type == "general" else (5, 3)
    sde = Plain(
        lambda t, x: -x,
        lambda t, x: torch.zeros(shape),
        noise_type=noise_type,
        deterministic=True,
    )
    for method, factor in (("euler_maruyama", 0.5), ("heun", 0.625)):
        sol = sk.solve(sde, torch.ones(5, 3), t1=0.5, steps=1, method=method)
        assert torch.equal(sol.x, torch.full((5, 3), factor))
