"""log p(x) of a flow as a tensor that a loss can be made of."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Final

import torch
from sdekit_kernels.checks import check_choice, check_int_range
from torch import Tensor

from sdekit.likelihood.divergence import MEMORY, PROBES, make_divergence
from sdekit.likelihood.flow import Flow
from sdekit.likelihood.gradient.adjoint import solve_with_adjoint
from sdekit.likelihood.gradient.leaves import find_leaves
from sdekit.likelihood.gradient.problem import Problem
from sdekit.likelihood.gradient.through import replay
from sdekit.likelihood.own_times import with_own_times
from sdekit.likelihood.pointwise import check_points
from sdekit.likelihood.right_side import RightSide
from sdekit.likelihood.tolerances import check_accuracy
from sdekit.ode import TABLEAUS
from sdekit.ode.solution import OK

__all__ = ["GRADIENTS", "log_prob_with_gradient"]

GRADIENTS: Final = ("adjoint", "through")
_KINDS: Final = ("exact", "hutchinson")


def log_prob_with_gradient(
    sde: Any,
    score: Any = None,
    x: Tensor | None = None,
    *,
    gradient: str = "adjoint",
    parameters: Iterable[Tensor] | None = None,
    divergence: str = "exact",
    probes: str | None = None,
    n_probes: int = 1,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    t_min: float | None = None,
    t_max: float | None = None,
    prior: Any = None,
    seed: int = 0,
    first_sample: int = 0,
    method: str = "tsit5",
    max_steps: int = 10_000,
    breaks: Sequence[float] | None = None,
    memory: int = MEMORY,
    chunk: int | None = None,
    backend: str = "auto",
) -> Tensor:
    r"""log p(x), (B,) nats, differentiable: by x, by the field's parameters and by the prior's.

    The numbers are those of ``log_likelihood``, whose arguments these are; the calls are
    log_prob_with_gradient(sde, score, x) and log_prob_with_gradient(flow, x). To train by maximum
    likelihood, minimize -log_prob.nanmean().

    Args:
        gradient: "adjoint" (Chen et al. 2018) solves a second equation on the way back: its memory
            does not grow with the number of steps, and its gradient is that of the true log p
            within the tolerances. "through" differentiates the steps that the solver accepted: it
            is the gradient of the very number returned, at any tolerance, holds the activations of
            all steps, and is the faster one of the two. They agree as the tolerances shrink.
        parameters: what gradients shall reach besides x and the prior. None finds them: the field
            is evaluated for three samples, and autograd's graph of the value says which leaf
            tensors with requires_grad it came from, wherever they are kept. The adjoint raises
            RuntimeError for one that it meets at other times alone; with a list, gradients are
            those of the list. "through" needs none, and reaches all of them in any case.
        divergence: "exact" or "hutchinson". The probes stay fixed, so that the gradient is that of
            the estimate that they make. In training give each step a ``seed`` of its own: the
            errors then average out over the steps.

    A sample that is not or does not stay finite, or that needs too many steps, has the log_prob NaN
    and takes no part in any gradient: its row of x.grad is 0. There is no stiff fallback here: a
    stiff sample takes small steps, up to ``max_steps``. If a sample's adjoint equation cannot be
    solved although its log_prob could, or does not lead back to x, its row of x.grad is NaN, the
    parameters' gradients leave it out, and a RuntimeWarning says so. "through" can be
    differentiated again, the adjoint cannot.
    Raises TypeError or ValueError for arguments out of their range or of the wrong shape.
    """
    if isinstance(sde, Flow) and isinstance(score, Tensor) and x is None:
        score, x = None, score
    x = check_points(x)
    flow = Flow.of(sde, score, t_min=t_min, t_max=t_max, prior=prior, breaks=breaks)
    check_choice("gradient", gradient, GRADIENTS)
    check_choice("divergence", divergence, _KINDS)
    check_choice("method", method, tuple(TABLEAUS))
    if probes is not None:
        check_choice("probes", probes, PROBES)
    rtol, atol = check_accuracy(rtol, atol, x.dtype)
    finite = x.detach().flatten(1).isfinite().all(1).nonzero().squeeze(1)
    log_prob = torch.full((len(x),), math.nan, dtype=x.dtype, device=x.device)
    if finite.numel() == 0:
        return log_prob
    estimator = None
    if divergence != "exact" or flow.divergence is None:
        estimator = make_divergence(
            divergence,
            x.detach(),
            n_probes=n_probes,
            probes=probes,
            seed=seed,
            first_sample=first_sample,
            memory=memory,
            chunk=chunk,
        ).take(finite)
    x = x[finite]
    field, _ = with_own_times(flow.field, x.detach(), flow.t_data, flow.t_prior)
    side = RightSide(flow, field, x, estimator)
    problem = Problem(
        side=side,
        t0=side.clock.of(flow.t_data),
        t1=side.clock.of(flow.t_prior),
        rtol=rtol,
        atol=atol,
        method=method,
        max_steps=check_int_range("max_steps", max_steps, 1, 1 << 31),
        breaks=side.clock.breaks(),
        backend=backend,
    )
    listed = None if parameters is None else [p for p in parameters if p.requires_grad]
    value, ok = _solve(problem, x, gradient, listed)
    return log_prob.index_copy(0, finite[ok], value.to(x.dtype))


def _solve(
    problem: Problem, x: Tensor, gradient: str, parameters: list[Tensor] | None
) -> tuple[Tensor, Tensor]:
    """log p of those samples of x that have one, and which these are: numbers in order."""
    side = problem.side
    y = side.start(x)
    through = gradient == "through" and torch.is_grad_enabled()
    done = problem.solve(side, y.detach(), record=through)
    with torch.no_grad():
        value = _log_prob(side, done.y)
    wanted = (done.status == OK) & value.isfinite()
    ok = wanted.nonzero().squeeze(1)
    if not torch.is_grad_enabled():
        return value[ok], ok
    if through:
        assert done.steps is not None
        end = replay(problem, y, done.steps, wanted)
    else:
        leaves = parameters
        if leaves is None:
            leaves = find_leaves(side, y, problem.t0, problem.t1)
        end = solve_with_adjoint(problem, y, done.y, leaves, parameters is None)
    return _log_prob(side, end[ok]), ok


def _log_prob(side: RightSide, end: Tensor) -> Tensor:
    """log p from y at the prior's end, (B,), in the type that y is carried in."""
    latent, columns = end[:, : side.dim], end[:, side.dim :]
    integral = columns[:, 0] if side.estimator is None else side.estimator.combine(columns)[0]
    return side.flow.log_prior(latent.reshape(-1, *side.event)) + integral
