"""Strong order: how fast a method's paths approach the solution on the same Brownian path."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sdekit.convergence.estimate import Order, order_of
from sdekit.convergence.study import Reference, check_batches, walk
from sdekit.solvers import Solver

__all__ = ["strong_error"]


def strong_error(
    sde: Any,
    x0: Tensor,
    method: str | Solver = "euler_maruyama",
    *,
    t0: float = 0.0,
    t1: float = 1.0,
    steps: Sequence[int] = (8, 16, 32, 64, 128, 256),
    paths: int = 1024,
    batches: int = 16,
    seed: int = 0,
    reference: Reference = None,
    refine: int = 16,
) -> Order:
    """sqrt(E |X_N - x(t1)|^2) at each number of steps N, and the order with its 99 % interval.

    The norm is Euclid's over the event. All levels and the reference see one Brownian path: that
    which ``solve`` sees at steps = max(steps) * refine with this seed.

    Args:
        sde: any equation that ``solve`` takes.
        x0: where the paths start, (1, D...) or (paths, D...). Write it in float64: the error of a
            float32 state stops falling at 1e-7 or so of its size.
        method: a name, or a ``Solver`` of your own.
        t0, t1: the span.
        steps: numbers of steps that divide the largest of them.
        paths: how many; of an equation without noise one a starting point. batches: groups of
            paths whose spread gives the interval.
        reference: what is held for the solution. None: the method itself on a grid ``refine`` times
            finer than the finest, which proves that it converges and not to what; the name of
            another method, or a ``Solver``, on that grid; or a function that gives x(t1) of the
            whole path's ``Increment`` (dw, h, and of general noise the Levy area), for equations
            with a closed solution.

    Raises as ``solve`` does; ValueError for numbers of steps that do not divide the largest, or
    batches that do not divide the paths.
    """
    batches = check_batches(paths, batches, sde)
    ends = walk(sde, x0, method, t0, t1, steps, paths, seed, reference, refine)
    squares = [_square(x, ends.reference).view(batches, -1).mean(1) for x in ends.at]
    span = abs(t1 - t0)
    return order_of("strong", ends.method, span, steps, torch.stack(squares), power=2.0)


def _square(x: Tensor, y: Tensor) -> Tensor:
    """The square of each sample's distance, in float64: (B,)."""
    return (x.double() - y.double()).square().flatten(1).sum(1)
