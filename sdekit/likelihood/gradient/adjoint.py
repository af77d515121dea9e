r"""Gradients by the adjoint equation (Pontryagin et al. 1962; for flows, Chen et al. 2018).

y = (x, l) with dx/dt = F(t, x), dl/dt = c(t, x), the divergence's columns. For a scalar L(y(t_1))
and a = (a_x, a_l) = dL/dy(t),

    da_x/dt = -(dF/dx)^T a_x - (dc/dx)^T a_l,    da_l/dt = 0
    dL/dtheta = \int_{t_0}^{t_1} (dF/dtheta)^T a_x + (dc/dtheta)^T a_l dt

(x, a_x) is solved from t_1 back to t_0, each sample with steps of its own. The integral is then the
sum over samples, accepted steps and stages of dt b_i times its integrand at stage i, which is what
the method makes of it; a second pass over the steps adds it up one evaluation at a time.

Memory: the activations of one evaluation, whatever the number of steps, and 24 bytes a step and
sample to know the steps by. Time: each accepted stage of the way back is evaluated twice, with a
derivative each time.
"""

from __future__ import annotations

import warnings
from typing import Any, Final, cast, final

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sdekit.likelihood.gradient.leaves import leaves_of
from sdekit.likelihood.gradient.problem import Problem, entry_step
from sdekit.ode.solution import OK, Steps

__all__ = ["Adjoint", "solve_with_adjoint"]

_MISS: Final = 1e3
"""Tolerances by which the way back may miss x. Where the flow forgets where it came from, it
misses by far, and the gradient is that of another point. Measured: 2.2 at most, for mixtures of
widths 0.05 to 0.3 in 2 to 784 dimensions under VP and VE at tolerances of 1e-3 to 1e-7."""


def solve_with_adjoint(
    problem: Problem, y: Tensor, end: Tensor, leaves: list[Tensor], complete: bool
) -> Tensor:
    """``end`` (B, n), the solution at t_1 from y (B, n) at t_0, with gradients for y and leaves.

    complete: whether leaves are all that there are, so that another one met on the way is an error.
    """
    return cast(Tensor, _Solved.apply(Adjoint(problem, leaves, complete), end, y, *leaves))


@final
class _Solved(torch.autograd.Function):
    """The identity on ``end``, whose derivative is the adjoint's."""

    @staticmethod
    def forward(ctx: Any, adjoint: Adjoint, end: Tensor, y: Tensor, *leaves: Tensor) -> Tensor:
        """``end``, as it was found."""
        ctx.adjoint = adjoint
        # The leaves are read where the field keeps them; saving them refuses a backward pass after
        # an optimizer has changed them.
        ctx.save_for_backward(end, y, *leaves)
        return end.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """dL/dy at t_0, and dL/d leaf."""
        end, y, *_ = ctx.saved_tensors
        by_parameters = any(ctx.needs_input_grad[3:])
        by_y, by_leaves = ctx.adjoint.gradients(end, y, grad, by_parameters)
        return (None, None, by_y, *by_leaves)


