"""Time reversal: the laws on the way back are the laws on the way there, for every eta."""

from __future__ import annotations

import math
from typing import ClassVar

import pytest
import torch
from scipy.integrate import solve_ivp

from sdekit.score import Gaussian
from sdekit.sde import GBM, OU, SDE, VE, VP, Brownian, MatrixOU, ProbabilityFlow, ReverseSDE, SubVP

DOUBLE = torch.float64
SDES = {
    "ou": OU(1.3, 0.7, 0.9),
    "brownian": Brownian(1.7),
    "vp": VP(),
    "subvp": SubVP(),
    "ve": VE(sigma_max=5.0),
    "ve_edm": VE("edm", sigma_max=3.0),
}


def moments(reverse: SDE, t: float) -> tuple[float, float, float]:
    """Slope, constant and squared diffusion of an affine equation, read off its own methods."""
    time = torch.tensor(t, dtype=DOUBLE)
    zero = torch.zeros(1, 1, dtype=DOUBLE)
    constant = reverse.drift(time, zero)
    slope = reverse.drift(time, zero + 1.0) - constant
    return float(slope), float(constant), float(reverse.diffusion(time, zero)) ** 2


@pytest.mark.parametrize("name", SDES)
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0, "flow"])
def test_gaussian_law_is_kept_backwards(name, eta):
    sde = SDES[name]
    score = Gaussian(0.4, 0.6, sde)
    reverse = ProbabilityFlow(sde, score) if eta == "flow" else ReverseSDE(sde, score, eta)

    def rate(t, mv):
        # With dt < 0 noise still adds: dv = 2 k v dt + g^2 |dt|.
        k, c, g2 = moments(reverse, t)
        return [k * mv[0] + c, 2 * k * mv[1] - g2]

    def law(t):
        alpha, std = (
            float(v(torch.tensor(t, dtype=DOUBLE))) for v in (sde.mean_coefficient, sde.std)
        )
        return float(sde.offset) + alpha * (0.4 - float(sde.offset)), (alpha * 0.6) ** 2 + std**2

    low = 0.05 * sde.T
    end = solve_ivp(rate, (sde.T, low), law(sde.T), rtol=1e-9, atol=1e-11).y[:, -1]
    assert end == pytest.approx(law(low), rel=1e-6)


class Coupled(SDE):
    """Diagonal or scalar noise whose every entry depends on every component."""

    noise_type: ClassVar = "diagonal"

    def __init__(self, noise_type):
        self.noise_type = noise_type
        self.mix = torch.tensor([[0.7, 0.2, -0.1], [0.3, -0.5, 0.4], [0.1, 0.6, 0.2]], dtype=DOUBLE)

    def drift(self, t, x):
        return torch.sin(x) - t * x

    def diffusion(self, t, x):
        return 1.0 + 0.5 * torch.tanh(x @ self.mix.mT + t)


def density(x):
    """log of some smooth density, not of any special form."""
    return -0.5 * x.square().sum(-1) - 0.1 * x[..., 0] * x[..., 1] ** 2 + 0.2 * torch.cos(x[..., 2])


def density_score(t, x):
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        return torch.autograd.grad(density(x).sum(), x)[0]


@pytest.mark.parametrize("noise_type", ["diagonal", "scalar"])
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad])
def test_flow_is_the_velocity_of_probability(noise_type, mode):
    # Fokker-Planck: dp/dt = -div(p v), p v_i = f_i p - 1/2 sum_j d_j (p (G G^T)_ij).
    sde = Coupled(noise_type)
    t = torch.tensor(0.3, dtype=DOUBLE)
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)

    def weighted(y):
        g = sde.diffusion(t, y)
        square = g.square().diag() if noise_type == "diagonal" else torch.outer(g, g)
        return density(y).exp() * square

    with mode():
        got = ProbabilityFlow(sde, density_score).drift(t, x)
        anderson = ReverseSDE(sde, density_score).drift(t, x)
    for b in range(5):
        jacobian = torch.autograd.functional.jacobian(weighted, x[b])
        half = 0.5 * jacobian.diagonal(dim1=1, dim2=2).sum(1) / density(x[b]).exp()
        torch.testing.assert_close(got[b], sde.drift(t, x[b]) - half)
        torch.testing.assert_close(anderson[b], sde.drift(t, x[b]) - 2 * half)


