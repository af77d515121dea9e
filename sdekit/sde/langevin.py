"""Overdamped Langevin dynamics: noise and a potential that balance in a known law."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor

from sdekit.sde.base import SDE, check_batched
from sdekit.sde.parameters import at, event_sum, one_number, positive_number
from sdekit.sde.potential import Field


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
        """``force(x)``."""
        return self.force(x)

    def force(self, x: Tensor) -> Tensor:
        """-U'(x) = -4 height x (x^2 - 1), of x's shape."""
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


@final
class Langevin(SDE):
    r"""Overdamped Langevin dynamics dx = force(x) dt + sqrt(2 temperature) dW, additive noise.

    The stationary density is proportional to exp(-U(x) / temperature), force = -grad U. Friction is
    1. potential: a function of x (B, D...) that gives one energy a sample, (B,), or one term a
    component, written in torch, which differentiates it. force: a function of x that gives x's
    shape, instead or beside it (then it should be minus the gradient). temperature: of energy's
    unit, a number or a 0-d tensor.
    Raises TypeError for what is no number or function, or without potential and force; ValueError
    unless temperature is above zero.
    """

    noise_type = "additive"

    def __init__(
        self,
        potential: Callable[[Tensor], Tensor] | None = None,
        *,
        force: Callable[[Tensor], Tensor] | None = None,
        temperature: Any = 1.0,
    ) -> None:
        self._field = Field("Langevin", potential, force)
        self.temperature = one_number("temperature", temperature, minimum=0.0, strict=True)

    def force(self, x: Tensor) -> Tensor:
        """The force at x (B, D...), of x's shape."""
        return self._field.force(check_batched(x))

    def potential(self, x: Tensor) -> Tensor:
        """U of x (B, D...), (B,); raises TypeError where the force alone was given."""
        return self._field.potential(check_batched(x))

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """``force(x)``."""
        return self.force(x)

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        """sqrt(2 temperature), 0-d."""
        scale = (2.0 * at(self.temperature, x)) ** 0.5
        if isinstance(scale, Tensor):
            return scale
        return torch.full((), scale, dtype=x.dtype, device=x.device)

    def log_density(self, x: Tensor) -> Tensor:
        """Log of the stationary density up to a constant, in nats: (B,)."""
        return -self.potential(x) / at(self.temperature, x)
