"""The same loops in eager torch and in other libraries, written as their users write them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.systems import System

Score = Callable[[Tensor, Tensor], Tensor]


def eager_ou(x: Tensor, *, theta: float, mu: float, sigma: float, dt: float, steps: int) -> Tensor:
    """Euler-Maruyama for the OU process in a loop of plain torch."""
    root = sigma * math.sqrt(dt)
    for _ in range(steps):
        x = x + theta * (mu - x) * dt + root * torch.randn_like(x)
    return x


def eager_loop(system: System, x: Tensor) -> Tensor:
    """Euler-Maruyama for any system in a loop of plain torch."""
    dt = system.span / system.steps
    root, t = math.sqrt(dt), torch.zeros((), device=x.device)
    general = system.noise_type == "general"
    for _ in range(system.steps):
        dw = root * torch.randn(x.shape[0], system.channels, device=x.device, dtype=x.dtype)
        g = system.diffusion(t, x)
        # bmm: for (20000, 4, 8) a tenth of the time of multiplying and summing.
        noise = torch.bmm(g, dw.unsqueeze(-1)).squeeze(-1) if general else g * dw
        x = x + system.drift(t, x) * dt + noise
    return x


def torchsde_loop(system: System, x: Tensor, *, told: bool = True) -> Tensor:
    """torchsde's ``euler`` with its own Brownian motion.

    told: the Brownian motion is told the step in advance. Left to itself, torchsde guesses it after
    100 evaluations. With 100 steps of 0.01 the times, summed in float32, leave a 101st step of 6e-8
    or so, and the guess costs a second of Python however many paths there are.
    """
    import torchsde

    ends = torch.tensor([0.0, system.span], device=x.device, dtype=x.dtype)
    dt, like = system.span / system.steps, {"device": x.device, "dtype": x.dtype}
    size = (x.shape[0], system.channels)
    bm = torchsde.BrownianInterval(0.0, system.span, size, dt=dt, **like) if told else None
    with torch.no_grad():
        path = torchsde.sdeint(system, x, ends, bm=bm, method="euler", dt=dt)
    end: Tensor = path[-1]
    return end


def eager_sampler(
    score: Score,
    x: Tensor,
    *,
    times: Sequence[Tensor],
    predictor: Sequence[tuple[float, float, float]],
    alpha: Sequence[float] | None,
    snr: float,
) -> Tensor:
    """Song et al. 2021, Algorithm 1, in plain torch: predictor, then corrector at the next time.

    Coefficients are numbers worked out beforehand; norms are each sample's own.
    """

    def norm(v: Tensor) -> Tensor:
        return v.flatten(1).norm(dim=1).view(-1, *[1] * (v.ndim - 1))

    mean = x
    with torch.no_grad():
        for i, (a, b, c) in enumerate(predictor):
            mean = a * x + b * score(times[i], x)
            x = mean + c * torch.randn_like(x)
            if alpha is not None:
                s, z = score(times[i + 1], x), torch.randn_like(x)
                eps = 2.0 * alpha[i] * (snr * norm(z) / norm(s)) ** 2
                mean = x + eps * s
                x = mean + (2.0 * eps).sqrt() * z
    return mean


def plain_likelihood(
    sde: Any,
    score: Score,
    x: Tensor,
    log_prior: Callable[[Tensor], Tensor],
    *,
    exact: bool,
    rtol: float,
    atol: float,
    start: float = 1e-5,
    probe: Tensor | None = None,
) -> tuple[Tensor, int]:
    """(log p, evaluations): the likelihood script of Song et al. 2021 on torchdiffeq's dopri5.

    Divergence by reverse-mode differentiation: one pass a component, or one Rademacher probe, drawn
    here unless it is given. State and integral are one tensor, whose RMS norm over the whole batch
    sets the step.
    """
    from torchdiffeq import odeint

    n, d = x.shape[0], x[0].numel()
    if probe is None:
        probe = torch.randint(0, 2, x.shape).to(x) * 2.0 - 1.0
    calls = 0

    def rhs(t: Tensor, state: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        with torch.enable_grad():
            y = state[:, :d].reshape(x.shape).detach().requires_grad_()
            f = sde.drift(t, y) - 0.5 * sde.diffusion(t, y) ** 2 * score(t, y)
            if exact:
                rows = f.flatten(1)
                div = sum(
                    torch.autograd.grad(rows[:, i].sum(), y, retain_graph=True)[0].flatten(1)[:, i]
                    for i in range(d)
                )
            else:
                (product,) = torch.autograd.grad((f * probe).sum(), y)
                div = (product * probe).flatten(1).sum(1)
        assert isinstance(div, Tensor)
        return torch.cat([f.detach().flatten(1), div.view(-1, 1)], 1)

    state = torch.cat([x.flatten(1), x.new_zeros(n, 1)], 1)
    ends = torch.tensor([start, sde.T], dtype=x.dtype)
    end = odeint(rhs, state, ends, rtol=rtol, atol=atol, method="dopri5")[-1]
    return log_prior(end[:, :d].reshape(x.shape)) + end[:, d], calls


def torchdiffeq_likelihood(
    field: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    x: Tensor,
    log_prior: Callable[[Tensor], Tensor],
    *,
    start: float,
    end: float,
    rtol: float,
    atol: float,
) -> tuple[Tensor, int]:
    """(log p, evaluations) by torchdiffeq's dopri5, for a field (t, x) -> (dx/dt, divergence (B,)).

    State and integral are a tuple, as torchdiffeq's own flow example has them: the larger of their
    two RMS norms over the whole batch sets the step.
    """
    from torchdiffeq import odeint

    calls = 0

    def rhs(t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        nonlocal calls
        calls += 1
        return field(t, state[0])

    ends = torch.tensor([start, end], dtype=x.dtype)
    with torch.no_grad():
        found = odeint(rhs, (x, x.new_zeros(len(x))), ends, rtol=rtol, atol=atol, method="dopri5")
    latent, integral = (part[-1] for part in found)
    return log_prior(latent) + integral, calls
