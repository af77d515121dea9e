r"""Gradients through the solver: the derivative of what the steps compute, not of the equation.

The adaptive solve runs without gradients and records which steps it accepted. They are then made
once more with gradients, and the step sizes are constants: the derivative is that of

    y_{n+1} = y_n + dt_n \sum_i b_i F(t_n + c_i dt_n, Y_i)

(discretize, then optimize). It is exact for this sum at any tolerance, and costs memory for the
activations of all the steps.
"""

from __future__ import annotations

from torch import Tensor

from sdekit.likelihood.gradient.problem import Problem, entry_step
from sdekit.ode.solution import Steps

__all__ = ["replay"]


def replay(problem: Problem, y: Tensor, steps: Steps, wanted: Tensor) -> Tensor:
    """y at t1 of the samples ``wanted`` (B,) bool, with gradients; the others stay at t0.

    y: (B, n) at t0, steps: what the solve recorded. A sample that was given up on its way takes no
    step here, so that it cannot bring a number that is not finite into anybody's gradient.
    """
    everyone = y.shape[0]
    for rows, t, dt in steps.entries:
        kept = wanted[rows]
        if not bool(kept.any()):
            continue
        if not bool(kept.all()):
            rows, t, dt = rows[kept], t[kept], dt[kept]
        whole = rows.shape[0] == everyone

        def slope(i: int, t: Tensor, y: Tensor, rows: Tensor = rows) -> Tensor:
            return problem.side(t.to(y.dtype), y, rows)

        now = y if whole else y.index_select(0, rows)
        new = entry_step(slope, t, dt, now, problem.tableau)
        y = new if whole else y.index_copy(0, rows, new)
    return y
