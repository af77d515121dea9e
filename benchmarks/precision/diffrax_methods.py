"""diffrax's methods on the problems, in float64: on noise of its own, and on a path given to it.

Timed is an ensemble vmapped over keys, with diffrax's fastest Brownian path; checked is the same
solve on sdekit's increments. The number of steps is an argument of the compiled function. XLA has
threads of its own; their number is not torch's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax
import numpy as np
import torch
from torch import Tensor

from benchmarks.precision.path import Path
from benchmarks.precision.problems import (
    GBM,
    Additive,
    Arctangent,
    DoubleWell,
    Heston,
    Problem,
)

__all__ = ["prepare"]

ROWS = 1 << 13
"""Paths whose increments are given at once."""


class _Given(diffrax.AbstractBrownianPath):
    """Increments of equal steps: w, h, k of shape (steps, M) each; diffrax calls them W, H, K."""

    w: Any
    h: Any
    k: Any
    dt: Any
    levy_area: Any = eqx.field(static=True, default=diffrax.SpaceTimeTimeLevyArea)

    @property
    def t0(self) -> float:
        return -np.inf

    @property
    def t1(self) -> float:
        return np.inf

    def evaluate(self, t0: Any, t1: Any = None, left: bool = True, use_levy: bool = False) -> Any:
        """The step that begins at t0."""
        i = jnp.round(t0 / self.dt).astype(int)
        if not use_levy:
            return self.w[i]
        # The area has a dt for each leaf of the noise, which is one array here.
        return self.levy_area(dt=self.dt, W=self.w[i], H=self.h[i], K=self.k[i])


def prepare(
    problem: Problem, method: str
) -> tuple[Callable[[Path], Tensor], Callable[[Path], Tensor]]:
    """(the solve with noise of its own, the solve of the given path), path to states (B, D)."""
    terms, start = _TERMS[type(problem)](problem), _start(problem)
    solver = getattr(diffrax, method)()
    area = _area(solver)
    columns = len(range(*problem.driven.indices(problem.channels)))
    shape = () if isinstance(problem, DoubleWell) else (columns,)

    def end(noise: Any, dt: Any) -> Any:
        solution = diffrax.diffeqsolve(
            terms(noise),
            solver,
            0.0,
            problem.span,
            dt,
            start(),
            adjoint=diffrax.DirectAdjoint(),
            saveat=diffrax.SaveAt(t1=True),
            max_steps=None,
        )
        return jnp.stack([y[0] for y in solution.ys]) if shape == () else solution.ys[0]

    @jax.jit
    def own(keys: Any, dt: Any) -> Any:
        def one(key: Any) -> Any:
            return end(diffrax.UnsafeBrownianPath(shape=shape, key=key, levy_area=area), dt)

        return jax.vmap(one)(keys)

    @jax.jit
    def given(w: Any, h: Any, k: Any, dt: Any) -> Any:
        return jax.vmap(lambda w, h, k: end(_Given(w, h, k, dt), dt))(w, h, k)

    def timed(path: Path) -> Tensor:
        with jax.enable_x64(True):
            keys = jax.random.split(jax.random.PRNGKey(path.seed), path.paths)
            return torch.from_numpy(np.array(own(keys, path.dt)))

    def checked(path: Path) -> Tensor:
        parts = []
        with jax.enable_x64(True):
            for first in range(0, path.paths, ROWS):
                rows = min(ROWS, path.paths - first)
                arrays = _increments(problem, path._replace(paths=rows, first=first), shape)
                parts.append(torch.from_numpy(np.array(given(*arrays, path.dt))))
        return torch.cat(parts)

    return timed, checked


def _area(solver: Any) -> Any:
    """The least that the solver wants of a Brownian path."""
    least = getattr(solver, "minimal_levy_area", diffrax.AbstractBrownianIncrement)
    if issubclass(least, diffrax.AbstractSpaceTimeTimeLevyArea):
        return diffrax.SpaceTimeTimeLevyArea
    if issubclass(least, diffrax.AbstractSpaceTimeLevyArea):
        return diffrax.SpaceTimeLevyArea
    return diffrax.BrownianIncrement


def _increments(problem: Problem, path: Path, shape: tuple[int, ...]) -> list[Any]:
    """w, h and k of all steps, (B, most steps, *shape), zero after the last: one shape for all."""
    most = max(problem.steps)
    found = np.zeros((3, path.paths, most, *shape))
    for i in range(path.steps):
        w = path.step(i, ("dw", "h", "k"))
        for row, value in zip(found, (w.dw, w.space_time, w.space_time_time), strict=True):
            row[:, i] = value[:, problem.driven].reshape(-1, *shape).numpy()
    return [jnp.asarray(row) for row in found]


def _start(problem: Problem) -> Callable[[], Any]:
    def start() -> Any:
        y = jnp.asarray(problem.start, jnp.float64)
        return (y[0], y[1]) if isinstance(problem, DoubleWell) else y

    return start


Fields = Callable[[Any, Any], Any]


def _diagonal(drift: Fields, diffusion: Fields) -> Callable[[Any], Any]:
    def terms(noise: Any) -> Any:
        return diffrax.MultiTerm(
            diffrax.ODETerm(lambda t, y, args: drift(t, y)),
            diffrax.ControlTerm(
                lambda t, y, args: lineax.DiagonalLinearOperator(diffusion(t, y)), noise
            ),
        )

    return terms


def _gbm(p: Any) -> Any:
    mu = p.mu - 0.5 * p.sigma**2 if p.stratonovich else p.mu
    return _diagonal(lambda t, y: mu * y, lambda t, y: p.sigma * y)


def _additive(p: Any) -> Any:
    return _diagonal(
        lambda t, y: p.b / jnp.sqrt(1.0 + t) - y / (2.0 + 2.0 * t),
        lambda t, y: jnp.full(1, p.a * p.b) / jnp.sqrt(1.0 + t),
    )


def _arctangent(p: Any) -> Any:
    def drift(t: Any, y: Any) -> Any:
        if p.stratonovich:
            return jnp.zeros_like(y)
        return -(p.p**2) * jnp.sin(y) * jnp.cos(y) ** 3

    return _diagonal(drift, lambda t, y: p.p * jnp.cos(y) ** 2)


def _double_well(p: Any) -> Any:
    def terms(noise: Any) -> Any:
        return diffrax.MultiTerm(
            diffrax.UnderdampedLangevinDriftTerm(p.friction, 1.0, lambda q, args: -p.force(q)),
            diffrax.UnderdampedLangevinDiffusionTerm(p.friction, 1.0, noise),
        )

    return terms


def _heston(p: Any) -> Any:
    def drift(t: Any, y: Any, args: Any) -> Any:
        v = jnp.maximum(y[1], 0.0)
        price, variance = p.rate - 0.5 * v, p.kappa * (p.theta - v)
        if p.stratonovich:
            price, variance = price - 0.25 * p.rho * p.xi, variance - 0.25 * p.xi**2
        return jnp.stack([price, variance])

    def diffusion(t: Any, y: Any, args: Any) -> Any:
        mix = jnp.array([[p.rho, (1.0 - p.rho**2) ** 0.5], [p.xi, 0.0]])
        return jnp.sqrt(jnp.maximum(y[1], 0.0)) * mix

    return lambda noise: diffrax.MultiTerm(
        diffrax.ODETerm(drift), diffrax.ControlTerm(diffusion, noise)
    )


_TERMS: dict[type[Problem], Callable[[Any], Any]] = {
    GBM: _gbm,
    Additive: _additive,
    Arctangent: _arctangent,
    DoubleWell: _double_well,
    Heston: _heston,
}
