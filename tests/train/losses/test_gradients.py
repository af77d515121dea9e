"""Losses that are equal up to a constant have equal gradients: all against one closed form.

At a time t, for s(x) = A x + b and x_t of mean mu and covariance C,

    E |s|^2 + 2 div s = |A mu + b|^2 + tr(A C A^T) + 2 tr A,

and denoising score matching exceeds that by D / sigma^2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from sdekit.sde import OU, VE, VP, AffineSDE, SubVP
from sdekit.train import (
    TimeSampler,
    denoising_score_matching,
    implicit_score_matching,
    sliced_score_matching,
)
from sdekit.train.losses.diffused import noise_like
from sdekit.train.losses.sliced import PROJECTIONS, draw_projections
from sdekit.train.weighting import WEIGHTINGS
from tests.train.losses.cases import DOUBLE, At, assert_mean, gradient_law, make_data

PLACES = [(VP(), 1, 0.3), (SubVP(), 2, 0.5), (VE(sigma_max=10.0), 3, 0.4), (VP(), 4, 0.15)]
LOSSES: dict[str, Callable[..., Tensor]] = {
    "dsm": denoising_score_matching,
    "ism": implicit_score_matching,
}
for _law in PROJECTIONS:
    for _reduced in (False, True):

        def _sliced(
            *args: Any, kind: str = _law, reduced: bool = _reduced, **kwargs: Any
        ) -> Tensor:
            return sliced_score_matching(
                *args, projections=kind, reduced=reduced, n_projections=2, **kwargs
            )

        LOSSES[f"ssm-{_law}{'-vr' if _reduced else ''}"] = _sliced


def linear(rows: Tensor, d: int) -> Callable[[Tensor, Tensor], Tensor]:
    """s = A x + b with each sample's own A and b, rows (n, d^2 + d)."""
    gain, shift = rows[:, : d * d].view(-1, d, d), rows[:, d * d :]
    return lambda _t, x: (gain @ x.unsqueeze(-1)).squeeze(-1) + shift


def a_theta(d: int) -> Tensor:
    """Some A and b, not symmetric, not the optimum."""
    return torch.linspace(-1.0, 0.6, d * d + d, dtype=DOUBLE)


def closed_form(sde: AffineSDE, d: int, t: float, theta: Tensor) -> Tensor:
    """E [|s|^2 + 2 div s] / D."""
    mu, cov = make_data(d).at(sde, torch.tensor(t, dtype=DOUBLE))
    gain, shift = theta[: d * d].view(d, d), theta[d * d :]
    mean = gain @ mu + shift
    whole = mean.square().sum() + (gain @ cov @ gain.mT).trace() + 2.0 * gain.trace()
    return whole / d


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(("sde", "d", "t"), PLACES, ids=["vp1", "subvp2", "ve3", "vp4"])
def test_value_and_gradient_are_those_of_the_closed_form(
    sde: AffineSDE, d: int, t: float, name: str
) -> None:
    n = 20000
    x0, theta = make_data(d).sample(n), a_theta(d)
    time = torch.tensor(t, dtype=DOUBLE)
    weight = float(WEIGHTINGS["likelihood"](sde, time))

    def loss(rows: Tensor) -> Tensor:
        return LOSSES[name](sde, linear(rows, d), x0, seed=4, weighting="likelihood", times=At(t))

    point = theta.clone().requires_grad_()
    value = weight * closed_form(sde, d, t, point)
    (want,) = torch.autograd.grad(value, point)
    constant = weight / float(sde.std(time)) ** 2 if name == "dsm" else 0.0
    found = loss(theta.expand(n, -1))
    assert found.shape == (n,)
    scale = float(want.norm())
    assert_mean(found, value.item() + constant, most=0.05 * (scale + constant))
    _, _, gradients = gradient_law(loss, theta, n)
    assert_mean(gradients, want, most=0.05 * scale)


@pytest.mark.parametrize("weighting", ["simple", "uniform", "min_snr", "lognormal"])
def test_implicit_and_denoising_agree_at_every_weighting(weighting: str) -> None:
    # Over all times from 0.1 on and for the same draws, the difference of the two gradients has the
    # mean zero: within 5 standard errors, themselves below 1 % of the gradient.
    sde, d, n = VP(), 2, 20000
    x0, theta = make_data(d).sample(n), a_theta(d)
    times = TimeSampler(sde, t_min=0.1)

    def difference(rows: Tensor) -> Tensor:
        net = linear(rows, d)
        given: dict[str, Any] = {"seed": 9, "weighting": weighting, "times": times}
        dsm = denoising_score_matching(sde, net, x0, **given)
        return dsm - implicit_score_matching(sde, net, x0, **given)

    _, _, gradients = gradient_law(difference, theta, n)
    whole, _, _ = gradient_law(
        lambda rows: denoising_score_matching(
            sde, linear(rows, d), x0, seed=9, weighting=weighting, times=times
        ),
        theta,
        n,
    )
    assert_mean(gradients, torch.zeros_like(theta), most=0.02 * float(whole.norm()))
    # The values differ by the mean of lambda / sigma^2, which is 1 for "simple".
    if weighting == "simple":
        assert_mean(difference(theta.expand(n, -1)), 1.0, most=0.02)


