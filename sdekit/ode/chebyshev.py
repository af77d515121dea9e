r"""The stiff fallback: Runge-Kutta-Chebyshev of order 2 (Sommeijer, Shampine & Verwer 1998, RKC).

An explicit method whose s stages buy stability up to dt |lambda| = 0.65 s^2 on the negative real
axis: the spectrum of a probability flow, whose Jacobian is nearly that of a gradient, lies along
it. No Jacobian is formed, so that a sample may have any number of components. With Chebyshev
polynomials T_j at w_0 = 1 + (2/13) / s^2, w_1 = T_s' / T_s'', b_j = T_j'' / T_j'^2:

    Y_1 = y + b_1 w_1 dt F_0
    Y_j = (1 - mu_j - nu_j) y + mu_j Y_{j-1} + nu_j Y_{j-2} + mu'_j dt F_{j-1} + gamma_j dt F_0
    error = 0.8 (y - y_new) + 0.4 dt (F_0 + F_new)

Each sample has a number of stages of its own, from the spectral radius of its Jacobian, which a
power iteration on differences of F finds.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

import torch
from sdekit_kernels.steps.runge_kutta import (
    DONE,
    LEAST_ERROR,
    MAX_STEPS,
    NONFINITE,
    RUNNING,
    UNDERFLOW,
    Rule,
    arrival,
    next_step,
)
from torch import Tensor

from sdekit.ode.attempts import Batch
from sdekit.ode.dense import Taken

__all__ = ["run_chebyshev"]

MOST_STAGES: Final = 200
_POWER: Final = 12
"""Evaluations of the first power iteration; two refresh it before each later step."""


@lru_cache(maxsize=MOST_STAGES)
def stages_of(s: int) -> list[tuple[float, float, float, float, float]]:
    """(mu_j, nu_j, mu'_j, gamma_j, c_j) for j = 1 .. s; the first has mu = nu = gamma = 0."""
    w0 = 1.0 + 2.0 / 13.0 / s**2
    t, dt, ddt = [1.0, w0], [0.0, 1.0], [0.0, 0.0]
    for _ in range(2, s + 1):
        t.append(2.0 * w0 * t[-1] - t[-2])
        dt.append(2.0 * t[-2] + 2.0 * w0 * dt[-1] - dt[-2])
        ddt.append(4.0 * dt[-2] + 2.0 * w0 * ddt[-1] - ddt[-2])
    w1 = dt[s] / ddt[s]
    b = [ddt[j] / dt[j] ** 2 for j in range(2, s + 1)]
    b = [b[0], b[0], *b]
    c = [0.0, 0.0, *(w1 * ddt[j] / dt[j] for j in range(2, s + 1))]
    c[1] = c[2] / dt[2]
    rows = [(0.0, 0.0, b[1] * w1, 0.0, c[1])]
    for j in range(2, s + 1):
        mu, nu = 2.0 * b[j] * w0 / b[j - 1], -b[j] / b[j - 2]
        slope = 2.0 * b[j] * w1 / b[j - 1]
        rows.append((mu, nu, slope, -(1.0 - b[j - 1] * t[j - 1]) * slope, c[j]))
    return rows


def run_chebyshev(batch: Batch, rule: Rule, rows: Tensor) -> None:
    """Take the samples ``rows`` from where they are, batch.y and batch.t, to the end."""
    batch.rows = rows
    y, t = batch.y[rows], batch.t[rows]
    slope = batch.evaluate(t, y)
    radius, vector = torch.zeros_like(t), slope.clone()
    radius, vector, spent = _radius(batch, t, y, slope, vector, _POWER)
    batch.nfe[rows] += 1 + spent
    left = rule.stops[-1] - t
    h = torch.minimum(0.1 / radius.clamp_min(1e-30), left.abs()).copysign(left)
    last = torch.ones_like(t)
    tries = (batch.accepted + batch.rejected)[rows]
    while batch.rows.numel():
        most = 0.65 * MOST_STAGES**2 / radius.clamp_min(1e-30)
        h = torch.minimum(h.abs(), most).copysign(h)
        dt = next_step(t, h, rule)
        count = (1.54 * dt.abs() * radius + 1.0).sqrt().ceil().long().clamp(2, MOST_STAGES)
        new = _advance(batch, t, dt, y, slope, count)
        after = batch.evaluate(t + dt, new)
        error = _error(rule, dt, y, new, slope, after)
        batch.nfe[batch.rows] += count
        tries = tries + 1
        accept = error <= 1.0
        grown = (0.8 * error.clamp_min(1e-10) ** (-1.0 / 3.0)).clamp(0.1, 5.0)
        smooth = grown * (last / error.clamp_min(LEAST_ERROR)).clamp(0.2, 1.0) ** (1.0 / 6.0)
        factor = torch.where(accept, smooth, grown.clamp_max(0.8))
        if batch.watched and bool(accept.any()):
            m = accept.nonzero().squeeze(1)
            batch.hear(Taken(batch.rows[m], t[m], dt[m], y[m], new[m], slope[m], after[m]))
        cut = accept & (dt.abs() < h.abs()) & (grown >= 1.0)
        h = torch.where(cut & (h.abs() > (dt * factor).abs()), h, dt * factor)
        t = torch.where(accept, arrival(t, dt, rule), t)
        y = torch.where(accept[:, None], new, y)
        slope = torch.where(accept[:, None], after, slope)
        last = torch.where(accept, error.clamp_min(LEAST_ERROR), last)
        batch.accepted[batch.rows] += accept
        batch.rejected[batch.rows] += ~accept
        status = torch.full_like(count, RUNNING)
        status[~accept & (h.abs() < rule.floor)] = UNDERFLOW
        status[(status == UNDERFLOW) & error.isinf()] = NONFINITE
        status[(status == RUNNING) & (tries >= rule.max_steps)] = MAX_STEPS
        status[accept & (t == rule.stops[-1])] = DONE
        done = status != RUNNING
        gone = batch.rows[done]
        batch.y[gone], batch.t[gone] = y[done], t[done]
        batch.status[gone] = status[done].to(torch.int8)
        left = (~done).nonzero().squeeze(1)
        batch.rows = batch.rows[left]
        t, y, slope, h, last, tries, radius, vector = (
            v[left] for v in (t, y, slope, h, last, tries, radius, vector)
        )
        if left.numel():
            radius, vector, spent = _radius(batch, t, y, slope, vector, 2)
            batch.nfe[batch.rows] += spent


def _advance(
    batch: Batch, t: Tensor, dt: Tensor, y: Tensor, slope: Tensor, count: Tensor
) -> Tensor:
    """y_new of each sample by its own number of stages; samples of one number go together."""
    new = torch.empty_like(y)
    everyone = batch.rows
    for s in count.unique().tolist():
        which = (count == s).nonzero().squeeze(1)
        batch.rows = everyone[which]
        start, f0, time = y[which], slope[which], t[which]
        h = dt[which].to(y.dtype)[:, None]
        rows = stages_of(s)
        older, old = start, start + rows[0][2] * h * f0
        for j in range(1, s):
            mu, nu, weight, gamma, _ = rows[j]
            force = batch.evaluate(time + rows[j - 1][4] * dt[which], old)
            made = (
                (1.0 - mu - nu) * start + mu * old + nu * older + h * (weight * force + gamma * f0)
            )
            older, old = old, made
        new[which] = old
    batch.rows = everyone
    return new


def _error(rule: Rule, dt: Tensor, y: Tensor, new: Tensor, slope: Tensor, after: Tensor) -> Tensor:
    """The error test's number; infinite where something is not finite."""
    estimate = 0.8 * (y - new) + 0.4 * dt.to(y.dtype)[:, None] * (slope + after)
    size, split = torch.maximum(y.abs(), new.abs()), rule.split
    ratio = estimate[:, :split] / (rule.atol + rule.rtol * size[:, :split])
    error = ratio.square().mean(1).sqrt()
    if split < y.shape[1]:
        rtol, atol = rule.rest or (rule.rtol, rule.atol)
        ratio = estimate[:, split:] / (atol + rtol * size[:, split:])
        error = torch.maximum(error, ratio.square().mean(1).sqrt())
    whole = error.isfinite() & new.isfinite().all(1) & after.isfinite().all(1)
    return torch.where(whole, error.to(dt.dtype), math.inf)


def _radius(
    batch: Batch, t: Tensor, y: Tensor, slope: Tensor, vector: Tensor, rounds: int
) -> tuple[Tensor, Tensor, int]:
    """(1.2 times the spectral radius of dF/dy, the direction it was found in, evaluations)."""
    size = _norm(y).clamp_min(1.0) * math.sqrt(torch.finfo(y.dtype).eps)
    radius = torch.zeros_like(t)
    for _ in range(rounds):
        length = _norm(vector)
        vector = torch.where(length > 0.0, vector / length.clamp_min(1e-30), 1.0)
        turned = (batch.evaluate(t, y + size * vector) - slope) / size
        vector = torch.where(turned.isfinite().all(1, keepdim=True), turned, vector)
        radius = _norm(vector).squeeze(1).to(t.dtype)
    return 1.2 * radius, vector, rounds


def _norm(v: Tensor) -> Tensor:
    return v.square().sum(1, keepdim=True).sqrt()
