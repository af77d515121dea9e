"""What is refused, and what is said where a density is not to be trusted."""

from __future__ import annotations

import math
import warnings

import pytest
import torch

import sdekit as sk
from sdekit.fokker_planck import fokker_planck
from tests.fokker_planck.laws import DOUBLE, edges, vector

OU = sk.OU(1.3, 0.2, 0.7)
GRID = edges(-3.0, 3.0, 30)


class Custom:
    """An equation of drift and diffusion given as functions."""

    def __init__(self, drift=None, diffusion=None, **attributes):
        self.f = drift or (lambda t, x: -x)
        self.g = diffusion or (lambda t, x: torch.ones_like(x))
        self.__dict__.update(attributes)

    def drift(self, t, x):
        return self.f(t, x)

    def diffusion(self, t, x):
        return self.g(t, x)


BAD = {
    "no equation": (dict(sde=3.0), TypeError, "drift"),
    "backward": (dict(sde=Custom(time_direction="backward")), ValueError, "forward equation"),
    "three dimensions": (dict(grid=(GRID,) * 3), ValueError, "one and two dimensions"),
    "grid of numbers": (dict(grid=[0.0, 1.0]), TypeError, "torch.linspace"),
    "grid of none": (dict(grid=()), ValueError, "one and two dimensions"),
    "decreasing": (dict(grid=GRID.flip(0)), ValueError, r"edge 0 is 3\.0 and edge 1 is 2\.8"),
    "an edge twice": (dict(grid=vector(0.0, 1.0, 1.0, 2.0, 3.0)), ValueError, "edge 1 is 1.0"),
    "few cells": (dict(grid=edges(0.0, 1.0, 3)), ValueError, "at least 4 cells, got 3"),
    "infinite": (dict(grid=vector(0.0, 1.0, 2.0, 3.0, math.inf)), ValueError, "finite"),
    "matrix": (dict(grid=GRID.view(1, -1)), ValueError, "1-d"),
    "wrong dimension": (dict(sde=sk.MatrixOU(torch.eye(2))), ValueError, "2 components"),
    "p0 of text": (dict(p0="normal"), TypeError, "function of x"),
    "p0 of integers": (dict(p0=torch.ones(30, dtype=torch.int64)), TypeError, "floating"),
    "p0 of another shape": (dict(p0=torch.ones(29)), ValueError, r"shape \(30,\)"),
    "p0 negative": (dict(p0=lambda x: x[:, 0]), ValueError, "must not be negative"),
    "p0 infinite": (dict(p0=lambda x: x[:, 0] / 0.0), ValueError, "finite"),
    "p0 zero": (dict(p0=torch.zeros(30)), ValueError, "mass above zero"),
    "p0 of columns": (dict(p0=lambda x: x.exp()), ValueError, r"shape \(30,\), got \(30, 1\)"),
    "p0 of numbers": (dict(p0=lambda x: 1.0), ValueError, "float"),
    "point outside": (dict(p0=vector(3.5)), ValueError, "outside the grid"),
    "no times": (dict(times=[]), ValueError, "empty"),
    "before t0": (dict(times=[0.5], t0=1.0), ValueError, "before t0"),
    "times back": (dict(times=[0.5, 0.4]), ValueError, "must increase"),
    "one time": (dict(times=0.5), TypeError, "sequence"),
    "boundary": (dict(boundary="absorb"), ValueError, "absorbing"),
    "three boundaries": (dict(boundary=("far",) * 3), ValueError, "lower and an upper"),
    "scheme": (dict(scheme="implicit"), ValueError, "linear"),
    "tolerance": (dict(tolerance=0.0), ValueError, "tolerance"),
    "max_step": (dict(max_step=-1.0), ValueError, "max_step"),
    "singular drift": (
        dict(sde=Custom(lambda t, x: 1.0 / x.clamp(min=0.0))),
        ValueError,
        r"Custom.drift is not finite at x = \[-2.9\], t = 0",
    ),
    "singular noise": (dict(sde=Custom(diffusion=lambda t, x: x.sqrt())), ValueError, "diffusion"),
    "noise that is not additive": (
        dict(sde=Custom(diffusion=lambda t, x: x, noise_type="additive")),
        ValueError,
        "depends on x",
    ),
    "drift of another shape": (dict(sde=Custom(lambda t, x: x[:, 0])), ValueError, "shape"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    arguments, error, says = BAD[name]
    with pytest.raises(error, match=says):
        fokker_planck(**({"sde": OU, "p0": vector(0.0), "grid": GRID, "times": [0.5]} | arguments))


def test_far_walls_that_are_reached_are_told_of():
    """And the grid that is advised is wide enough."""
    with pytest.warns(UserWarning, match=r"x\[0\] at the upper end, 1, .*extend the grid") as seen:
        fokker_planck(OU, vector(0.0), edges(-3.0, 1.0, 60), [1.0])
    advice = float(str(seen[0].message).split("there by ")[1].split(". If")[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fokker_planck(OU, vector(0.0), edges(-3.0, 1.0 + advice, 90), [1.0])
        for boundary in ("reflecting", "absorbing", ("far", "reflecting")):
            fokker_planck(OU, vector(0.0), edges(-3.0, 1.0, 60), [1.0], boundary=boundary)
    with pytest.warns(UserWarning, match="does not fall"):
        fokker_planck(sk.Brownian(1.0), vector(0.0), edges(-3.0, 3.0, 40), [100.0])


def test_diffusion_that_is_added_is_told_of():
    """Noise along one line, 10 degrees from an axis; none along the diagonal of the cells."""
    x = edges(-2.0, 2.0, 20)
    with pytest.warns(UserWarning, match=r"\d\.\d% of its diffusion was added"):
        sde = sk.MatrixOU(torch.eye(2), 0.0, torch.tensor([[1.0], [0.18]]))
        fokker_planck(sde, vector(0.0, 0.0), (x, x), [0.1], boundary="reflecting")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sde = sk.MatrixOU(torch.eye(2), 0.0, torch.tensor([[1.0], [0.5]]))
        fokker_planck(sde, vector(0.0, 0.0), (x, 0.5 * x), [0.1], boundary="reflecting")


def test_singular_walls_are_not_looked_at():
    """dx = 1 / x dt + dW on (0, 6): Bessel's process of dimension 3, x^2 / 3t of mean 1."""
    e = edges(0.0, 8.0, 200)
    d = fokker_planck(
        Custom(lambda t, x: 1.0 / x), vector(1.0), e, [1.0], boundary=("reflecting", "far")
    )
    second = float(d.var() + d.mean() ** 2)
    assert abs(second - 4.0) < 1e-2
    with pytest.raises(ValueError, match="not finite at x"):
        fokker_planck(
            Custom(lambda t, x: 1.0 / x), vector(1.0), e, [1.0], boundary=("absorbing", "far")
        )


def test_schemes_are_in_the_result():
    d = fokker_planck(OU, vector(0.0), GRID, [1.0])
    assert d.scheme == "linear" and "drift dominates" in d.reason and d.steps == 1
    d = fokker_planck(OU, vector(0.0), GRID, [1.0], scheme="limited")
    assert d.scheme == "limited" and d.reason == "asked for by name"
    still = Custom(deterministic=True, diffusion=lambda t, x: torch.zeros_like(x))
    assert fokker_planck(still, vector(0.5), GRID, [1.0]).scheme == "limited"


def test_parameters_that_require_gradients_do_no_harm():
    theta = torch.tensor(1.3, requires_grad=True)
    d = fokker_planck(sk.OU(theta, 0.2, 0.7), vector(0.0).requires_grad_(), GRID, [1.0])
    assert not d.p.requires_grad and d.p.dtype == DOUBLE
