"""The drift-implicit Euler method for stiff drifts of one component at a time."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor

from sdekit.noise.increment import Increment
from sdekit.solvers.base import Solver, orders
from sdekit.solvers.equation import Equation

__all__ = ["ImplicitEuler"]

NEWTON_STEPS = 8


@final
class ImplicitEuler(Solver):
    """x_next = x + f(t_next, x_next) dt + G(t, x) dW, eight Newton steps from a point between.

    (Kloeden & Platen 1992, section 12.2; Higham, Mao & Stuart 2002.) Component i of the drift must
    depend on t and x_i alone, so that one derivative gives all d f_i / d x_i. A linear drift takes
    one Newton step, the others change nothing. Newton's steps begin at x + G dW or, where L(y) =
    y - f(t_next, y) dt is more than twice that, at the root of the power of y that has L's value
    and slope there: for f = -k x^p they reach rounding from every state. Drifts that grow faster,
    as -sinh(x), are solved where x + G dW is up to some five times x_next. A component whose last
    correction was larger than the square root of rounding has not converged: it becomes NaN, and
    the sample's status NONFINITE.

    The equation for x_next has one solution where dt df_i / dx_i < 1 everywhere: a drift that
    decays has it for every dt > 0, one that grows somewhere needs short steps.

    Ito; any noise. Strong order 1/2, and 1 where the noise is additive; weak order 1. A-stable.
    """

    name = "implicit_euler"
    paper = "Higham, Mao & Stuart 2002"
    choose = "stiff drifts, up to powers of x, that act on each component by itself"
    interpretations = ("ito",)
    strong_order = orders(additive=1.0, diagonal=0.5, scalar=0.5, general=0.5)
    weak_order = orders(additive=1.0, diagonal=1.0, scalar=1.0, general=1.0)
    ode_order = 1
    drift_evaluations = 2 * (1 + NEWTON_STEPS)  # a derivative counts as one
    diffusion_evaluations = 1
    preserves = "the decay of stiff drifts, for every step size"
    general_purpose = False

    def obstacle(self, sde: Equation, t: Tensor, x: Tensor) -> str:
        """The drift must be f_i(t, x_i)."""
        if not sde.mixes("drift", t, x):
            return ""
        return (
            "the drift's component i must depend on t and x_i alone, and that of "
            f"{sde.name} mixes components: use 'tamed_euler', or 'euler_maruyama' with shorter "
            "steps"
        )

    def step(
        self,
        sde: Equation,
        t: Tensor,
        t_next: Tensor,
        dt: Any,
        x: Tensor,
        w: Increment,
        *carried: Tensor,
    ) -> Tensor:
        """The formula of the class."""
        known = x + sde.apply_noise(sde.diffusion(t, x), w.dw, x)

        def at(y: Tensor) -> tuple[Tensor, Tensor]:
            """L(y) = y - f dt and its slope."""
            f, slope = sde.drift_and_slope(t_next, y)
            return y - f * dt, 1.0 - slope * dt

        y = _begin(known, *at(known))
        for _ in range(NEWTON_STEPS):
            value, slope = at(y)
            residual = value - known
            size = (slope * y).abs() + known.abs() + (value - y).abs()  # of what rounding is part
            y = y - residual / slope
        # Newton's method squares the error: what is left now is rounding, or below normal numbers.
        kind = torch.finfo(x.dtype)
        solved = residual.abs() <= kind.eps**0.5 * size + kind.tiny
        return torch.where(solved, y, torch.nan)


def _begin(known: Tensor, value: Tensor, slope: Tensor) -> Tensor:
    """Where Newton's method begins: L(known) = value is to become ``known``.

    The power c y^p, p = y L' / L >= 1, is right for one that dominates; Newton's method would take
    1 - 1 / p of y a step. Where L has another sign than y, or is near, it does well by itself.
    """
    far = (known * value > 2.0 * known * known) & (known * slope / value >= 0.999)
    ratio = torch.where(far, known / torch.where(far, value, 1.0), 1.0)
    power = torch.where(far, known * slope / torch.where(far, value, 1.0), 1.0)
    return known * torch.exp(torch.log(ratio) / power)
