r"""Weak order without a sample: a method's transition operator on a grid.

A step of a method takes a function u to (P u)(x) = E[u(step(x, \xi))], an integral over the few
normals \xi of one step. Here u is a sum of basis functions, the integral a Gauss-Hermite rule, P
a matrix, and its product over all steps, applied to \phi, gives E[\phi(X_N) | X_0 = x] at every
point x of the grid. Held to the solution of Kolmogorov's backward equation, which knows no solver,
the weak error is left alone, without the noise of a sample: down to what grid and rule resolve,
some 1e-9.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sdekit.convergence.chain import Chain
from sdekit.convergence.estimate import Order, order_of
from sdekit.convergence.grid import Grid
from sdekit.convergence.kolmogorov import expectations
from sdekit.convergence.study import check_levels, transition_of
from sdekit.solvers import Equation, Solver

__all__ = ["operator_error"]


@torch.no_grad()
def operator_error(
    sde: Any,
    grid: Grid,
    method: str | Solver = "euler_maruyama",
    *,
    test: Callable[[Tensor], Tensor],
    t0: float = 0.0,
    t1: float = 1.0,
    steps: Sequence[int] = (2, 4, 8, 16, 32),
    nodes: int = 4,
    steady: bool = False,
    reference: Tensor | None = None,
) -> Order:
    """Root mean square over the grid's points x of E[test(X_N) - test(x(t1)) | x(t0) = x].

    For equations of one or two components whose coefficients and tests the grid resolves: smooth
    and of period 2 pi on ``Periodic`` axes, near polynomials on ``Gaussian`` ones. A method that
    carries more than x needs a grid for that too, and is measured on equations of one component.

    Args:
        grid: where functions of the state are held, ``Grid(Periodic(33))`` and the like.
        test: a function of x (B, D...) that gives one or several numbers a sample, (B,) or (B, F).
        nodes: of the rule for a normal; n of them suffice for weak orders below n - 1.
        steady: whether drift and diffusion do not depend on time, so that all steps are one matrix.
        reference: the expectations at the grid's points, (N, F), where they are known; else those
            of ``expectations``.

    The other arguments, and what is raised, as for ``strong_error``.
    """
    levels = check_levels(steps)
    equation = Equation(sde)
    transition = transition_of(equation, method, t0, grid.points)
    end = torch.as_tensor(test(grid.points)).reshape(len(grid), -1).double()
    exact = expectations(equation, grid, end, t0, t1) if reference is None else reference
    made = [Chain(transition, grid, t0, t1, n, nodes, steady).apply(end) for n in levels]
    errors = torch.stack([grid.norm(u - exact) for u in made])
    return order_of("weak", transition.solver.name, abs(t1 - t0), levels, errors[:, None])
