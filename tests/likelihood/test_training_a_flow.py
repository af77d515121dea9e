"""Maximum likelihood: a flow learns two moons to within 0.02 nats of their entropy."""

from __future__ import annotations

import math

import sdekit_kernels
import torch
from torch import nn
from torch.nn.functional import silu

from sdekit.likelihood import Flow, log_likelihood
from sdekit.likelihood.gradient import log_prob_with_gradient

NOISE = 0.15
MEAN, STD = torch.tensor([0.5, 0.25]), torch.tensor([0.87, 0.5])
"""Of the data, about: where the prior lies, so that the flow begins as a Gaussian fit."""


def normals(*shape, step, stream=0, first=0):
    return sdekit_kernels.normal(
        shape, seed=7, stream=stream, step=step, first_sample=first, dtype=torch.float64
    )


def arcs(angle):
    """The centres of both moons at these angles, (2, n, 2)."""
    upper = torch.stack([angle.cos(), angle.sin()], 1)
    return torch.stack([upper, torch.tensor([1.0, 0.5]).double() - upper])


def moons(n, step, first=0):
    """Draws: an angle uniform in [0, pi], either moon, Gaussian noise around it."""
    z = normals(n, 4, step=step, first=first)
    centres = arcs(math.pi * torch.special.ndtr(z[:, 0]))
    return torch.where(z[:, 1:2] > 0.0, *centres) + NOISE * z[:, 2:]


def log_density(x):
    """log p(x) of these draws, (n,): the integral over angles by the midpoint rule.

    400 nodes a moon are 0.008 apart, a 19th of the noise: the rule is exact to rounding inside the
    arcs, and to (0.05)^2 / 24 = 1e-4 of the density at their ends.
    """
    nodes = 400
    centres = arcs(math.pi * (torch.arange(nodes).double() + 0.5) / nodes).reshape(-1, 2)
    square = torch.cdist(x.double(), centres).square() / NOISE**2
    volume = 2.0 * math.pi * NOISE**2 * 2 * nodes
    return torch.logsumexp(-0.5 * square, 1) - math.log(volume)


def entropy():
    """-int p log p on a grid of step 0.02 that leaves seven deviations around the moons."""
    x, y = torch.arange(-2.1, 3.1, 0.02).double(), torch.arange(-1.6, 2.1, 0.02).double()
    grid = torch.cartesian_prod(x, y)
    log_p = torch.cat([log_density(part) for part in grid.split(8192)])
    mass = log_p.exp() * 0.02**2
    assert abs(float(mass.sum()) - 1.0) < 1e-6
    return float(-(mass * log_p).sum())


class Velocity(nn.Module):
    """A network of two inputs and the time, two hidden layers, that knows its divergence."""

    def __init__(self, width=64):
        super().__init__()
        self.first, self.second = nn.Linear(3, width), nn.Linear(width, width)
        self.last = nn.Linear(width, 2)
        with torch.no_grad():
            for j, p in enumerate(self.parameters()):
                p.copy_(normals(p.numel(), 1, step=0, stream=100 + j).view_as(p))
            for layer, gain in ((self.first, 3.0), (self.second, 1.0), (self.last, 0.1)):
                layer.weight.mul_(gain / layer.in_features**0.5)
            self.last.bias.zero_()

    def inner(self, t, x):
        return self.first(torch.cat([(x - MEAN) / STD, t.expand(len(x))[:, None]], 1))

    def forward(self, t, x):
        return STD * self.last(silu(self.second(silu(self.inner(t, x)))))

    def divergence(self, t, x):
        """sum_j d u_j / d x_j by the chain rule: both columns of the Jacobian at once."""
        value, slope = silu_and_slope(self.inner(t, x))
        columns = torch.cat([slope * self.first.weight[:, j] for j in range(2)])
        slope = silu_and_slope(self.second(value))[1].repeat(2, 1)
        one, two = (slope * (columns @ self.second.weight.T)).chunk(2)
        return one @ self.last.weight[0] + two @ self.last.weight[1]


def silu_and_slope(h):
    s = h.sigmoid()
    return h * s, s + h * s * (1.0 - s)


class Gaussian:
    """The prior, with the data's own mean and size."""

    def log_prob(self, x):
        square = ((x - MEAN) / STD).square().sum(1)
        return -0.5 * square - math.log(2.0 * math.pi) - float(STD.log().sum())


def train(network, flow, *, steps, batch, rate):
    """Minimize -log p of fresh draws: Adam, its rate warmed up and let go along a cosine.

    Gradients go through the solver at a loose tolerance: they are exact for its sum at any, and an
    error of 1e-2 in a log p is far below the noise of a batch. At the end the number that the test
    reads is of a tight tolerance, so an error that training had exploited would show.
    """
    optimizer = torch.optim.Adam(network.parameters(), betas=(0.9, 0.99))
    for k in range(steps):
        fade = 0.5 * (1.0 + math.cos(math.pi * k / steps))
        optimizer.param_groups[0]["lr"] = rate * min(1.0, (k + 1) / 20) * fade
        x = moons(batch, step=2, first=k * batch).float()
        log_prob = log_prob_with_gradient(
            flow, x, gradient="through", method="bosh3", rtol=1e-2, atol=1e-2
        )
        optimizer.zero_grad()
        (-log_prob.nanmean()).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()


def gap(flow, n=8192):
    """Mean of log p_data - log p_model over n held-out draws, and its standard error.

    Its expectation is the cross-entropy minus the entropy; a draw's own -log p_data, of deviation
    0.8, cancels against the model's, so that n = 8192 leave 0.0015 of the 0.009 they would have.
    """
    x = moons(n, step=1)
    found = log_likelihood(flow, x.float(), rtol=1e-5, atol=1e-5, fuse=False)
    assert (found.status == 0).all()
    ratio = log_density(x) - found.log_prob.double()
    return float(ratio.mean()), float(ratio.std() / n**0.5)


def test_the_entropy_is_that_of_the_draws():
    own = -log_density(moons(8192, step=1))
    error = float(own.std() / 8192**0.5)
    assert abs(float(own.mean()) - entropy()) < 4.0 * error


def test_the_network_knows_its_divergence():
    network = Velocity(8)
    x, t = moons(4, step=3).float(), torch.tensor([0.0, 0.3, 0.6, 1.0])
    plain = Flow(network, Gaussian())
    known = Flow(network, Gaussian(), divergence=network.divergence)
    want = log_likelihood(plain, x).log_prob
    torch.testing.assert_close(log_likelihood(known, x).log_prob, want, rtol=1e-4, atol=1e-4)
    assert network.divergence(t, x).shape == (4,)


def test_a_flow_learns_two_moons_to_the_entropy_of_the_data():
    network = Velocity()
    flow = Flow(network, Gaussian(), divergence=network.divergence)
    before, _ = gap(flow)
    assert before > 0.5  # measured 0.63, of a Gaussian fit
    train(network, flow, steps=500, batch=256, rate=0.01)
    after, error = gap(flow)
    # Cross-entropy minus entropy, 4 standard errors included.
    assert -4.0 * error < after < 0.02 - 4.0 * error, (after, error)
