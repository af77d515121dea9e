r"""How long a step may be before it makes a stable equation unstable.

On the test equation dx = lambda x dt + mu x dW a step multiplies x by a random factor R; the method
is stable in mean square where E |R|^2 < 1 (Higham 2000; Saito & Mitsui 1996). Because the solver's
step is plain torch, R is that step itself, taken from x = 1 at the nodes of a Gauss-Hermite rule
for its normals: no method states its stability function.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import torch
from sdekit_kernels.tracing import transformed
from torch import Tensor

from sdekit.noise.increment import Increment
from sdekit.solvers.base import Solver
from sdekit.solvers.equation import Equation
from sdekit.solvers.linearized import look

__all__ = ["StabilityWarning", "largest_stable_step", "mean_square_factor", "warn_if_unstable"]


class StabilityWarning(UserWarning):
    """A step is so long that the method leaves an equation whose solutions do not."""


class _Test:
    """dx = lambda x dt + mu x dW, lambda complex: two real components."""

    def __init__(self, rate: complex, mu: float, solver: Solver) -> None:
        self.rate, self.mu = rate, mu
        self.interpretation = "ito" if "ito" in solver.interpretations else "stratonovich"
        kinds = ("scalar", "general") if mu else ("additive", "scalar", "general")
        self.noise_type = next((n for n in kinds if n in solver.weak_order), "additive")

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        a, b = x.unbind(-1)
        re, im = self.rate.real, self.rate.imag
        return torch.stack([re * a - im * b, im * a + re * b], -1)

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        return self.mu * (x[:, :, None] if self.noise_type == "general" else x)

    def normals(self, draws: Sequence[str], z: Tensor) -> tuple[Tensor, ...]:
        """A solver's draws from the columns of z, in the shapes that this noise has."""
        if self.noise_type == "general":  # of one Brownian motion, which has no area
            return tuple(z[:, j : j + (d != "area")] for j, d in enumerate(draws))
        return tuple(z.unbind(1)) if self.noise_type == "scalar" else tuple(z.split(1, 1))


@lru_cache(maxsize=4096)
def mean_square_factor(solver: Solver, rate: complex, mu: float) -> float:
    """The factor by which E |x|^2 grows in a step of length 1 on dx = rate x dt + mu x dW.

    The equation in the solver's own interpretation, Ito if it takes both. A step is a random matrix
    R on x and on what the method carries; second moments go over by E R (x) R, and the factor is
    that matrix's largest eigenvalue: E |R|^2 for one number. NaN where the step is not linear, or
    the method does not take the equation.
    """
    test = _Test(rate, mu, solver)
    sde = Equation(test)
    nodes, weights = _nodes(len(solver.draws) if mu else 0)
    size = 2 * (1 + len(solver.carries))
    # The basis, and a mixture of it that shows whether the step is linear.
    mixture = torch.arange(1.0, size + 1.0, dtype=torch.float64)[None].sin()
    given = torch.cat([torch.eye(size, dtype=torch.float64), mixture])
    states = given.repeat(len(weights), 1)
    z = nodes.repeat_interleave(size + 1, 0) if mu else torch.zeros(len(states), len(solver.draws))
    zero, (x, *carried) = torch.zeros((), dtype=torch.float64), states.split(2, 1)
    if solver.obstacle(sde, zero, x) or any(v.shape != x.shape for v in solver.start(sde, zero, x)):
        return math.nan
    w = Increment.of(solver.draws, test.normals(solver.draws, z.to(x)), 1.0, 1.0)
    made = solver.step(sde, zero, zero + 1.0, 1.0, x, w, *carried)
    after = torch.cat(made if isinstance(made, tuple) else (made,), 1)
    after = after.view(len(weights), size + 1, size)
    rows, last = after[:, :size], after[:, size]
    largest = rows.abs().max().clamp(min=1.0)
    if not bool(((mixture @ rows).squeeze(1) - last).abs().max() <= 1e-9 * largest):
        return math.nan
    moments = torch.einsum("n,nij,nkl->ikjl", weights, rows, rows).reshape(size**2, size**2)
    return float(torch.linalg.eigvals(moments).abs().max())


@lru_cache(maxsize=8)
def _nodes(dimensions: int) -> tuple[Tensor, Tensor]:
    """A product Gauss-Hermite rule for standard normals: points (n, dimensions) and weights."""
    z, w = np.polynomial.hermite_e.hermegauss(12)
    w = w / w.sum()
    points = np.array(list(product(z, repeat=dimensions))).reshape(len(z) ** dimensions, dimensions)
    weights = np.ones(1)
    for _ in range(dimensions):
        weights = np.outer(weights, w).ravel()
    return torch.from_numpy(points), torch.from_numpy(weights)


