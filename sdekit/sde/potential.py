"""A force given by itself, or as minus the gradient of a potential."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

from torch import Tensor

from sdekit.sde.base import check_output
from sdekit.sde.derivatives import gradient
from sdekit.sde.parameters import event_sum

__all__ = ["Field"]

Function = Callable[[Tensor], Tensor]


@final
class Field:
    """Potential and force of the equation ``owner``, from either or both of two functions of q.

    potential: q (B, D...) to one energy a sample, (B,), or one term a component, of q's shape,
    whose sum it is. force: q to q's shape; without it, minus the potential's gradient.
    Raises TypeError for what is no function, or if neither is given.
    """

    def __init__(self, owner: str, potential: Function | None, force: Function | None) -> None:
        for name, given in (("potential", potential), ("force", force)):
            if given is not None and not callable(given):
                raise TypeError(f"{name} must be a function of q, (B, D...), got {given!r}")
        if potential is None and force is None:
            raise TypeError(
                f"{owner} needs a potential or a force: write {owner}(lambda q: 0.5 * q.square()) "
                f"or {owner}(force=lambda q: -q)"
            )
        self.owner, self.given_potential, self.given_force = owner, potential, force

    def potential(self, q: Tensor) -> Tensor:
        """U of each sample, (B,).

        Raises TypeError where the force alone was given, ValueError for a potential of another
        shape.
        """
        if self.given_potential is None:
            raise TypeError(
                f"this {self.owner} was made of a force alone: write {self.owner}(potential=..., "
                "force=...) for its energy"
            )
        energy: Any = self.given_potential(q)
        if not isinstance(energy, Tensor):
            raise TypeError(f"potential must return a tensor, got {type(energy).__name__}")
        if energy.shape != q.shape[:1] and energy.shape != q.shape:
            raise ValueError(
                f"potential returned shape {tuple(energy.shape)} for q of shape {tuple(q.shape)}: "
                f"return one energy a sample, ({q.shape[0]},), or one term a component"
            )
        return event_sum(energy)

    def force(self, q: Tensor) -> Tensor:
        """The force at q, of q's shape. Raises as ``potential``, and TypeError without gradient."""
        if self.given_force is not None:
            return check_output("force", self.given_force(q), q)
        return -gradient(self.potential, q, f"the potential of {self.owner}")
