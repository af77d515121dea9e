"""The variational bound where some components hardly vary, as the background of images does."""

from __future__ import annotations

import pytest
import sdekit_kernels
import torch

from sdekit.likelihood.sde_elbo import elbo
from sdekit.score import Gaussian
from sdekit.sde import VE, VP

STD = torch.full((200,), 2e-3, dtype=torch.float64)
STD[::4] = 0.9


@pytest.mark.parametrize(("of", "sde"), [("t_min", VP()), ("data", VE("edm"))], ids=["vp", "ve"])
def test_components_that_hardly_vary(of, sde):
    # 50 components of std 0.9 and 150 of std 0.002, under their exact score. The noise of 150
    # components, sqrt(2 150) per unit of log n, cannot be told from theirs over 12 units: 9 nats
    # from 512 draws, of which a third looks there. Without that third: off by 170 to 3,000.
    score = Gaussian(torch.zeros_like(STD), STD, sde)
    z = sdekit_kernels.normal((6, 200), seed=3, stream=9, dtype=torch.float64)
    x = STD * z
    exact = score.log_prob(torch.tensor(sde.t_min_likelihood, dtype=torch.float64), x)
    found, error = elbo(sde, score, x, of=of, draws=512, data_std=0.5)
    assert error.max() < 15.0
    # Gaussian data under their exact score: the bound is the value but for the prior's share.
    assert ((found - exact).abs() < 5.0 * error + 1.0).all()
