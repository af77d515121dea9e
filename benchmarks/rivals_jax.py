"""The systems in jax.numpy, for diffrax and for a loop of plain jax: one path, x of shape (D,)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import lineax
import numpy as np

from benchmarks import systems
from benchmarks.systems import System

Fields = tuple[Callable[[Any], Any], Callable[[Any], Any]]


def fields(system: System) -> Fields:
    """(drift, diffusion): the diffusion (D,) for diagonal noise, (D, M) for general noise."""
    return _FIELDS[type(system)](system)


def _ou(p: Any) -> Fields:
    return lambda x: p.theta * (p.mu - x), lambda x: jnp.full_like(x, p.sigma)


def _gbm(p: Any) -> Fields:
    return lambda x: p.mu * x, lambda x: p.sigma * x


def _lorenz(p: Any) -> Fields:
    def drift(x: Any) -> Any:
        u, v, w = x
        return jnp.stack([p.sigma * (v - u), u * (p.rho - w) - v, u * v - p.beta * w])

    return drift, lambda x: jnp.full_like(x, p.noise)


def _heston(p: Any) -> Fields:
    def drift(x: Any) -> Any:
        v = jnp.maximum(x[1], 0.0)
        return jnp.stack([p.mu - 0.5 * v, p.kappa * (p.theta - v)])

    def diffusion(x: Any) -> Any:
        mix = jnp.array([[1.0, 0.0], [p.xi * p.rho, p.xi * math.sqrt(1.0 - p.rho**2)]])
        return jnp.sqrt(jnp.maximum(x[1], 0.0)) * mix

    return drift, diffusion


def _circuit(p: Any) -> Fields:
    change = jnp.asarray(p.stoichiometry.numpy())

    def propensities(x: Any) -> Any:
        m1, p1, m2, p2 = jnp.maximum(x, 0.0)

        def gene(m: Any, own: Any, other: Any) -> list[Any]:
            made = p.rate / (1.0 + (other / p.half) ** 2)
            return [made, p.decay * m, p.translation * m, p.loss * own]

        return jnp.stack(gene(m1, p1, p2) + gene(m2, p2, p1))

    return lambda x: change @ propensities(x), lambda x: change * jnp.sqrt(propensities(x))


def _mixture(p: Any) -> Fields:
    means = jnp.asarray(p.means.numpy())

    def drift(x: Any) -> Any:
        away = means - x
        weight = jax.nn.softmax(jnp.sum(away**2, -1) / (-2.0 * p.std**2))
        return weight @ away / p.std**2

    return drift, lambda x: jnp.full_like(x, math.sqrt(2.0))


_FIELDS: dict[type[System], Callable[[Any], Fields]] = {
    systems.OU: _ou,
    systems.GBM: _gbm,
    systems.Lorenz: _lorenz,
    systems.Heston: _heston,
    systems.GeneCircuit: _circuit,
    systems.Mixture: _mixture,
}


def diffrax_loop(system: System, paths: int) -> Callable[[], np.ndarray]:
    """Compiled ensemble: diffrax ``Euler`` with its fastest Brownian path, vmapped over keys.

    XLA has threads of its own; their number is not torch's.
    """
    drift, diffusion = fields(system)
    diagonal = system.noise_type == "diagonal"
    start = jnp.asarray(system.start, jnp.float32)
    dt = system.span / system.steps

    def spread(t: Any, y: Any, args: Any) -> Any:
        g = diffusion(y)
        return lineax.DiagonalLinearOperator(g) if diagonal else g

    def one(key: Any) -> Any:
        noise = diffrax.UnsafeBrownianPath(shape=(system.channels,), key=key)
        solution = diffrax.diffeqsolve(
            diffrax.MultiTerm(
                diffrax.ODETerm(lambda t, y, args: drift(y)), diffrax.ControlTerm(spread, noise)
            ),
            diffrax.Euler(),
            0.0,
            system.span,
            dt,
            start,
            adjoint=diffrax.DirectAdjoint(),
            saveat=diffrax.SaveAt(t1=True),
            max_steps=system.steps + 1,
        )
        return solution.ys[0]

    ensemble = jax.jit(jax.vmap(one))
    keys = jax.random.split(jax.random.PRNGKey(0), paths)
    return lambda: np.asarray(ensemble(keys).block_until_ready())


def jax_loop(system: System, paths: int) -> Callable[[], np.ndarray]:
    """Compiled ``fori_loop`` over the steps of the whole batch, one call of jax.random a step."""
    drift, diffusion = (jax.vmap(field) for field in fields(system))
    dt = system.span / system.steps
    start = jnp.tile(jnp.asarray(system.start, jnp.float32), (paths, 1))

    def step(k: Any, state: Any) -> Any:
        x, key = state
        dw = math.sqrt(dt) * jax.random.normal(jax.random.fold_in(key, k), (paths, system.channels))
        g = diffusion(x)
        noise = g * dw if system.noise_type == "diagonal" else jnp.einsum("bdm,bm->bd", g, dw)
        return x + drift(x) * dt + noise, key

    whole = jax.jit(lambda x, key: jax.lax.fori_loop(0, system.steps, step, (x, key))[0])
    key = jax.random.PRNGKey(0)
    return lambda: np.asarray(whole(start, key).block_until_ready())