@final
class Adjoint:
    """The way back of one solve."""

    def __init__(self, problem: Problem, leaves: list[Tensor], complete: bool) -> None:
        self.problem, self.side, self.leaves = problem, problem.side, leaves
        self.known = {id(leaf) for leaf in leaves} if complete else None
        self._asked = self._own = torch.empty(0)

    def gradients(
        self, end: Tensor, y: Tensor, grad: Tensor, by_parameters: bool
    ) -> tuple[Tensor, list[Tensor | None]]:
        """dL/dy (B, n) at t_0 and dL/d leaf, from y at both ends and grad = dL/dy at t_1.

        The equation is linear in a, so each sample's a is divided by its largest entry first: the
        tolerances then mean the same whatever the loss is multiplied with. Samples with a = 0, such
        as those that were given up on the way there, are left out.
        """
        dim = self.side.dim
        scale = grad.abs().amax(1)
        rows = (scale > 0.0).nonzero().squeeze(1)
        by_y = grad.clone()
        by_leaves: list[Tensor | None] = [None] * len(self.leaves)
        if rows.numel() == 0:
            return by_y, by_leaves
        unit = grad[rows] / scale[rows, None]
        self.rows, self.scale, self.a_l = rows, scale[rows], unit[:, dim:]
        start = torch.cat([end[rows, :dim], unit[:, :dim]], dim=1)
        found = self.problem.solve(self._slope, start, backwards=True, record=by_parameters)
        ok = (found.status == OK) & found.y.isfinite().all(1)
        ok &= self._returned(found.y[:, :dim], y[rows, :dim])
        by_x = torch.where(ok[:, None], found.y[:, dim:] * self.scale[:, None], torch.nan)
        by_y[rows, :dim] = by_x
        if not bool(ok.all()):
            warnings.warn(
                f"the adjoint equation of {int((~ok).sum())} of {len(y)} samples could not be "
                "solved, or did not lead back to x: their gradients by x are NaN, and those by "
                "parameters leave them out; write gradient='through', or a larger max_steps",
                RuntimeWarning,
                stacklevel=2,
            )
        if by_parameters:
            assert found.steps is not None
            by_leaves = self._sum(start, found.steps, ok)
        return by_y, by_leaves

    def _returned(self, back: Tensor, x: Tensor) -> Tensor:
        """Whether each sample came back to where it had set out, (B,) bool."""
        problem = self.problem
        miss = (back - x).square().mean(1).sqrt()
        return miss <= _MISS * (problem.atol + problem.rtol * x.square().mean(1).sqrt())

    def _pull(
        self, t: Tensor, x: Tensor, a: Tensor, rows: Tensor, wanted: list[Tensor]
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """F, (dF/dx)^T a_x + (dc/dx)^T a_l, and the same by ``wanted``, for a = (a_x, a_l)."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            y = torch.cat([x, x.new_zeros(len(x), a.shape[1] - x.shape[1])], dim=1)
            value = self.side(t.to(x.dtype), y, self._rows_of(rows))
        if not value.requires_grad:  # a field that is constant
            return value[:, : x.shape[1]], torch.zeros_like(x), []
        if wanted and self.known is not None:
            self._check(value, x)
        # The graph before the leaves, if they are results themselves, is needed at all stages.
        by_x, *rest = torch.autograd.grad(
            value, [x, *wanted], a, retain_graph=bool(wanted), materialize_grads=True
        )
        return value.detach()[:, : x.shape[1]], by_x, list(rest)

    def _slope(self, t: Tensor, y: Tensor, rows: Tensor) -> Tensor:
        """d(x, a_x)/dt."""
        x, a = y.split(self.side.dim, dim=1)
        slope, by_x, _ = self._pull(t, x, torch.cat([a, self.a_l[rows]], dim=1), rows, [])
        return torch.cat([slope, -by_x], dim=1)

    def _sum(self, start: Tensor, steps: Steps, ok: Tensor) -> list[Tensor | None]:
        """dL/d leaf, along the accepted steps from ``start`` = (x, a_x) at t_1."""
        total = [torch.zeros_like(leaf) for leaf in self.leaves]
        now, dim, tableau = start.clone(), self.side.dim, self.problem.tableau
        for rows, t, dt in steps.entries:
            kept = ok[rows]
            if not bool(kept.any()):
                continue
            rows, t, dt = rows[kept], t[kept], dt[kept]
            a_l, backwards = self.a_l[rows], -dt.to(now.dtype) * self.scale[rows]

            def slope(
                i: int,
                t: Tensor,
                y: Tensor,
                rows: Tensor = rows,
                a_l: Tensor = a_l,
                backwards: Tensor = backwards,
            ) -> Tensor:
                x, a_x = y.split(dim, dim=1)
                # One pullback for both: it is linear in a, so that the weight dt b_i can be taken
                # out of the part by x again.
                weight, wanted = tableau.a[-1][i] * backwards[:, None], self.leaves
                if tableau.a[-1][i] == 0.0:
                    weight, wanted = torch.ones_like(weight), []
                a = weight * torch.cat([a_x, a_l], dim=1)
                value, by_x, rest = self._pull(t, x, a, rows, wanted)
                for sum_, part in zip(total, rest, strict=bool(wanted)):
                    sum_ += part
                return torch.cat([value, -by_x / weight], dim=1)

            now[rows] = entry_step(slope, t, dt, now[rows], tableau)
        return list(total)

    def _rows_of(self, rows: Tensor) -> Tensor:
        """Their numbers in the whole batch: one tensor for all stages of a step."""
        if rows is not self._asked:
            self._asked, self._own = rows, self.rows[rows]
        return self._own

    def _check(self, value: Tensor, x: Tensor) -> None:
        """Raise RuntimeError for a leaf that was not there when leaves were looked for."""
        assert self.known is not None
        for leaf in leaves_of(value):
            if leaf is not x and id(leaf) not in self.known:
                raise RuntimeError(
                    f"at some times the field depends on a tensor of shape {tuple(leaf.shape)} "
                    "that requires a gradient and was not found beforehand: write "
                    "parameters=list(network.parameters())"
                )
