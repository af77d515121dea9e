r"""Whether a step is stable on any equation: drift and step, linearized in one state.

With J the derivative of the drift in x_0 and M that of one step without noise, nearby solutions of
dx = f dt stay together where no eigenvalue of J has a positive real part, and the method drives its
own apart where the spectral radius of M is above 1. Both are taken by differences, on all columns
in one call of drift or step, so that any method and any equation can be looked at: nothing is
differentiated, no method states its stability function. Up to ``DENSE`` components J and M are
whole; up to ``MOST`` they are seen on a Krylov space of J, which finds the fast directions.

A drift that is steep in x_0 alone, as -x^3 far out, is no reason to warn: two runs of a few steps,
a small distance apart, have to part at every step.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sdekit.noise.increment import Increment, draw_shape
from sdekit.solvers.base import Solver
from sdekit.solvers.equation import Equation

__all__ = ["Alarm", "look"]

DENSE, MOST, KRYLOV = 8, 64, 4
FAST = 0.5
"""|eigenvalue| dt below which every method is stable: nothing more is looked at."""
GROWING = 0.25
"""Real part times dt from which solutions part so fast that a step cannot be told from them."""
MARGIN = 1.05
"""Spectral radius of a step, over that of the solutions, from which it counts as unstable."""
TOGETHER = 8
"""Steps of the two runs."""


class Alarm(NamedTuple):
    """An unstable step: the fastest eigenvalue of the drift in x_0, and the longest stable step."""

    rate: complex
    longest: float


class _Place(NamedTuple):
    """What is looked at where: x (1, D...), and rows of directions of x's length (n, D)."""

    solver: Solver
    sde: Equation
    t: Tensor
    x: Tensor
    basis: Tensor
    h: float

    def rows(self) -> Tensor:
        """x, x + h v for each direction v, and x again, to see whether rows are alike."""
        flat = self.x.reshape(1, -1)
        rows = torch.cat([flat, flat + self.h * self.basis, flat])
        return rows.reshape(-1, *self.x.shape[1:])

    def slopes(self, made: Tensor) -> Tensor | None:
        """The matrix of a map of which ``made`` are the values in ``rows``; None if it is none."""
        values = made.reshape(len(made), -1).double().cpu()
        if not torch.equal(values[0], values[-1]) or not bool(values.isfinite().all()):
            return None
        change = (values[1:-1] - values[0]) / self.h
        return change @ self.basis.double().cpu().T  # row j: of direction j


def look(
    solver: Solver, sde: Equation, t: Tensor, x: Tensor, dt: float, steps: int
) -> Alarm | None:
    """Whether steps of length dt from x (1, D...) at t (0-d or (1,)) are clearly unstable.

    None where they are not, and where nothing can be said: of half precision, more than ``MOST``
    components, parameters that are one a sample, a drift that is not the same twice, a method
    that decides by chance.
    """
    short = steps < 2 or torch.finfo(x.dtype).bits < 32
    if short or not 0 < x.numel() <= MOST or "u" in solver.draws:
        return None
    try:
        with torch.no_grad():
            return _look(solver, sde, t.detach(), x.detach(), dt, steps)
    except Exception:  # whatever an equation says of rows that are not those of its batch
        return None


def _look(
    solver: Solver, sde: Equation, t: Tensor, x: Tensor, dt: float, steps: int
) -> Alarm | None:
    still = copy.copy(sde)
    still.deterministic = True
    h = _distance(x)
    place = _Place(solver, still, t, x, torch.eye(x.numel(), dtype=x.dtype, device=x.device), h)
    if x.numel() > DENSE:
        place = place._replace(basis=_krylov(place))
    drift = place.slopes(_drift(place, place.rows()))
    if drift is None:
        return None
    rates = torch.linalg.eigvals(drift)
    fastest = complex(rates[rates.abs().argmax()])
    growth = float((rates.real * math.copysign(1.0, dt)).max())  # e^{J dt}, dt < 0 backwards
    span = abs(dt)
    if abs(fastest) * span < FAST or growth * span > GROWING or not _unstable(place, growth, dt):
        return None
    if not _apart(place, max(growth, 0.0), dt, min(steps, TOGETHER)):
        return None
    return Alarm(fastest, _longest(place, growth, dt))


