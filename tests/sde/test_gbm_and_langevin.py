"""Equations that are not affine with additive noise: GBM and the double well."""

from __future__ import annotations

import pytest
import torch
from scipy.integrate import solve_ivp
from scipy.stats import lognorm

from sdekit.sde import GBM, DoubleWell
from sdekit.solve.trajectory import trace_transition
from sdekit.solve.transition import Transition
from sdekit.solvers import SOLVERS, Equation

DOUBLE = torch.float64


def test_gbm_moments_solve_moment_equations():
    mu, sigma = 0.3, 0.6
    sde = GBM(mu, sigma)
    # m' = mu m, q' = (2 mu + sigma^2) q for the second moment q.
    end = solve_ivp(
        lambda _, y: [mu * y[0], (2 * mu + sigma**2) * y[1]],
        (0.2, 1.5),
        [-2.0, 4.0],
        rtol=1e-11,
        atol=1e-13,
    ).y[:, -1]
    law = sde.transition(0.2, 1.5, torch.tensor([[-2.0]], dtype=DOUBLE))
    assert law.mean.item() == pytest.approx(end[0], rel=1e-8)
    assert law.var.item() == pytest.approx(end[1] - end[0] ** 2, rel=1e-8)


def test_gbm_density_is_log_normal():
    mu, sigma, t = 0.3, 0.6, 0.8
    sde = GBM([mu, 0.0], [sigma, 0.2])
    x = torch.tensor([[2.0, 1.0], [-2.0, 1.0], [2.0, 1.0]], dtype=DOUBLE)
    y = torch.tensor([[2.5, 0.9], [-1.5, 1.2], [-0.1, 1.0]], dtype=DOUBLE)
    got = sde.transition_log_prob(0.0, t, x, y)
    for i in range(2):
        want = sum(
            lognorm.logpdf(
                abs(float(y[i, d])),
                s=s * t**0.5,
                scale=abs(float(x[i, d])) * float(torch.tensor((m - s * s / 2) * t).exp()),
            )
            for d, (m, s) in enumerate([(mu, sigma), (0.0, 0.2)])
        )
        assert got[i].item() == pytest.approx(want, rel=1e-6)
    assert got[2] == -torch.inf


def test_gbm_exact_path_solves_the_equation():
    # Ito's formula for x = F(t, W): dF/dt + F_WW / 2 = mu F, F_W = sigma F.
    sde = GBM(0.3, 0.6)
    x = torch.tensor([[1.7]], dtype=DOUBLE)
    t = torch.tensor(0.9, dtype=DOUBLE, requires_grad=True)
    w = torch.tensor([[0.4]], dtype=DOUBLE, requires_grad=True)
    end = sde.exact(torch.tensor(0.0, dtype=DOUBLE), t, x, w)
    in_t, in_w = torch.autograd.grad(end.sum(), (t, w), create_graph=True)
    (in_ww,) = torch.autograd.grad(in_w.sum(), w)
    torch.testing.assert_close(in_t + 0.5 * in_ww.sum(), sde.drift(t, end).sum())
    torch.testing.assert_close(in_w, sde.diffusion(t, end))


def test_gbm_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="sigma must be 0 or more"):
        GBM(0.0, -0.1)
    with pytest.raises(ValueError, match="they must agree"):
        GBM([0.1, 0.2]).drift(0.0, torch.ones(4, 3))
    with pytest.raises(TypeError, match="write torch"):
        GBM().transition(0.0, 1.0, [1.0])


def test_samples_without_event_axes():
    x, y = torch.tensor([2.0, 1.0]), torch.tensor([2.5, -1.0])
    for call in (
        lambda x, y: GBM(0.3, 0.6).transition_log_prob(0.0, 0.8, x, y),
        lambda x, y: DoubleWell().log_density(x),
    ):
        torch.testing.assert_close(call(x, y), call(x.view(2, 1), y.view(2, 1)))


def test_double_well_balances_in_its_stationary_law():
    sde = DoubleWell(height=1.5, temperature=0.4)
    x = torch.linspace(-2, 2, 41, dtype=DOUBLE).view(-1, 1).requires_grad_()
    (slope,) = torch.autograd.grad(sde.potential(x).sum(), x)
    t = torch.tensor(0.0, dtype=DOUBLE)
    torch.testing.assert_close(sde.drift(t, x), -slope)
    (score,) = torch.autograd.grad(sde.log_density(x).sum(), x)
    torch.testing.assert_close(sde.stationary_score(x), score)
    # No flux: f p = (g^2 / 2) p', that is f = g^2 score / 2.
    torch.testing.assert_close(sde.drift(t, x), 0.5 * sde.diffusion(t, x) ** 2 * score)
    assert sde.potential(torch.tensor([0.0, 1.0, -1.0])).tolist() == [1.5, 0.0, 0.0]
    with pytest.raises(ValueError, match="temperature must be above 0"):
        DoubleWell(temperature=0.0)


def test_which_values_of_parameters_are_one_kernel():
    """A tensor's value never makes another; a number does where it is folded into the form."""

    def kernel(mu, sigma=0.3):
        x, t = torch.ones(5, 1), torch.zeros(())
        transition = Transition(Equation(GBM(mu, sigma)), SOLVERS["sriw1"], {}, None)
        return trace_transition(transition, (x,), t, None).key

    tensors = {kernel(torch.tensor(mu), torch.tensor(0.3)) for mu in (0.7, 0.0, 1.0, 4 / 3)}
    assert len(tensors) == 1
    assert kernel(0.7) == kernel(0.2) == kernel(-5.0)
    assert kernel(0.7) != kernel(1.0)
    assert kernel(0.7) != kernel(0.0)
