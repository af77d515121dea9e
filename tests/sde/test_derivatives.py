"""Derivatives of coefficients: right, or refused; never a zero where torch lost sight of x."""

from __future__ import annotations

import pytest
import torch
from torch.func import vmap

import sdekit as sk
from sdekit.sde.derivatives import value_and_slope

X = torch.linspace(-1.0, 2.0, 6, dtype=torch.float64).reshape(3, 2)
MODES = [torch.enable_grad, torch.no_grad]


def inner_gradient(x):
    """x / 2, as scores and forces are often written."""
    with torch.enable_grad():
        y = x.detach().requires_grad_()
        return torch.autograd.grad((y * y / 4.0).sum(), y)[0]


LOST = {
    "the gradient of a detached copy": inner_gradient,
    "NumPy": lambda x: torch.from_numpy(x.numpy() * 0.5),
    "NumPy of a detached copy": lambda x: torch.from_numpy(x.detach().numpy() * 0.5),
    "NumPy in part": lambda x: x * torch.from_numpy(x.detach().numpy()),
}


def in_place(x):
    y = x.clone()
    y[:, :1] += 2.0
    return y * y


def slope_in_place(x):
    y = 2.0 * x.clone()
    y[:, :1] += 4.0
    return y


KNOWN = {
    "smooth": (torch.sin, torch.cos),
    "changed in place": (in_place, slope_in_place),
    "the state itself": (lambda x: x, torch.ones_like),
    "constant": (torch.ones_like, torch.zeros_like),
}


@pytest.mark.parametrize("mode", [*MODES, torch.inference_mode])
@pytest.mark.parametrize("name", KNOWN)
def test_value_and_slope(name, mode):
    function, derivative = KNOWN[name]
    with mode():
        value, slope = value_and_slope(function, X, name)
    torch.testing.assert_close(value, function(X))
    torch.testing.assert_close(slope, derivative(X))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", LOST)
def test_what_torch_cannot_see_into_is_refused(name, mode):
    with mode(), pytest.raises(TypeError, match="the noise has no gradient"):
        value_and_slope(LOST[name], X, "the noise")


class Lost:
    """dx = f(x) dW with one of the functions above."""

    noise_type, interpretation = "diagonal", "ito"

    def __init__(self, name):
        self.function = LOST[name]

    def drift(self, t, x):
        return -x

    def diffusion(self, t, x):
        return self.function(x)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("backend", ["auto", "torch"])
@pytest.mark.parametrize("name", LOST)
def test_a_solve_refuses_it_on_every_path(name, backend, mode):
    with mode(), pytest.raises(TypeError, match="diffusion has no gradient"):
        sk.solve(Lost(name), X, steps=2, method="milstein", seed=0, backend=backend)


def test_it_is_differentiated_again():
    x = X.clone().requires_grad_()
    value_and_slope(torch.sin, x, "sin")[1].sum().backward()
    torch.testing.assert_close(x.grad, -torch.sin(X))


def test_under_another_transform():
    slopes = vmap(lambda row: value_and_slope(torch.sin, row, "sin")[1])(X)
    torch.testing.assert_close(slopes, torch.cos(X))
