"""From what is asked of a flow to its likelihoods: rounds of probes, each one ODE a sample."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor

from sdekit.likelihood.budget import ErrorBudget
from sdekit.likelihood.divergence import make_divergence
from sdekit.likelihood.flow import Field, Flow
from sdekit.likelihood.own_times import check_rows, with_own_times
from sdekit.likelihood.result import Likelihood, Stats
from sdekit.likelihood.right_side import RightSide
from sdekit.likelihood.rounds import first_set, second_error, second_sets
from sdekit.likelihood.tolerances import hold
from sdekit.likelihood.torchdiffeq_backend import integrate_by_torchdiffeq
from sdekit.likelihood.transform import DataTransform
from sdekit.ode import OdeSolution, integrate
from sdekit.ode.solution import NONFINITE, OK

__all__ = ["Ask", "solve_likelihood"]

_EXACT: Final = ("exact", "closed form")


@dataclass(frozen=True)
class Ask:
    """What is asked of a flow, checked: the arguments of ``log_likelihood`` under their names."""

    flow: Flow
    divergence: str
    probes: str | None
    n_probes: int
    std_error: float | None
    max_probes: int
    rtol: float
    atol: float
    seed: int
    first_sample: int
    method: str
    max_steps: int
    derivative: str
    memory: int
    chunk: int | None
    ode: str
    backend: str
    fuse: bool | None


def solve_likelihood(ask: Ask, x: Tensor, transform: DataTransform | None) -> Likelihood:
    """The likelihood of checked arguments."""
    n = x.shape[0]
    log_prob, error = x.new_full((n,), math.nan), x.new_full((n,), math.nan)
    latent = torch.full_like(x, math.nan)
    status = torch.full((n,), NONFINITE, dtype=torch.int8, device=x.device)
    nfe, probes, accepted, rejected = (
        torch.zeros(n, dtype=torch.int64, device=x.device) for _ in range(4)
    )
    stiff = torch.zeros(n, dtype=torch.bool, device=x.device)
    path, reason = "none", "there is no finite sample"
    kinds: list[str] = []
    # Numbers, not a mask, so that each sample keeps its own probes.
    rows = x.flatten(1).isfinite().all(1).nonzero().squeeze(1)
    first, again = ask, False
    if ask.std_error is not None:
        kind, count, again = first_set(
            ask.divergence, ask.n_probes, ask.max_probes, x[0].numel() if len(x) else 1
        )
        first = replace(ask, divergence=kind, n_probes=count, std_error=None)
    base = log_prob
    # The second sets are known after the first: this list grows once.
    sets = [(first, rows, 0)] if rows.numel() else []
    for part, rows, step0 in sets:
        one = _integrate(part, x, rows, step0)
        done = one.ode
        kinds.append(one.kind)
        path, reason = done.path, done.reason
        nfe[rows] += done.nfe
        accepted[rows] += done.accepted
        rejected[rows] += done.rejected
        stiff[rows] |= done.stiff
        status[rows] = done.status
        latent[rows] = one.latent
        exact = one.kind in _EXACT
        spread = one.std_error
        if step0 > 0 and not exact:
            spread = second_error(spread, error[rows], one.kind, step0, part.n_probes)
        log_prob[rows], error[rows] = one.log_prob, spread
        if not exact:
            probes[rows] += one.products
        lost = (status != OK) | ~log_prob.isfinite()
        status = torch.where((status == OK) & lost, NONFINITE, status).to(torch.int8)
        if again and ask.std_error is not None:
            again, base = False, log_prob.clone()
            rows = rows[~lost[rows]]
            size, room = first.n_probes, ask.max_probes
            for kind, count, chosen in second_sets(
                error[rows], ask.std_error, ask.divergence, size, room, x[0].numel()
            ):
                sets.append((replace(first, divergence=kind, n_probes=count), rows[chosen], size))
    log_prob[status != OK] = math.nan
    error[status != OK] = math.nan
    stats = Stats(
        path=path,
        reason=reason,
        divergence=", then ".join(dict.fromkeys(kinds)) or ask.divergence,
        probes=probes,
        accepted=accepted,
        rejected=rejected,
        stiff=stiff,
    )
    budget = ErrorBudget(first, x, log_prob, error, latent, status, base)
    dim = x.shape[1:].numel()
    return Likelihood(log_prob, error, nfe, status, latent, dim, transform, stats, budget)


@dataclass(frozen=True)
class _One:
    """One integration of some samples, with one set of probes."""

    ode: OdeSolution
    kind: str
    products: int
    log_prob: Tensor
    std_error: Tensor
    latent: Tensor


def _integrate(ask: Ask, x: Tensor, rows: Tensor, step0: int) -> _One:
    flow = ask.flow
    closed = ask.divergence == "exact" and flow.divergence is not None
    estimator = None
    if not closed:
        # Probes belong to a sample's number in the whole batch.
        estimator = make_divergence(
            ask.divergence,
            x,
            n_probes=ask.n_probes,
            probes=ask.probes,
            seed=ask.seed,
            first_sample=ask.first_sample,
            step0=step0,
            derivative=ask.derivative,
            memory=ask.memory,
            chunk=ask.chunk,
        ).take(rows)
    x = x[rows]
    event = x.shape[1:]
    told = ""
    field: Field = flow.field
    if ask.ode == "sdekit":
        field, told = with_own_times(flow.field, x, flow.t_data, flow.t_prior)
    else:
        check_rows(flow.field, x, 0.4 * flow.t_data + 0.6 * flow.t_prior)
    side = RightSide(flow, field, x, estimator)
    start, end = side.clock.of(flow.t_data), side.clock.of(flow.t_prior)
    if ask.ode == "torchdiffeq":
        everyone = torch.arange(len(x), device=x.device)
        done = integrate_by_torchdiffeq(
            lambda t, y: side(t, y, everyone),
            side.start(x),
            start,
            end,
            split=side.dim,
            rtol=ask.rtol,
            atol=ask.atol,
            method=ask.method,
            breaks=side.clock.breaks(),
            max_steps=ask.max_steps,
        )
    else:
        held = hold(ask.rtol, ask.atol, side.dim, side.dtype)
        done = integrate(
            side,
            side.start(x),
            start,
            end,
            rtol=held.rtol,
            atol=held.atol,
            method=ask.method,
            split=side.dim,
            rest=held.rest,
            breaks=side.clock.breaks(),
            first=side.clock.first(start),
            max_steps=ask.max_steps,
            backend=ask.backend,
            fuse=ask.fuse,
            owner=flow.score if flow.score is not None else flow,
        )
    if told:
        done = replace(done, reason=f"{done.reason}; {told}")
    latent = done.y[:, : side.dim].reshape(-1, *event)
    columns = done.y[:, side.dim :]
    if estimator is None:
        integral, error, kind, products = columns[:, 0], torch.zeros_like(columns[:, 0]), "", 1
        kind = "closed form"
    else:
        integral, error = estimator.combine(columns)
        kind, products = estimator.kind, estimator.products
    # In the type that y was carried in: log p and the integral may nearly cancel.
    log_prob = (flow.log_prior(latent) + integral).to(x.dtype)
    return _One(done, kind, products, log_prob, error.to(x.dtype), latent.to(x.dtype))