def _distance(x: Tensor) -> float:
    """Over which differences are taken: far above rounding, far below where anything bends."""
    return float(torch.finfo(x.dtype).eps ** 0.4 * (1.0 + float(x.abs().max())))


def _drift(place: _Place, x: Tensor) -> Tensor:
    return place.sde.drift(_times(place.t, x), x)


def _times(t: Tensor, x: Tensor) -> Tensor:
    return t.expand(len(x)) if t.ndim else t


def _krylov(place: _Place) -> Tensor:
    """Orthonormal rows that span v, J v, J^2 v, ...: Arnoldi's method, with J by differences."""
    x = place.x.reshape(-1)
    # Directions without structure: the fractions of multiples of the golden ratio.
    v = torch.arange(1, len(x) + 1, dtype=torch.float64) * 0.6180339887498949
    v = (v.frac() - 0.5).to(x)
    rows: list[Tensor] = []
    for _ in range(KRYLOV):
        for row in (*rows, *rows):  # twice is enough for orthogonality
            v = v - (row @ v) * row
        size = float(v.norm())
        if not size > 1e-3 * place.h:
            break
        rows.append(v / size)
        near = _drift(place, _Place.rows(place._replace(basis=rows[-1][None])))
        v = (near[1] - near[0]).reshape(-1) / place.h
    return torch.stack(rows)


def _step(place: _Place, dt: float, states: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """One step of the method without noise; states: x and what is carried, at place.t."""
    solver, x, t = place.solver, states[0], _times(place.t, states[0])
    one = (1,) if place.sde.noise_type == "general" else tuple(x.shape[1:])
    one = () if place.sde.noise_type == "scalar" else one
    zeros = [x.new_zeros(len(x), *draw_shape(d, one)) for d in solver.draws]
    w = Increment.of(solver.draws, zeros, dt, abs(dt) ** 0.5)
    made = solver.step(place.sde, t, t + dt, dt, x, w, *states[1:])
    return made if isinstance(made, tuple) else (made,)


def _start(place: _Place, x: Tensor) -> tuple[Tensor, ...]:
    return (x, *place.solver.start(place.sde, _times(place.t, x), x))


def _unstable(place: _Place, growth: float, dt: float, margin: float = MARGIN) -> bool:
    """Whether a step parts what the solutions, which part as e^{growth t}, do not."""
    step = place.slopes(_step(place, dt, _start(place, place.rows()))[0])
    if step is None:
        return False
    radius = float(torch.linalg.eigvals(step).abs().max())
    return radius > margin * math.exp(max(growth, 0.0) * abs(dt))


def _apart(place: _Place, growth: float, dt: float, steps: int) -> bool:
    """Whether two runs, drawn together again after each step, part faster than e^{growth t}.

    The first step is left out: it shows the slope in x_0, which is known.
    """
    v = place.basis.sum(0).reshape(place.x.shape)
    v = v / v.norm()
    h, logs = place.h, []
    states = _start(place, torch.cat([place.x, place.x + h * v]))
    for _ in range(steps):
        states = _step(place, dt, states)
        apart = math.hypot(*(float((s[1] - s[0]).norm()) for s in states))
        if not math.isfinite(apart) or apart == 0.0:
            return not math.isfinite(apart)
        logs.append(math.log(apart / h))
        h = _distance(states[0][0])  # a run that explodes takes what rounding is with it
        states = tuple(torch.stack([s[0], s[0] + (s[1] - s[0]) * (h / apart)]) for s in states)
        place = place._replace(t=place.t + dt)
    return sum(logs[1:]) > (steps - 1) * (growth * abs(dt) + 0.5 * math.log(MARGIN))


def _longest(place: _Place, growth: float, dt: float) -> float:
    """The longest stable step, to a hundredth, below dt."""
    low, high = dt / 2, dt
    for _ in range(40):
        if not _unstable(place, growth, low, 1.0 + 1e-3):
            break
        low, high = low / 2, low
    while abs(high - low) > 0.01 * abs(low):
        middle = (low + high) / 2
        if _unstable(place, growth, middle, 1.0 + 1e-3):
            high = middle
        else:
            low = middle
    return abs(low)
