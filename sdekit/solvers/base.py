"""What a solver is: one step in plain torch, and the promises that go with it.

Notation of every solver's file: ``t, t_next`` 0-d tensors (or one entry a sample, (B,)), ``dt`` the
length of the step, a float or in the shape in which it multiplies x (negative on a decreasing
grid), ``x`` the state (B, D...), ``w`` the noise of the step (``Increment``: dw, h, ...), ``f`` and
``g`` drift and diffusion. Times between t and t_next are written t + c (t_next - t).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from sdekit_kernels import em_step
from torch import Tensor

from sdekit.noise import keys
from sdekit.noise.increment import Increment
from sdekit.solvers.equation import Equation

__all__ = ["ANY_NOISE", "Solver", "orders"]

ANY_NOISE = ("additive", "diagonal", "scalar", "general")
ELEMENTWISE = ("additive", "diagonal", "scalar")


def orders(**by_noise: float) -> Mapping[str, float]:
    """Order of convergence for each noise type that the method takes, read-only."""
    return MappingProxyType(by_noise)


class Solver(ABC):
    """A one-step method for dx = f dt + G dW.

    Class attributes are promises, tested from one table.

    name: what a user writes. paper: where the method is from. choose: when to take it, in a few
    words.
    interpretations: "ito", "stratonovich" or both; additive noise and ODEs have but one.
    strong_order, weak_order: how fast the error falls, for each noise type; a noise type that is
    not named there is not taken. A strong order of 0 means that the method follows the law alone.
    Diagonal noise there is that of g_i(t, x_i); see ``orders_on`` for such as mixes components.
    ode_order: of the method on an equation without noise; 0 if it takes none.
    drift_evaluations, diffusion_evaluations: what a step costs; a derivative of either in one
    direction counts as one.
    draws: what a step takes from the noise, "dw" first (see ``Increment``).
    needs: what the equation must have besides drift and diffusion.
    carries: names of the numbers that the method takes from step to step besides x.
    preserves: words for what the method keeps exactly, for the table in the documentation.
    made_for: words for the equations for which ``method="auto"`` takes the method before others.
    general_purpose: whether ``method="auto"`` may take it for all the others.
    bridges: whether a step may end between two times of the grid.
    em_kernel: the step is x + f dt + g dw with elementwise g, so that the fused step kernel
    computes it.
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    choose: ClassVar[str] = ""
    interpretations: ClassVar[tuple[str, ...]]
    strong_order: ClassVar[Mapping[str, float]]
    weak_order: ClassVar[Mapping[str, float]]
    ode_order: ClassVar[float] = 0
    drift_evaluations: ClassVar[int]
    diffusion_evaluations: ClassVar[int]
    draws: ClassVar[tuple[str, ...]] = ("dw",)
    needs: ClassVar[tuple[str, ...]] = ()
    carries: ClassVar[tuple[str, ...]] = ()
    preserves: ClassVar[str] = ""
    made_for: ClassVar[str] = ""
    general_purpose: ClassVar[bool] = True
    bridges: ClassVar[bool] = True
    em_kernel: ClassVar[bool] = False

    @property
    def noise_types(self) -> tuple[str, ...]:
        """The noise types that the method takes."""
        return tuple(n for n in ANY_NOISE if n in self.weak_order)

    def takes(self, sde: Equation) -> bool:
        """Whether the method is made for an equation of this kind."""
        if any(not hasattr(sde.sde, name) for name in self.needs):
            return False
        if sde.deterministic and self.ode_order > 0:
            return True
        one = sde.noise_type == "additive"  # where the interpretations agree
        return sde.noise_type in self.weak_order and (
            one or sde.interpretation in self.interpretations
        )

    def obstacle(self, sde: Equation, t: Tensor, x: Tensor) -> str:
        """What this equation, looked at in x, lacks for the method's promises; "" if nothing."""
        return ""

    def orders_on(self, sde: Equation, mixed: bool) -> tuple[float, float]:
        """(strong order, weak order) on an equation that the method takes.

        mixed: whether its noise is diagonal with a g_i that depends on more than t and x_i. The
        columns g_i e_i do not commute then, so that it is general noise to a method that takes it.
        """
        strong, weak = (o.get(sde.noise_type, 0.0) for o in (self.strong_order, self.weak_order))
        if mixed and sde.noise_type == "diagonal":
            strong = min(strong, self.strong_order.get("general", strong))
            weak = min(weak, self.weak_order.get("general", weak))
        return strong, weak

    def start(self, sde: Equation, t: Tensor, x: Tensor) -> tuple[Tensor, ...]:
        """What the method carries, at the first time: (B, ...) for each name in ``carries``."""
        return ()

    @abstractmethod
    def step(
        self,
        sde: Equation,
        t: Tensor,
        t_next: Tensor,
        dt: Any,
        x: Tensor,
        w: Increment,
        *carried: Tensor,
    ) -> Tensor | tuple[Tensor, ...]:
        """The state at t_next; followed by what is carried, where the method carries anything."""

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
