"""BAOAB: a splitting of underdamped Langevin dynamics."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor

from sdekit.noise.increment import Increment
from sdekit.sde.parameters import at, phi1
from sdekit.solvers.base import Solver, orders
from sdekit.solvers.equation import Equation

__all__ = ["BAOAB", "other_motion"]


def other_motion(sde: Equation, t: Tensor, x: Tensor) -> str:
    """The obstacle for methods of underdamped Langevin dynamics; "" where the equation is such."""
    drift, noise = sde.drift(t, x), sde.diffusion(t, x)  # these say what does not fit x
    if x.ndim > 1 and x.shape[1] == 2:
        (q, v), model = x.unbind(1), sde.sde
        friction, mass = at(model.friction, q), at(model.mass, q)
        pull = model.force(q) / mass - friction * v
        spread = torch.ones_like(q) * (2.0 * friction * at(model.temperature, q) / mass)
        wanted = torch.stack([torch.zeros_like(q), spread], 1)
        same = drift.allclose(torch.stack([v, pull], 1), rtol=1e-3, atol=1e-5)
        if same and noise.square().expand_as(wanted).allclose(wanted, rtol=1e-3):
            return ""
    return (
        "it must be dq = v dt, dv = (force / mass - friction v) dt + sqrt(2 friction temperature / "
        "mass) dW with x = (q, v), as sdekit.UnderdampedLangevin: use 'sra1'"
    )


@final
class BAOAB(Solver):
    r"""Half a kick, half a drift, the exact Ornstein-Uhlenbeck step of v, drift, kick.

    For dq = v dt, dv = (F(q) / m - c v) dt + sqrt(2 c T / m) dW (Leimkuhler & Matthews 2013):

        B  v += F(q) / m dt / 2
        A  q += v dt / 2
        O  v = e^{-c dt} v + sqrt(T / m (1 - e^{-2 c dt})) z,   z = dW / sqrt(dt)

    in the order B A O A B. The force at the end is that of the next step's start, and is carried:
    one force a step. Weak order 2; strong order 1. Of a harmonic force it keeps the law of q
    exactly at any stable step, dt < 2 / frequency; of others, averages over q are off by O(dt^2)
    with a small constant, by O(dt^4) for strong friction.
    """

    name = "baoab"
    paper = "Leimkuhler & Matthews 2013"
    choose = "Langevin dynamics of molecules: averages over positions with long steps"
    interpretations = ("ito",)
    strong_order = orders(additive=1.0)
    weak_order = orders(additive=2.0)
    drift_evaluations = 1
    diffusion_evaluations = 0
    needs = ("force", "friction", "temperature", "mass")
    carries = ("force",)
    preserves = "the stationary law of q under a harmonic force"
    made_for = "Langevin dynamics of position and velocity"
    general_purpose = False

    def obstacle(self, sde: Equation, t: Tensor, x: Tensor) -> str:
        """Whether force, friction, temperature and mass are those of the equation."""
        return other_motion(sde, t, x)

    def start(self, sde: Equation, t: Tensor, x: Tensor) -> tuple[Tensor, ...]:
        """The force at the start."""
        return (sde.sde.force(x[:, 0]),)

    def step(
        self,
        sde: Equation,
        t: Tensor,
        t_next: Tensor,
        dt: Any,
        x: Tensor,
        w: Increment,
        *carried: Tensor,
    ) -> tuple[Tensor, ...]:
        """The formulas of the class; (x_next, force there)."""
        (q, v), model = x.unbind(1), sde.sde
        mass, temperature = at(model.mass, q), at(model.temperature, q)
        dt = torch.as_tensor(dt, dtype=x.dtype, device=x.device)
        dt = dt.squeeze(1) if dt.ndim else dt  # (B, 1, ...), where each sample has its own times
        decay = -at(model.friction, q) * dt
        # (1 - e^{-2 c dt}) / dt is 2 c phi_1(-2 c dt).
        spread = (2.0 * at(model.friction, q) * temperature / mass * phi1(2.0 * decay)) ** 0.5
        v = v + carried[0] * (0.5 * dt / mass)
        q = q + v * (0.5 * dt)
        v = torch.exp(decay) * v + spread * w.dw[:, 1]
        q = q + v * (0.5 * dt)
        force = model.force(q)
        v = v + force * (0.5 * dt / mass)
        return torch.stack([q, v], 1), force
