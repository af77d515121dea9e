"""The quadratic-exponential law: a square-root process over a step, from one normal."""

from __future__ import annotations

from typing import Final, final

import torch
from torch import Tensor

from sdekit.sde.cir import cir_moments
from sdekit.sde.parameters import Parameter

__all__ = ["VarianceStep"]

SWITCH: Final = 1.5
"""psi at which one form gives way to the other: any value from 1 to 2 does (section 3.2.3)."""
SMALLEST: Final = 1e-12
"""Of psi: below, the noise in v is less than rounding."""


@final
class VarianceStep:
    r"""v_next given v, with the exact mean m and variance s^2; \psi = s^2 / m^2 (Andersen 2008).

    From one standard normal z, whose upper tail is U = 1 - \Phi(z) (section 3.2, q = 1 - p):

        \psi <= 3/2:   v_next = m (b + z)^2 / (1 + b^2)
                      b^2 = r - 1 + sqrt(r (r - 1)),  r = 2 / \psi
        \psi > 3/2:    v_next = m / q max(log(q / U), 0),  q = 2 / (\psi + 1)

    kappa, theta, xi: of the process, shaped to meet v; dt: a tensor that does.
    """

    def __init__(
        self, kappa: Parameter, theta: Parameter, xi: Parameter, v: Tensor, dt: Tensor
    ) -> None:
        m, s2 = cir_moments(kappa, theta, xi, v.clamp(min=0.0), dt)
        some = m.clamp(min=1e-30)  # m = 0 where v stays at zero
        psi = (s2 / some / some).clamp(min=SMALLEST)
        self.m, self.quadratic = m, psi <= SWITCH
        # Each branch is computed everywhere: with a psi that it takes.
        ratio = 2.0 / psi.clamp(max=SWITCH)
        self.b2 = ratio - 1.0 + (ratio * (ratio - 1.0)) ** 0.5
        self.q = 2.0 / (psi.clamp(min=SWITCH) + 1.0)

    def draw(self, z: Tensor) -> Tensor:
        """v_next from a standard normal."""
        upper = 0.5 * torch.special.erfc(z * 0.5**0.5)
        exponential = self.m / self.q * (self.q / upper).log().clamp(min=0.0)
        quadratic = self.m / (1.0 + self.b2) * (self.b2**0.5 + z).square()
        return torch.where(self.quadratic, quadratic, exponential)

    def log_exponential_mean(self, a: Tensor) -> tuple[Tensor, Tensor]:
        """(log E exp(a v_next), whether that is finite)."""
        scale = a * self.m / (1.0 + self.b2)
        fine = scale < 0.5
        scale = torch.where(fine, scale, 0.0)
        quadratic = scale * self.b2 / (1.0 - 2.0 * scale) - 0.5 * torch.log1p(-2.0 * scale)
        rest = 1.0 - a * self.m / self.q
        other = rest > 0.0
        exponential = torch.log1p(self.q * (1.0 / torch.where(other, rest, 1.0) - 1.0))
        return (
            torch.where(self.quadratic, quadratic, exponential),
            torch.where(self.quadratic, fine, other),
        )
