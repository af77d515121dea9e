"""The same loops in eager torch and in other libraries, written as their users write them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Score = Callable[[Tensor, Tensor], Tensor]


def eager_ou(x: Tensor, *, theta: float, mu: float, sigma: float, dt: float, steps: int) -> Tensor:
    """Euler-Maruyama for the OU process in a loop of plain torch."""
    root = sigma * math.sqrt(dt)
    for _ in range(steps):
        x = x + theta * (mu - x) * dt + root * torch.randn_like(x)
    return x


class TorchsdeOU:
    """The OU process as torchsde wants it."""

    noise_type = "diagonal"
    sde_type = "ito"

    def __init__(self, theta: float, mu: float, sigma: float) -> None:
        self.theta, self.mu, self.sigma = theta, mu, sigma

    def f(self, t: Tensor, y: Tensor) -> Tensor:
        return self.theta * (self.mu - y)

    def g(self, t: Tensor, y: Tensor) -> Tensor:
        return torch.full_like(y, self.sigma)


def torchsde_ou(
    x: Tensor, *, theta: float, mu: float, sigma: float, dt: float, steps: int
) -> Tensor:
    """torchsde's ``euler`` with its own Brownian motion."""
    import torchsde

    ends = torch.tensor([0.0, dt * steps])
    with torch.no_grad():
        path = torchsde.sdeint(TorchsdeOU(theta, mu, sigma), x, ends, method="euler", dt=dt)
    end: Tensor = path[-1]
    return end


def diffrax_ou(
    n: int, x0: float, *, theta: float, mu: float, sigma: float, dt: float, steps: int
) -> Callable[[], Any]:
    """Compiled ensemble of n scalar paths: diffrax ``Euler`` with its fastest Brownian path.

    XLA has threads of its own; their number is not torch's.
    """
    import diffrax
    import jax
    import jax.numpy as jnp

    def one(key: Any) -> Any:
        noise = diffrax.UnsafeBrownianPath(shape=(), key=key)
        terms = diffrax.MultiTerm(
            diffrax.ODETerm(lambda t, y, args: theta * (mu - y)),
            diffrax.ControlTerm(lambda t, y, args: jnp.asarray(sigma), noise),
        )
        solution = diffrax.diffeqsolve(
            terms,
            diffrax.Euler(),
            0.0,
            dt * steps,
            dt,
            jnp.asarray(x0, jnp.float32),
            adjoint=diffrax.DirectAdjoint(),
            saveat=diffrax.SaveAt(t1=True),
            max_steps=steps + 1,
        )
        return solution.ys[0]

    ensemble = jax.jit(jax.vmap(one))
    keys = jax.random.split(jax.random.PRNGKey(0), n)
    return lambda: ensemble(keys).block_until_ready()


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
) -> tuple[Tensor, int]:
    """(log p, evaluations): the likelihood script of Song et al. 2021 on torchdiffeq's dopri5.

    Divergence by reverse-mode differentiation: one Rademacher probe, or one pass a component.
    """
    from torchdiffeq import odeint

    n, d = x.shape[0], x[0].numel()
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
