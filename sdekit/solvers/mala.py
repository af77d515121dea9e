"""The Metropolis-adjusted Langevin algorithm: a Langevin step, accepted or refused."""

from __future__ import annotations

from typing import Any, final

import torch
from sdekit_kernels.dispatch import compute_dtype
from torch import Tensor

from sdekit.noise.increment import Increment
from sdekit.sde.parameters import at, event_sum
from sdekit.solvers.base import Solver, orders
from sdekit.solvers.equation import Equation
from sdekit.solvers.ula import other_dynamics

__all__ = ["MALA"]


@final
class MALA(Solver):
    r"""y = x + F(x) dt + n, n = sqrt(2 T) dW;  x_next = y with probability min(1, a), else x.

    a = \pi(y) q(y, x) / (\pi(x) q(x, y)), with q the normal density of the proposal (Besag 1994;
    Roberts & Tweedie 1996). With S = F(x) + F(y) its second part is

        log q(y, x) - log q(x, y) = -(S . n + |S|^2 dt / 2) / (2 T).

    The law \pi \propto exp(``log_density``) is kept exactly, at any step; without the test this is
    'ula', whose law is off by O(dt). ``accepted``, which is carried, counts the
    proposals that a path took: divided by the steps it is the rate, best near 0.57 in many
    dimensions (Roberts & Rosenthal 1998). Force and log density of the state are carried, too: a
    step takes one of each, at y.

    For overdamped Langevin equations, F = ``force``, T = ``temperature``. Follows the path with
    order 3/4 in mean square (Bou-Rabee & Vanden-Eijnden 2010), weak order 1.
    """

    name = "mala"
    paper = "Roberts & Tweedie 1996"
    choose = "Langevin sampling of a density without bias"
    interpretations = ("ito",)
    strong_order = orders(additive=0.75)
    weak_order = orders(additive=1.0)
    drift_evaluations = 1
    diffusion_evaluations = 0
    draws = ("dw", "u")
    needs = ("force", "temperature", "log_density")
    carries = ("accepted", "force", "log_density")
    preserves = "the stationary law"
    general_purpose = False
    bridges = False  # a proposal is for a whole step

    def obstacle(self, sde: Equation, t: Tensor, x: Tensor) -> str:
        """Whether the equation is the one that the proposal is made for."""
        return other_dynamics(sde, t, x)

    def start(self, sde: Equation, t: Tensor, x: Tensor) -> tuple[Tensor, ...]:
        """No proposal is accepted yet; force and log density of x."""
        none = x.new_zeros(x.shape[:1], dtype=compute_dtype(x.dtype))
        return none, sde.sde.force(x), sde.sde.log_density(x)

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
        """The formulas of the class; (x_next, accepted, its force, its log density)."""
        accepted, force, density = carried
        temperature = at(sde.sde.temperature, x)
        n = (2.0 * temperature) ** 0.5 * w.dw
        y = x + force * dt + n
        force_y, density_y = sde.sde.force(y), sde.sde.log_density(y)
        both = force + force_y
        back = event_sum(both * (n + both * (0.5 * dt))) * (-0.5 / temperature)
        take = w.chance.log() < density_y - density + back
        wide = take.view(-1, *(1,) * (x.ndim - 1))
        return (
            torch.where(wide, y, x),
            accepted + take,
            torch.where(wide, force_y, force),
            torch.where(take, density_y, density),
        )
