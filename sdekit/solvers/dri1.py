"""DRI1 of Debrabant and Roessler: weak order 2 for any Ito noise."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, final

import torch
from torch import Tensor

from sdekit.noise.increment import Increment
from sdekit.solvers.base import Solver, orders
from sdekit.solvers.equation import Equation
from sdekit.solvers.tableau import combine, mixed_diffusion

__all__ = ["DRI1"]

# Table "DRI1" of the paper. Rows of A0 and B0 belong to the stages after the first, which is x. A1,
# B1 and B2 are those of the second stage; the third has A1, -B1 and -B2.
ALPHA = (1 / 6, 2 / 3, 1 / 6)
C0, A0 = (0.0, 1 / 2, 1.0), ((1 / 2,), (-1.0, 2.0))
B0 = ((6 - 6**0.5) / 10, (3 + 2 * 6**0.5) / 5)
A1, B1 = 342 / 491, 3 * (38 / 491) ** 0.5
B2 = (
    -214 / 513 * (1105 / 991) ** 0.5,
    -491 / 513 * (221 / 4955) ** 0.5,
    -491 / 513 * (221 / 4955) ** 0.5,
)
BETA1 = (193 / 684, 491 / 1368, 491 / 1368)
BETA2 = (491 / 38) ** 0.5 / 6
BETA3 = (-4955 / 7072, 4955 / 14144)
BETA4 = -((4955 / 221) ** 0.5) / 8


@final
class DRI1(Solver):
    r"""Drift stages y_i and, of each Brownian motion k, u^k_2,3 and v^k_2,3 (with + and with -):

        y_i = x + \sum_j A0_ij f(y_j) dt + B0_i G(x) dW
        u^k_2,3 = x + A1 f(x) dt +- B1 g_k(x) sqrt(dt),  u^k_1 = x
        v^k_2,3 = x +- \sum_i B2_i g_k(u^k_i) sqrt(dt)
        x_next = x + \sum_i ALPHA_i f(y_i) dt + \sum_k \sum_i BETA1_i g_k(u^k_i) dW_k
                   + \sum_k BETA2 (g_k(u^k_2) - g_k(u^k_3)) I_kk / sqrt(dt)
                   + \sum_{k != l} (BETA3_1 g_k(x) + BETA3_2 (g_k(v^l_2) + g_k(v^l_3))) dW_k
                   + \sum_{k != l} BETA4 (g_k(v^l_2) - g_k(v^l_3)) I_kl / sqrt(dt)

    (Debrabant & Roessler 2009, "Families of efficient second order Runge-Kutta methods"), with
    I_kl = (dW_k dW_l - s_kl dt) / 2, s_kk = 1 and, for k < l, s_kl = -s_lk = sign(z_k z_l). Times:
    y_i at t, t + dt / 2, t + dt; u^k_2,3 at t + A1 dt; v^k_2,3 at t. The paper's dW are three-point
    variables: normal ones have the same moments up to the fifth, all that weak order 2 needs. With
    one sign a Brownian motion, s_kl = sign(z_k), as often programmed, I_kl and I_km are correlated,
    and the order is 1 for three Brownian motions and more that do not commute; products of two
    signs are pairwise independent.

    Ito, any noise; diagonal noise is g_i(t, x_i). Weak order 2. Strong order 1, for general noise
    1/2 (1 if it commutes). The diffusion is evaluated three times a step, for general noise of M
    Brownian motions 1 + 4 M times.
    """

    name = "dri1"
    paper = "Debrabant & Roessler 2009"
    choose = "expectations under any Ito noise, that which does not commute included"
    interpretations = ("ito",)
    strong_order = orders(additive=1.0, diagonal=1.0, scalar=1.0, general=0.5)
    weak_order = orders(additive=2.0, diagonal=2.0, scalar=2.0, general=2.0)
    ode_order = 3
    drift_evaluations = 3
    diffusion_evaluations = 3
    draws = ("dw", "z")

    def obstacle(self, sde: Equation, t: Tensor, x: Tensor) -> str:
        """Diagonal noise must be g_i(t, x_i)."""
        return mixed_diffusion(sde, t, x)

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
        g, length = sde.diffusion(t, x), t_next - t
        f, noise = [sde.drift(t, x)], sde.apply_noise(g, w.dw, x)
        for c, a, b in zip(C0[1:], A0, B0, strict=True):
            y = x + combine(a, f) * dt + b * noise
            f.append(sde.drift(t + c * length, y))
        x_next = x + combine(ALPHA, f) * dt
        if sde.deterministic:
            return x_next
        centre, late = x + A1 * f[0] * dt, t + A1 * length
        if sde.noise_type != "general":
            dw = w.dw.view(-1, *(1,) * (x.ndim - 1)) if sde.noise_type == "scalar" else w.dw
            return x_next + _one(partial(sde.diffusion, late), centre, g, dt, dw)[0]
        sides = []
        for k, dw in enumerate(w.dw.unbind(1)):
            column = partial(_column, sde, late, k)
            dw = dw.view(-1, *(1,) * (x.ndim - 1))
            gain, side = _one(column, centre, g[..., k], dt, dw)
            x_next = x_next + gain
            sides.append(side)
        if len(sides) == 1:
            return x_next
        for k, side in enumerate(sides):
            up, down = sde.diffusion(t, x + side), sde.diffusion(t, x - side)
            x_next = x_next + _others(sde, k, g, up, down, x, w)
        return x_next


def _column(sde: Equation, t: Tensor, k: int, y: Tensor) -> Tensor:
    return sde.diffusion(t, y)[..., k]


def _one(
    column: Callable[[Tensor], Tensor], centre: Tensor, g: Tensor, dt: Any, dw: Tensor
) -> tuple[Tensor, Tensor]:
    """The terms of x_next with dW_k and I_kk, and v^k_2 - x; centre = (u^k_2 + u^k_3) / 2."""
    root = abs(dt) ** 0.5
    shift = B1 * g * root
    stages = g, column(centre + shift), column(centre - shift)
    excess = 0.5 * (dw**2 - abs(dt)) / root
    gain = combine(BETA1, stages) * dw + BETA2 * (stages[1] - stages[2]) * excess
    return gain, combine(B2, stages) * root


def _others(
    sde: Equation, own: int, g: Tensor, up: Tensor, down: Tensor, x: Tensor, w: Increment
) -> Tensor:
    """The last two lines of x_next for one l = own, with up = G(v^l_2) and down = G(v^l_3)."""
    g, up, down, dw = (_without(v, own) for v in (g, up, down, w.dw))
    one = 1.0 - 2.0 * (w.free < 0.0).to(w.free.dtype)
    sign = torch.cat([one[:, :own], -one[:, own + 1 :]], 1) * one[:, own : own + 1]
    double = 0.5 * (dw * w.dw[:, own : own + 1] - sign * w.length) / w.length**0.5
    gain = sde.apply_noise(BETA3[0] * g + BETA3[1] * (up + down), dw, x)
    return gain + sde.apply_noise(BETA4 * (up - down), double, x)


def _without(v: Tensor, channel: int) -> Tensor:
    return torch.cat([v[..., :channel], v[..., channel + 1 :]], -1)
