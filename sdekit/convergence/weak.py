"""Weak order from sampled paths: how fast the expectation of a function of the state converges."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sdekit.convergence.estimate import Order, order_of
from sdekit.convergence.study import Reference, check_batches, walk
from sdekit.solvers import Solver

__all__ = ["weak_error"]


def weak_error(
    sde: Any,
    x0: Tensor,
    method: str | Solver = "euler_maruyama",
    *,
    test: Callable[[Tensor], Tensor],
    t0: float = 0.0,
    t1: float = 1.0,
    steps: Sequence[int] = (2, 4, 8, 16, 32),
    paths: int = 1 << 16,
    batches: int = 16,
    seed: int = 0,
    reference: Reference = None,
    refine: int = 4,
) -> Order:
    """|E test(X_N) - E test(x(t1))| at each number of steps N, and the order with its interval.

    Both expectations are means over the same Brownian paths, so that the standard error is that of
    their difference: it falls with the strong error. Where a level's error is not several standard
    errors above zero the order says nothing: take more paths, longer steps, or, for an equation of
    one or two components, ``operator_error``, which samples nothing.

    test: a function of x (B, D...) that gives one number a sample, (B,). The other arguments, and
    what is raised, as for ``strong_error``.
    """
    batches = check_batches(paths, batches, sde)
    ends = walk(sde, x0, method, t0, t1, steps, paths, seed, reference, refine)
    target = _tested(test, ends.reference)
    errors = [(_tested(test, x) - target).view(batches, -1).mean(1) for x in ends.at]
    return order_of("weak", ends.method, abs(t1 - t0), steps, torch.stack(errors))


def _tested(test: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    value: Any = test(x)
    if not isinstance(value, Tensor) or value.shape != x.shape[:1]:
        got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(
            f"test must give one number a sample, shape ({x.shape[0]},), got {got}: write "
            "lambda x: x[:, 0] ** 2"
        )
    return value.double()
