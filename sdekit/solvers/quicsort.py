"""QUICSORT: underdamped Langevin dynamics to third order, with two forces a step."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor

from sdekit.noise.increment import Increment
from sdekit.sde.parameters import at, phi1
from sdekit.solvers.baoab import other_motion
from sdekit.solvers.base import Solver, orders
from sdekit.solvers.equation import Equation

__all__ = ["Quicsort"]

LEFT, RIGHT = 0.5 - 3.0**0.5 / 6.0, 0.5 + 3.0**0.5 / 6.0  # Gauss's two nodes


@final
class Quicsort(Solver):
    r"""The shifted ODE of the step, its force integrated by Gauss's two-point rule.

    For dq = v dt, dv = (F(q) / m - c v) dt + s dW, s = sqrt(2 c T / m), the Brownian path is
    replaced by a jump h + 6 k, a slope dW - 12 k and a jump -(h - 6 k), which have its dW, h and k;
    v^ is v after the first jump (Foster, Lyons & Oberhauser 2021; Scott, O'Kane, Jelincic & Foster
    2025). With a(u) = (1 - e^{-c u}) / c, b(u) = (e^{-c u} + c u - 1) / (c^2 dt), nodes l, r and
    w = s (dW - 12 k):

        q_1 = q + a(l dt) v^ + b(l dt) w
        q_2 = q + a(r dt) v^ + b(r dt) w + a(dt / 3) dt F(q_1) / m
        q_next = q + a(dt) v^ + b(dt) w + dt / (2 m) (a(r dt) F(q_1) + a(l dt) F(q_2))
        v_next = e^{-c dt} v^ + a(dt) / dt w - s (h - 6 k)
                 + dt / (2 m) (e^{-c r dt} F(q_1) + e^{-c l dt} F(q_2))

    Strong and weak order 3, for forces with derivatives.
    """

    name = "quicsort"
    paper = "Scott, O'Kane, Jelincic & Foster 2025"
    choose = "paths of Langevin dynamics to high accuracy, with smooth forces"
    interpretations = ("ito",)
    strong_order = orders(additive=3.0)
    weak_order = orders(additive=3.0)
    drift_evaluations = 2
    diffusion_evaluations = 0
    draws = ("dw", "h", "k")
    needs = ("force", "friction", "temperature", "mass")
    made_for = "Langevin dynamics of position and velocity"
    general_purpose = False
    bridges = False  # h and k over a part of a step, given those of the whole, are not drawn

    def obstacle(self, sde: Equation, t: Tensor, x: Tensor) -> str:
        """Whether force, friction, temperature and mass are those of the equation."""
        return other_motion(sde, t, x)

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
        (q, v), model = x.unbind(1), sde.sde
        friction, mass = at(model.friction, q), at(model.mass, q)
        dt = torch.as_tensor(dt, dtype=x.dtype, device=x.device)
        dt = dt.squeeze(1) if dt.ndim else dt  # (B, 1, ...), where each sample has its own times
        scale = (2.0 * friction * at(model.temperature, q) / mass) ** 0.5
        dw, h, k = w.dw[:, 1], w.space_time[:, 1], w.space_time_time[:, 1]
        v, slope = v + scale * (h + 6.0 * k), scale * (dw - 12.0 * k)

        def a(u: float) -> Tensor:
            return u * dt * phi1(-u * friction * dt)

        def free(u: float) -> Tensor:  # q after the time u dt without force
            return q + a(u) * v + u * u * dt * phi2(-u * friction * dt) * slope

        f_1 = model.force(free(LEFT)) * (dt / mass)
        f_2 = model.force(free(RIGHT) + a(1 / 3) * f_1) * (dt / mass)
        q_next = free(1.0) + 0.5 * (a(RIGHT) * f_1 + a(LEFT) * f_2)
        late, early = (torch.exp(-u * friction * dt) for u in (RIGHT, LEFT))
        v_next = torch.exp(-friction * dt) * v + phi1(-friction * dt) * slope
        v_next = v_next - scale * (h - 6.0 * k) + 0.5 * (late * f_1 + early * f_2)
        return torch.stack([q_next, v_next], 1)


def phi2(x: Tensor) -> Tensor:
    r"""\phi_2(x) = (e^x - 1 - x) / x^2, with value 1/2 at 0.

    For |x| < 1/2 a Taylor polynomial of degree 13, whose remainder is 2e-17; beyond, (phi_1 - 1) /
    x loses two bits.
    """
    small = x.abs() < 0.5
    poly = torch.ones_like(x)
    for j in range(15, 2, -1):
        poly = 1.0 + poly * x / j
    away = torch.where(small, torch.ones_like(x), x)
    return torch.where(small, 0.5 * poly, (phi1(away) - 1.0) / away)