def test_samples_without_event_axes_and_empty_batches():
    t = torch.tensor(0.3, dtype=DOUBLE)
    x = torch.tensor([0.4, 1.2, -0.7], dtype=DOUBLE)
    for how in ("exact", "elementwise"):
        reverse = ReverseSDE(GBM(0.2, 0.5), lambda t, x: -x, noise_divergence=how)
        torch.testing.assert_close(reverse.drift(t, x), reverse.drift(t, x.view(3, 1)).view(3))
        assert reverse.drift(t, x[:0].view(0, 1)).shape == (0, 1)


@pytest.mark.parametrize("how", ["exact", "elementwise"])
def test_flow_of_gbm_moves_quantiles(how):
    mu, sigma, m0, s0 = 0.2, 0.5, 0.1, 0.3
    sde = GBM(mu, sigma)

    def score(t, x):
        mean, var = m0 + (mu - sigma**2 / 2) * t, s0**2 + sigma**2 * t
        return -(1.0 + (x.log() - mean) / var) / x

    flow = ProbabilityFlow(sde, score, noise_divergence=how)

    def rate(t, x):
        state = torch.from_numpy(x).view(1, -1)
        return flow.drift(torch.tensor(t, dtype=DOUBLE), state).view(-1).numpy()

    z = torch.linspace(-2, 2, 9, dtype=DOUBLE)
    start = (m0 + s0 * z).exp()
    end = solve_ivp(rate, (0.0, 1.0), start.numpy(), rtol=1e-10, atol=1e-12).y[:, -1]
    want = m0 + mu - sigma**2 / 2 + math.sqrt(s0**2 + sigma**2) * z
    torch.testing.assert_close(torch.from_numpy(end).log(), want, rtol=1e-7, atol=1e-8)


def test_capabilities():
    sde = VP()
    score = Gaussian(0.0, 1.0, sde)
    x, t = torch.ones(2, 3), torch.tensor(0.5)
    full, half, flow = (
        ReverseSDE(sde, score),
        ReverseSDE(sde, score, 0.5),
        ProbabilityFlow(sde, score),
    )
    assert (full.noise_type, full.deterministic, full.interpretation) == ("additive", False, "ito")
    torch.testing.assert_close(half.diffusion(t, x), 0.5 * sde.diffusion(t, x))
    for ode in (flow, ReverseSDE(sde, score, 0.0)):
        assert (ode.noise_type, ode.deterministic) == ("additive", True)
        assert float(ode.diffusion(t, x)) == 0.0
        torch.testing.assert_close(ode.drift(t, x), flow.drift(t, x))
    assert ReverseSDE(GBM(), score).noise_type == "diagonal"
    # A fixed column of scalar noise: no divergence to take, and none is taken on request.
    scalar = Coupled("scalar")
    exact = ReverseSDE(scalar, score, noise_divergence="zero").drift(t.double(), x.double())
    g, s = scalar.diffusion(t, x.double()), score(t, x.double())
    want = scalar.drift(t, x.double()) - g * (g * s).sum(1, keepdim=True)
    torch.testing.assert_close(exact, want)


class Stratonovich(Coupled):
    interpretation: ClassVar = "stratonovich"


SCORE = Gaussian(0.0, 1.0, VP())
BAD = [
    (lambda: ReverseSDE(MatrixOU(torch.eye(2), sigma=torch.eye(2)), SCORE), ValueError, "general"),
    (lambda: ReverseSDE(VP(), SCORE, -0.5), ValueError, "eta must be finite and zero or more"),
    (lambda: ReverseSDE(VP(), None), TypeError, "score must be callable"),
    (lambda: ProbabilityFlow(object(), SCORE), TypeError, "drift"),
    (lambda: ReverseSDE(Stratonovich("diagonal"), SCORE), ValueError, "Ito form"),
    (lambda: ReverseSDE(GBM(), SCORE, noise_divergence="exakt"), ValueError, "'exact'"),
    (
        lambda: ReverseSDE(Coupled("scalar"), SCORE, noise_divergence="elementwise"),
        ValueError,
        "diagonal noise",
    ),
    (
        lambda: ReverseSDE(VP(), lambda t, x: x[:, :1]).drift(torch.tensor(0.5), torch.ones(2, 3)),
        ValueError,
        r"score returned shape \(2, 1\)",
    ),
]


@pytest.mark.parametrize(("call", "error", "says"), BAD)
def test_bad_input_says_what_is_needed(call, error, says):
    with pytest.raises(error, match=says):
        call()
