"""Roessler's strong Runge-Kutta methods for additive noise: SRA1 and SRA3."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple, final

from torch import Tensor

from sdekit.noise.increment import Increment
from sdekit.solvers.base import Solver, orders
from sdekit.solvers.equation import Equation
from sdekit.solvers.tableau import combine

__all__ = ["SRA1", "SRA3", "SRATableau"]

Row = tuple[float, ...]


class SRATableau(NamedTuple):
    """Coefficients in Roessler's names.

    Rows of a0 and b0 belong to the drift stages after the first, which is x itself. Stages of the
    diffusion that the paper lists twice, at one time, stand here once.
    """

    c0: Row
    a0: tuple[Row, ...]
    b0: tuple[Row, ...]
    alpha: Row
    c1: Row
    beta1: Row
    beta2: Row


class _SRA(Solver):
    r"""Of stages i, with I = I_(1,0) / dt = dW / 2 + h the mean of W over the step,

        y_i = x + \sum_j a0_ij f(t + c0_j dt, y_j) dt + \sum_j b0_ij g(t + c1_j dt) I
        x_next = x + \sum_i alpha_i f(t + c0_i dt, y_i) dt
                   + \sum_i g(t + c1_i dt) (beta1_i dW + beta2_i I)     (Roessler 2010)

    Additive noise, where Ito and Stratonovich are one. Strong order 3/2, weak order 2.
    """

    tableau: ClassVar[SRATableau]
    paper = "Roessler 2010"
    interpretations = ("ito", "stratonovich")
    strong_order = orders(additive=1.5)
    weak_order = orders(additive=2.0)
    draws = ("dw", "h")

    def step(
        self,
        sde: Equation,
        t: Tensor,
        t_next: Tensor,
        dt: Any,
        x: Tensor,
        w: Increment,
        *carried: Tensor,
    ) -> Tensor:
        """The formula of the class."""
        c0, a0, b0, alpha, c1, beta1, beta2 = self.tableau
        length, mean = t_next - t, 0.5 * w.dw + w.space_time
        g = [sde.diffusion(t + c * length, x) for c in c1]
        f = [sde.drift(t, x)]
        for c, a, b in zip(c0[1:], a0, b0, strict=True):
            y = x + combine(a, f) * dt + sde.apply_noise(combine(b, g), mean, x)
            f.append(sde.drift(t + c * length, y))
        noise = sde.apply_noise(combine(beta1, g), w.dw, x)
        noise = noise + sde.apply_noise(combine(beta2, g), mean, x)
        return x + combine(alpha, f) * dt + noise


@final
class SRA1(_SRA):
    """SRA1: two evaluations of the drift, of order 2 on ODEs."""

    name = "sra1"
    choose = "paths and expectations under additive noise"
    ode_order = 2
    drift_evaluations = 2
    diffusion_evaluations = 2
    tableau = SRATableau(
        c0=(0.0, 3 / 4),
        a0=((3 / 4,),),
        b0=((3 / 2, 0.0),),
        alpha=(1 / 3, 2 / 3),
        c1=(1.0, 0.0),
        beta1=(1.0, 0.0),
        beta2=(-1.0, 1.0),
    )


@final
class SRA3(_SRA):
    """SRA3: three evaluations of the drift, of order 3 on ODEs."""

    name = "sra3"
    choose = "as sra1, where the noise is small and the ODE's order counts"
    ode_order = 3
    drift_evaluations = 3
    diffusion_evaluations = 2
    tableau = SRATableau(
        c0=(0.0, 1.0, 1 / 2),
        a0=((1.0,), (1 / 4, 1 / 4)),
        b0=((0.0, 0.0), (1.0, 1 / 2)),
        alpha=(1 / 6, 1 / 6, 2 / 3),
        c1=(1.0, 0.0),
        beta1=(1.0, 0.0),
        beta2=(-1.0, 1.0),
    )