def test_implicit_gradient_is_that_of_a_written_out_divergence() -> None:
    # A nonlinear score: s_i = tanh(w_i . x), div s = sum_i (1 - s_i^2) w_ii. To rounding.
    sde, d, t = VP(), 3, 0.4
    x0 = make_data(d).sample(50)
    w = torch.linspace(-1, 1, d * d, dtype=DOUBLE).view(d, d).requires_grad_()
    seen: list[Tensor] = []

    def score(_t: Tensor, x: Tensor) -> Tensor:
        if not torch._C._functorch.is_functorch_wrapped_tensor(x):
            seen.append(x)
        return torch.tanh(x @ w.mT)

    found = implicit_score_matching(sde, score, x0, seed=1, weighting="uniform", times=At(t))
    denoising_score_matching(sde, score, x0, seed=1, times=At(t))
    s = torch.tanh(seen[-1] @ w.mT)
    want = (s.square() + 2.0 * (1.0 - s.square()) * w.diagonal()).sum(1) / d
    torch.testing.assert_close(found, want, rtol=1e-12, atol=1e-12)
    (left,) = torch.autograd.grad(found.sum(), w, retain_graph=True)
    (right,) = torch.autograd.grad(want.sum(), w)
    torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-12)


def test_parameters_per_component_have_weights_per_component() -> None:
    # Each component is an equation of its own: the loss is the mean of the losses of the two.
    sde = OU(theta=[1.0, 0.3], mu=0.0, sigma=[1.0, 2.0])
    x0 = make_data(2).sample(64)
    given: dict[str, Any] = {"seed": 2, "weighting": "likelihood", "times": At(0.5)}

    def score(_t: Tensor, x: Tensor) -> Tensor:
        return -0.7 * x - 0.1 * x**3

    ism = implicit_score_matching(sde, score, x0, **given)
    dsm = denoising_score_matching(sde, score, x0, **given)
    t = torch.tensor([0.5], dtype=DOUBLE)
    weight, std = WEIGHTINGS["likelihood"](sde, t), sde.std(t)
    z = noise_like(x0, seed=2, step=0)
    x = sde.mean_coefficient(t) * x0 + std * z
    s, slope = -0.7 * x - 0.1 * x**3, -0.7 - 0.3 * x**2
    torch.testing.assert_close(ism, (weight * (s.square() + 2.0 * slope)).mean(1))
    torch.testing.assert_close(dsm, (weight * (s + z / std).square()).mean(1))
    vr = sliced_score_matching(sde, score, x0, **given)
    # Rademacher directions see a diagonal Jacobian exactly.
    torch.testing.assert_close(vr, ism)


def test_the_reduced_form_has_less_variance_and_more_directions_less_still() -> None:
    sde, d = VP(), 4
    x0 = make_data(d).sample(20000)
    net = linear(a_theta(d).expand(20000, -1), d)

    def spread(**options: Any) -> float:
        each = sliced_score_matching(
            sde, net, x0, seed=6, times=At(0.3), projections="gaussian", **options
        )
        exact = implicit_score_matching(sde, net, x0, seed=6, times=At(0.3))
        return float((each - exact).square().mean())

    plain, reduced = spread(reduced=False), spread(reduced=True)
    assert reduced < 0.6 * plain
    # Given x the directions are independent: 8 of them have an eighth of the variance.
    assert spread(n_projections=8) == pytest.approx(reduced / 8, rel=0.1)


@pytest.mark.parametrize("kind", PROJECTIONS)
def test_projections_have_the_identity_as_their_covariance(kind: str) -> None:
    x = torch.zeros(40000, 3, dtype=DOUBLE)
    v = draw_projections(2, x, kind=kind, seed=1, step=3)
    assert v.shape == (2, 40000, 3)
    assert_mean(v[0].unsqueeze(2) * v[1].unsqueeze(1), torch.zeros(3, 3, dtype=DOUBLE), most=0.01)
    square = v[0].unsqueeze(2) * v[0].unsqueeze(1)
    off = square[:, [0, 0, 1], [1, 2, 2]]
    assert_mean(off, torch.zeros(3, dtype=DOUBLE), most=0.01)
    diagonal = square.diagonal(dim1=1, dim2=2)
    # Squares of normals have the variance 2; the others less.
    assert (diagonal.mean(0) - 1.0).abs().max() < 5 * (2 / 40000) ** 0.5
    if kind == "sphere":
        torch.testing.assert_close(v.square().sum(2), torch.full((2, 40000), 3.0, dtype=DOUBLE))
    if kind == "rademacher":
        assert bool((v.abs() == 1.0).all())
    assert not torch.equal(v, draw_projections(2, x, kind=kind, seed=1, step=4))
