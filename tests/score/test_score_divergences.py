"""Closed divergences of exact scores, beside the trace of their Jacobians."""

from __future__ import annotations

import pytest
import torch
from torch.func import jvp

from sdekit.score import Gaussian, GaussianMixture
from sdekit.sde import OU, VE, VP, Brownian, SubVP

DOUBLE = torch.float64
SDES = {
    "ou": OU(1.3, 0.7, 0.9),
    "ou_components": OU([0.5, -0.3], [0.7, 0.1], [0.9, 1.2]),
    "brownian": Brownian(1.7),
    "vp": VP(),
    "subvp": SubVP(),
    "ve": VE(),
}
COV = torch.tensor([[1.0, 0.6], [0.6, 0.5]], dtype=DOUBLE)
MEANS = torch.tensor([[1.0, -2.0], [-1.5, 0.5], [0.0, 3.0]], dtype=DOUBLE)
STDS = torch.tensor([[0.3, 0.4], [0.2, 0.8], [1.0, 0.1]], dtype=DOUBLE)
WEIGHTS = torch.tensor([0.5, 0.3, 0.2], dtype=DOUBLE)


def models(sde):
    made = {
        "gaussian": Gaussian([0.5, -1.0], [0.7, 0.2], sde),
        "numbers": Gaussian(0.5, 0.7, sde),
        "mixture": GaussianMixture(MEANS, STDS, WEIGHTS, sde),
        "isotropic": GaussianMixture(MEANS, [0.5, 0.1, 0.9], None, sde),
        "one": GaussianMixture(MEANS[:1], STDS[:1], None, sde),
    }
    if sde.event_shape is None:
        made["covariance"] = Gaussian([0.5, -1.0], sde=sde, cov=COV)
    return made


def trace(model, t, x):
    columns = []
    for j in range(x.shape[1]):
        v = torch.zeros_like(x)
        v[:, j] = 1.0
        columns.append(jvp(lambda y: model(t, y), (x,), (v,))[1][:, j])
    return sum(columns)


@pytest.mark.parametrize("name", SDES)
def test_divergence_is_the_trace_of_the_jacobian(name):
    sde = SDES[name]
    x = torch.randn(4, 2, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    for t in (torch.tensor([0.0, 0.01, 0.4, 1.0], dtype=DOUBLE), torch.tensor(0.3, dtype=DOUBLE)):
        for model in models(sde).values():
            got = model.divergence(t * sde.T, x)
            assert got.shape == (4,) and got.dtype == DOUBLE
            torch.testing.assert_close(got, trace(model, t * sde.T, x), rtol=1e-10, atol=1e-10)
            single = model.divergence(t.float() * sde.T, x.float())
            assert single.dtype == torch.float32
            assert model.divergence(t if t.ndim == 0 else t[:0], x[:0]).shape == (0,)


def test_float32_between_the_components():
    # Far apart and narrow: sum_k r_k |s_k|^2 - |s|^2 would be a difference of two 4e6 (2 in
    # float32's last place or so); the spread about s has no such loss.
    sde = VP()
    model = GaussianMixture([[-1.0, 0.0], [-1.02, 0.0]], 0.001, None, sde)
    x = torch.tensor([[0.0, 0.5], [1.0, -0.3], [-1.01, 0.0]], dtype=DOUBLE)
    t = torch.tensor(1e-5, dtype=DOUBLE)
    want = model.divergence(t, x)
    torch.testing.assert_close(want, trace(model, t, x), rtol=1e-7, atol=1e-3)
    # The time goes in as float64 would: its rounding moves the variances by 1e-7.
    got = model.divergence(t.float(), x.float()).double()
    torch.testing.assert_close(got[:2], want[:2], rtol=1e-4, atol=0.0)


def test_events_of_any_shape_in_high_dimension():
    g = torch.Generator().manual_seed(0)
    means = torch.randn(5, 28, 28, generator=g, dtype=DOUBLE)
    stds = 0.1 + torch.rand(5, 28, 28, generator=g, dtype=DOUBLE)
    x = means[:3] + stds[:3] * torch.randn(3, 28, 28, generator=g, dtype=DOUBLE)
    t = torch.tensor([0.01, 0.5, 0.9], dtype=DOUBLE)
    sde = VP()
    flat = GaussianMixture(means.flatten(1), stds.flatten(1), None, sde)
    image = GaussianMixture(means, stds, None, sde)
    want = trace(flat, t, x.flatten(1))
    torch.testing.assert_close(image.divergence(t, x), want, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(
        image.divergence(t.float(), x.float()).double(), want, rtol=1e-4, atol=0
    )


def test_wrong_events_are_refused():
    sde = VP()
    for model in (Gaussian([0.0, 1.0], 1.0, sde), GaussianMixture(MEANS, 1.0, None, sde)):
        with pytest.raises(ValueError, match=r"\(B, 2\)"):
            model.divergence(torch.tensor(0.5), torch.ones(2, 3))