class _Linear(NamedTuple):
    rate: complex
    mu: float


def largest_stable_step(solver: Solver, rate: complex, mu: float = 0.0) -> float:
    """The longest step up to which every step is stable on the test equation; inf if all are.

    To a thousandth of itself. 0 where the equation is not stable in mean square itself, NaN where
    the method's step is not linear.
    """
    if not _mean_square_rate(solver, rate, mu) < 0:
        return 0.0
    scale = 1.0 / max(abs(rate), mu * mu)

    def stable(dt: float) -> bool:
        return mean_square_factor(solver, rate * dt, mu * math.sqrt(dt)) < 1.0

    if math.isnan(mean_square_factor(solver, rate * scale, mu * math.sqrt(scale))):
        return math.nan

    steps = [scale * 2.0**j for j in np.arange(-6, 10.01, 0.25)]
    bad = next((j for j, dt in enumerate(steps) if not stable(dt)), None)
    if bad is None:
        return math.inf
    if bad == 0:
        return 0.0
    low, high = steps[bad - 1], steps[bad]
    while high - low > 1e-3 * low:
        middle = (low + high) / 2
        low, high = (middle, high) if stable(middle) else (low, middle)
    return low


def warn_if_unstable(
    solver: Solver, sde: Equation, dt: float, t: Tensor, x: Tensor, steps: int
) -> None:
    """Warn where steps of dt are unstable on an equation whose solutions are not.

    By the equation's linear part, where it tells one and the method's step is linear there; else by
    drift and step linearized in a state x (1, D...) at t, see ``linearized.look``.
    """
    if transformed():
        return  # no value can be read
    known = not solver.needs and hasattr(sde.sde, "linear_part")
    if known and not math.isnan(mean_square_factor(solver, -1.0, 0.0)):
        alarm, where = _known_alarm(solver, sde, dt), "there"
    else:
        found = look(solver, sde, t, x, dt, steps)
        alarm = None if found is None else (_text(found.rate) + " at x0", found.longest)
        where = "there, by drift and step linearized at x0,"
    if alarm is None:
        return
    warnings.warn(
        f"{solver.name!r} with steps of {abs(dt):.4g} is unstable on {sde.name} ({alarm[0]}), "
        f"whose solutions are not: its longest stable step {where} is {alarm[1]:.4g}",
        StabilityWarning,
        stacklevel=4,
    )


def _known_alarm(solver: Solver, sde: Equation, dt: float) -> tuple[str, float] | None:
    """The first unstable linear part in words, and its longest stable step."""
    for rate, mu in _linear_parts(sde.sde):
        given = f"{_text(rate)}, mu = {mu:.4g}" if mu else _text(rate)
        rate = rate if dt > 0 else -rate
        if sde.interpretation == "stratonovich" and "ito" in solver.interpretations:
            rate += 0.5 * mu * mu  # the Ito form, which the test equation has
        if not _mean_square_rate(solver, rate, mu) < 0:
            continue
        if mean_square_factor(solver, rate * abs(dt), mu * math.sqrt(abs(dt))) >= 1.0:
            return given, largest_stable_step(solver, rate, mu)
    return None


def _text(rate: complex) -> str:
    real = abs(rate.imag) <= 1e-3 * abs(rate)  # up to rounding, where differences gave it
    return f"lambda = {rate.real if real else rate:.4g}"


def _mean_square_rate(solver: Solver, rate: complex, mu: float) -> float:
    """The exponent with which E |x|^2 goes, on the test equation in the solver's interpretation."""
    return 2 * complex(rate).real + mu * mu * (1.0 if "ito" in solver.interpretations else 2.0)


def _linear_parts(sde: Any) -> list[_Linear]:
    """Each distinct (lambda, mu) of the equation, the fastest first, at most eight."""
    rate, mu = (torch.as_tensor(v).detach().cpu() for v in sde.linear_part())
    rate, mu = torch.broadcast_tensors(rate.to(torch.complex128), mu.double())
    found = {
        _Linear(complex(a), abs(float(m)))
        for a, m in zip(rate.reshape(-1).tolist(), mu.reshape(-1).tolist(), strict=True)
    }
    return sorted(found, key=lambda p: -abs(p.rate) - p.mu**2)[:8]
