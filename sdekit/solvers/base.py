"""What a solver is: one step in plain torch, and the promises that go with it.

Notation of every solver's file: ``t, t_next`` 0-d tensors, ``dt = t_next - t`` a float (negative on
a decreasing grid), ``x`` the state (B, D...), ``dw`` the Brownian increment over the step.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

from sdekit_kernels import em_step
from torch import Tensor

from sdekit.noise import keys
from sdekit.solvers.equation import Equation

__all__ = ["Solver", "orders"]


def orders(
    *, additive: float, diagonal: float, scalar: float, general: float
) -> Mapping[str, float]:
    """Order of convergence for each noise type, read-only."""
    return MappingProxyType(
        {"additive": additive, "diagonal": diagonal, "scalar": scalar, "general": general}
    )


class Solver(ABC):
    """A one-step method for dx = f dt + G dW.

    Class attributes are promises, tested from one table: ``interpretations`` and ``noise_types``
    say what the method takes, ``strong_order`` and ``weak_order`` how fast its error falls for each
    noise type, ``drift_evaluations`` what a step costs. ``em_kernel`` says that the step is
    x + f dt + g dw with elementwise g, so that the fused step kernel computes it.
    """

    name: ClassVar[str]
    interpretations: ClassVar[tuple[str, ...]]
    noise_types: ClassVar[tuple[str, ...]]
    strong_order: ClassVar[Mapping[str, float]]
    weak_order: ClassVar[Mapping[str, float]]
    drift_evaluations: ClassVar[int]
    em_kernel: ClassVar[bool] = False

    @abstractmethod
    def step(
        self, sde: Equation, t: Tensor, t_next: Tensor, dt: float, x: Tensor, dw: Tensor
    ) -> Tensor:
        """The state at t_next."""

    def kernel_step(
        self,
        sde: Equation,
        t: Tensor,
        dt: float,
        x: Tensor,
        *,
        seed: int,
        step: int,
        first_sample: int,
        backend: str,
    ) -> Tensor:
        """``step`` with its noise made in registers; only where ``em_kernel`` is true."""
        return em_step(
            x,
            sde.drift(t, x),
            sde.diffusion(t, x),
            dt,
            seed=seed,
            stream=keys.PATH,
            step=step,
            first_sample=first_sample,
            backend=backend,
        )
