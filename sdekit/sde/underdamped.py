"""Underdamped Langevin dynamics: position and velocity, friction and noise in balance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor

from sdekit.sde.base import SDE, check_batched
from sdekit.sde.parameters import (
    Parameter,
    at,
    check_event,
    event_sum,
    one_number,
    parameter,
    shared_event_shape,
)
from sdekit.sde.potential import Field

__all__ = ["UnderdampedLangevin"]


@final
class UnderdampedLangevin(SDE):
    r"""Position q and velocity v, x = (q, v) of shape (B, 2, D...) (Langevin 1908; Kramers 1940):

        dq = v dt
        dv = (force(q) / mass - friction v) dt + sqrt(2 friction temperature / mass) dW

    The stationary density is proportional to exp(-energy(x) / temperature) with energy U(q) + mass
    v^2 / 2, force = -grad U. Additive noise, none on q.

    potential: a function of q (B, D...) that gives one energy a sample, (B,), or one term a
    component, written in torch, which differentiates it. force: a function of q that gives q's
    shape, instead or beside it (then it should be minus the gradient). friction (per unit of time),
    mass: each a number, a 0-d tensor, or one entry a component of q. temperature: of energy's unit,
    a number or a 0-d tensor.
    Raises TypeError for what is no number, tensor or function, or without potential and force;
    ValueError unless temperature and mass are above zero and friction is not below.
    """

    noise_type = "additive"

    def __init__(
        self,
        potential: Callable[[Tensor], Tensor] | None = None,
        *,
        force: Callable[[Tensor], Tensor] | None = None,
        friction: Any = 1.0,
        temperature: Any = 1.0,
        mass: Any = 1.0,
    ) -> None:
        self._field = Field("UnderdampedLangevin", potential, force)
        self.friction: Parameter = parameter("friction", friction, minimum=0.0)
        self.temperature = one_number("temperature", temperature, minimum=0.0, strict=True)
        self.mass: Parameter = parameter("mass", mass, minimum=0.0, strict=True)
        self.event_shape = shared_event_shape(friction=self.friction, mass=self.mass)

    def force(self, q: Tensor) -> Tensor:
        """The force on positions q (B, D...), of q's shape."""
        return self._field.force(q)

    def potential(self, q: Tensor) -> Tensor:
        """U of positions q (B, D...), (B,); raises TypeError where the force alone was given."""
        return self._field.potential(q)

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """(v, force(q) / mass - friction v), of x's shape."""
        q, v = self._check(x)
        return torch.stack([v, self.force(q) / at(self.mass, x) - at(self.friction, x) * v], 1)

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        """(0, sqrt(2 friction temperature / mass)), (1, 2, 1...) or (1, 2, D...)."""
        q, _ = self._check(x)
        ratio = 2.0 * at(self.friction, x) * at(self.temperature, x) / at(self.mass, x)
        scale = ratio**0.5
        if not isinstance(scale, Tensor):
            scale = torch.full((), scale, dtype=x.dtype, device=x.device)
        scale = scale.reshape(1, *(scale.shape[1:] or (1,) * (q.ndim - 1)))
        return torch.stack([torch.zeros_like(scale), scale], 1)

    def energy(self, x: Tensor) -> Tensor:
        """U(q) + mass v^2 / 2, summed over the event: (B,)."""
        q, v = self._check(x)
        return self.potential(q) + event_sum(0.5 * at(self.mass, x) * v.square())

    def log_density(self, x: Tensor) -> Tensor:
        """Log of the stationary density up to a constant, in nats: (B,)."""
        return -self.energy(x) / at(self.temperature, x)

    def _check(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Position and velocity."""
        if check_batched(x).ndim < 2 or x.shape[1] != 2:
            raise ValueError(
                "UnderdampedLangevin has position and velocity: x must have shape (B, 2, D...), "
                f"got {tuple(x.shape)}: write torch.stack([q, v], 1)"
            )
        q, v = x.unbind(1)
        check_event("UnderdampedLangevin", self.event_shape, q)
        return q, v
