"""Andersen's scheme for square-root variances and the prices that they drive."""

from __future__ import annotations

from typing import Any, final

import torch
from sdekit_kernels.dispatch import compute_dtype
from torch import Tensor

from sdekit.noise.increment import Increment
from sdekit.sde.cir import CIR, square_root
from sdekit.sde.heston import Heston
from sdekit.sde.parameters import Parameter, at
from sdekit.solvers.base import Solver, orders
from sdekit.solvers.equation import Equation
from sdekit.solvers.quadratic_exponential import VarianceStep

__all__ = ["AndersenQE"]


@final
class AndersenQE(Solver):
    r"""The quadratic-exponential scheme for ``CIR`` and ``Heston`` (Andersen 2008).

    v_next has the law of ``VarianceStep``, drawn from z_1; the log price y, with the integral of v
    over the step taken as dt (v + v_next) / 2, is

        y_next = y + rate dt + K_0 + K_1 v + K_2 v_next + sqrt(K_3 (v + v_next)) z_2

    K_{1,2} = dt (kappa rho / xi - 1/2) / 2 -+ rho / xi, K_3 = dt (1 - rho^2) / 2, and K_0 such that
    E exp(y_next - y - rate dt) = 1 exactly (section 4.3).

    Of v the mean and variance are exact for any step, and it is at zero or above; exp(y - rate t)
    is a martingale for any step at which E exp(y_next) is finite. Weak order 2, where paths keep
    away from zero; there z = dW / sqrt(dt) follows them with strong order 1 (CIR), 1/2 (Heston).
    """

    name = "andersen_qe"
    paper = "Andersen 2008"
    choose = "CIR and Heston, with long steps or near zero"
    interpretations = ("ito",)
    strong_order = orders(diagonal=1.0, general=0.5)
    weak_order = orders(diagonal=2.0, general=2.0)
    drift_evaluations = 0
    diffusion_evaluations = 0
    needs = ("kappa", "theta", "xi")
    preserves = "v at zero or above, its mean and variance; the discounted price's mean"
    made_for = "CIR and Heston"
    general_purpose = False

    def obstacle(self, sde: Equation, t: Tensor, x: Tensor) -> str:
        """Whether the equation is one of the two."""
        if not isinstance(sde.sde, CIR | Heston):
            return "its formulas are those of sdekit.CIR and sdekit.Heston: use 'full_truncation'"
        if isinstance(sde.sde, Heston) and not bool((torch.as_tensor(sde.sde.xi) > 0).all()):
            return "it divides by xi, which is 0 here: use 'full_truncation'"
        sde.drift(t, x)  # says which parameters do not fit x
        return ""

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
        """The formulas of the class."""
        x = x.to(compute_dtype(x.dtype))  # float16 does not hold the square of a small variance
        z = w.dw.to(x.dtype) / w.length**0.5
        dt = torch.as_tensor(dt, dtype=x.dtype, device=x.device)
        model = sde.sde
        model.check_event(x)
        if isinstance(model, CIR):
            kappa, theta, xi = (at(p, x) for p in (model.kappa, model.theta, model.xi))
            return VarianceStep(kappa, theta, xi, x, dt).draw(z)
        kappa, theta, xi, rho, rate = (
            _column(at(p, x)) for p in (model.kappa, model.theta, model.xi, model.rho, model.rate)
        )
        price, v = x[:, :1], x[:, 1:]
        law = VarianceStep(kappa, theta, xi, v, dt)
        v_next = law.draw(z[:, :1])
        pull = dt * (kappa * rho / xi - 0.5) / 2.0
        k_1, k_2, k_3 = pull - rho / xi, pull + rho / xi, dt * (1.0 - rho**2) / 2.0
        log_mean, finite = law.log_exponential_mean(k_2 + 0.5 * k_3)
        # Where the mean is infinite no K_0 corrects it: the uncorrected one (section 4.2).
        k_0 = torch.where(finite, -log_mean - (k_1 + 0.5 * k_3) * v, -dt * rho * kappa * theta / xi)
        spread = square_root(k_3 * (v + v_next))  # a root whose slope at 0 is a number
        price = price + rate * dt + k_0 + k_1 * v + k_2 * v_next + spread * z[:, 1:]
        return torch.cat([price, v_next], 1)


def _column(value: Parameter) -> Parameter:
    """One entry a path as a column, (B, 1)."""
    return value[:, None] if isinstance(value, Tensor) and value.ndim == 1 else value
