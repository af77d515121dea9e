"""Affine drifts, and equations made of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from sdekit.bridge.closed_form.reference import Reference
from sdekit.sde import SDE


@dataclass(frozen=True, slots=True)
class AffineMap:
    """x to matrix x + shift: matrix (D, D) and shift (D,), or (n, D, D) and (n, D) for n times."""

    matrix: Tensor
    shift: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """The value at x of shape (..., D), in x's dtype and on its device."""
        matrix, shift = self.matrix.to(x), self.shift.to(x)
        if matrix.ndim == 2:
            return x @ matrix.mT + shift
        return (matrix @ x.unsqueeze(-1)).squeeze(-1) + shift


@final
class AffineEquation(SDE):
    """dx = (A_t x + c_t) dt + g(t) dW with g of the reference: what ``sk.solve`` can simulate.

    The map is made on the CPU in float64 at each time that a solver asks for. Events of any shape
    are flattened to D components. A forward drift runs over rising times; a backward one, in the
    convention of ``ReverseSDE``, over falling times: ``sk.solve(..., t0=T, t1=0.0)``.
    """

    noise_type = "additive"

    def __init__(
        self, drift_map: Callable[[Tensor], AffineMap], reference: Reference, *, backward: bool
    ) -> None:
        self.drift_map, self.reference = drift_map, reference
        self.time_direction = "backward" if backward else "forward"

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """A_t x + c_t, of x's shape (B, D...)."""
        flat = x.flatten(1)
        if flat.shape[1] != self.reference.dim:
            raise ValueError(
                f"the bridge has {self.reference.dim} components, x has shape {tuple(x.shape)}"
            )
        return self.drift_map(t)(flat).view_as(x)

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        """g(t), (1, D...) or, for times one a sample, (B, D...)."""
        g = self.reference.rates(t)[1].sqrt()
        return torch.atleast_2d(g).view(-1, *x.shape[1:]).to(x)
