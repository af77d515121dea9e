"""Derivatives of coefficients: the same by torch.autograd, which is quick to load, and by vjp."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch.func import vjp, vmap

from sdekit.sde.derivatives import value_and_slope

X = torch.linspace(-1.0, 2.0, 6, dtype=torch.float64).reshape(3, 2)
with torch.inference_mode():
    RATE = torch.full((2,), 3.0, dtype=torch.float64)


def changed_in_place(x):
    y = x.clone()
    y[:, :1] += 2.0
    return y * torch.sin(y)


FUNCTIONS = {
    "smooth": lambda x: torch.sin(x) * torch.exp(-x * x),
    "changed in place": changed_in_place,
    "the state itself": lambda x: x,
    "constant": lambda x: torch.ones_like(x),
    "detached": lambda x: 2.0 * x.detach(),
    "a parameter of inference mode": lambda x: x * RATE,
    "broken off in part": lambda x: x * x.detach(),
}


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_value_and_slope_are_those_of_vjp(name, mode):
    function = FUNCTIONS[name]
    with mode():
        value, slope = value_and_slope(function, X, name)
        wanted, pull = vjp(function, X)
        assert torch.equal(value, wanted)
        assert torch.equal(slope, pull(torch.ones_like(wanted))[0])
    assert not value.requires_grad and not slope.requires_grad


def test_of_a_state_that_inference_mode_made():
    with torch.inference_mode():
        x = X.clone()
    with torch.no_grad():
        slope = value_and_slope(torch.square, x, "square")[1]
    assert torch.equal(slope, 2.0 * X)


def test_it_is_differentiated_again_where_gradients_are_recorded():
    x = X.clone().requires_grad_()
    value_and_slope(torch.sin, x, "sin")[1].sum().backward()
    torch.testing.assert_close(x.grad, -torch.sin(X))


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad])
def test_under_another_transform(mode):
    with mode():
        slopes = vmap(lambda row: value_and_slope(torch.sin, row, "sin")[1])(X)
    torch.testing.assert_close(slopes, torch.cos(X))


def test_what_fails_says_so():
    def no_torch(x):
        return torch.from_numpy(x.numpy() ** 2)

    with torch.no_grad(), pytest.raises(TypeError, match="the noise has no gradient"):
        value_and_slope(no_torch, X, "the noise")


def test_a_solve_with_derivatives_loads_no_compiler():
    """It is more than a second of imports, in each process."""
    code = (
        "import sys, torch, sdekit as sk; x = torch.ones(9, 1);"
        "sk.solve(sk.GBM(0.1, 0.3), x, steps=2, method='milstein', seed=0);"
        "sk.solve(sk.to_stratonovich(sk.DoubleWell()), x, steps=2, method='heun', seed=0);"
        "assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
