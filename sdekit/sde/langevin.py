"""Overdamped Langevin dynamics: noise and a potential that balance in a known law."""

from __future__ import annotations

import math
from typing import Any, final

import torch
from torch import Tensor

from sdekit.sde.base import SDE
from sdekit.sde.parameters import event_sum, positive_number


@final
class DoubleWell(SDE):
    r"""dx = -U'(x) dt + sqrt(2 temperature) dW with U(x) = height (x^2 - 1)^2, in each component.

    Two wells at -1 and 1, a barrier of ``height`` at 0. The stationary density is proportional to
    exp(-U(x) / temperature), independently in each component. height and temperature have one unit,
    of energy; friction is 1.
    Raises TypeError or ValueError unless both are finite and above zero.
    """

    noise_type = "additive"

    def __init__(self, height: Any = 1.0, temperature: Any = 1.0) -> None:
        self.height = positive_number("height", height)
        self.temperature = positive_number("temperature", temperature)

    def potential(self, x: Tensor) -> Tensor:
        """U of each component, of x's shape."""
        return self.height * (x.square() - 1.0).square()

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """-U'(x) = -4 height x (x^2 - 1)."""
        return -4.0 * self.height * x * (x.square() - 1.0)

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        """sqrt(2 temperature), 0-d."""
        return torch.full((), math.sqrt(2.0 * self.temperature), dtype=x.dtype, device=x.device)

    def log_density(self, x: Tensor) -> Tensor:
        """Log of the stationary density up to a constant, in nats, summed over the event: (B,)."""
        return -event_sum(self.potential(x)) / self.temperature

    def stationary_score(self, x: Tensor) -> Tensor:
        """Gradient of ``log_density``: -U'(x) / temperature, of x's shape."""
        return -4.0 * self.height * x * (x.square() - 1.0) / self.temperature
