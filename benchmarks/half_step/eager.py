"""A half-step in eager torch, as its users write it: a loop, a list of states, Adam.

Paths x + gamma v(t, x) + sqrt(gamma) z forward from the source; the backward drift is fitted to
(u - u') / gamma + v(t, u) - v(t, u') (De Bortoli et al. 2021, mean matching), at random steps of
random paths; the average of the weights is kept and gradients are clipped, as sdekit does.
"""

from __future__ import annotations

import copy
import itertools
import math

import torch
from torch import Tensor, nn


@torch.no_grad()
def simulate(net: nn.Module, x: Tensor, times: Tensor) -> Tensor:
    """All states (N + 1, B, D...), forward in time, for sigma = 1."""
    states = [x]
    for t, t_next in itertools.pairwise(times):
        dt = float(t_next - t)
        x = x + dt * net(t.to(x), x) + math.sqrt(dt) * torch.randn_like(x)
        states.append(x)
    return torch.stack(states)


def fit(
    net: nn.Module,
    fixed: nn.Module,
    paths: Tensor,
    times: Tensor,
    *,
    steps: int,
    batch: int,
    lr: float = 1e-3,
    ema: float = 0.999,
) -> list[float]:
    """Train ``net``, the backward drift, on forward paths of ``fixed``; the losses."""
    adam = torch.optim.Adam(net.parameters(), lr=lr)
    average = [p.detach().clone() for p in net.parameters()]
    count, losses = len(times) - 1, []
    ones = [1] * (paths.ndim - 2)
    for _ in range(steps):
        i = torch.randint(0, count, (batch,))
        rows = torch.randint(0, paths.shape[1], (batch,))
        with torch.no_grad():
            u, after = paths[i, rows], paths[i + 1, rows]
            gamma = (times[i + 1] - times[i]).view(-1, *ones)
            target = (u - after) / gamma + fixed(times[i], u) - fixed(times[i], after)
        loss = (net(times[i + 1], after) - target).square().mean()
        adam.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        adam.step()
        with torch.no_grad():
            for mean, p in zip(average, net.parameters(), strict=True):
                mean.lerp_(p, 1.0 - ema)
        losses.append(loss.item())
    return losses


def half_step(
    net: nn.Module, fixed: nn.Module, x: Tensor, times: Tensor, *, steps: int, batch: int
) -> list[float]:
    """Simulation and regression; the network itself is left as it is."""
    return regression(net, fixed, simulate(fixed, x, times), times, steps=steps, batch=batch)


def regression(
    net: nn.Module, fixed: nn.Module, paths: Tensor, times: Tensor, *, steps: int, batch: int
) -> list[float]:
    """The regression alone, of a copy of the network."""
    return fit(copy.deepcopy(net), fixed, paths, times, steps=steps, batch=batch)


@torch.no_grad()
def change(new: nn.Module, old: nn.Module, x: Tensor, times: Tensor) -> tuple[float, float]:
    """KL of the paths of two drifts (Girsanov), and its standard error, for sigma = 1."""
    paths = simulate(new, x, times)
    total = torch.zeros(len(x), dtype=torch.float64)
    for k, dt in enumerate(times.diff().tolist()):
        gap = new(times[k], paths[k]) - old(times[k], paths[k])
        total += 0.5 * dt * gap.double().flatten(1).square().sum(1)
    return float(total.mean()), float(total.std()) / math.sqrt(len(x))
