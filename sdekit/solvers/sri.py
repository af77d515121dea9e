"""Roessler's strong Runge-Kutta methods for diagonal and scalar noise, and SRIW1 of them."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple, final

from torch import Tensor

from sdekit.noise.increment import Increment
from sdekit.solvers.base import Solver, orders
from sdekit.solvers.equation import Equation
from sdekit.solvers.tableau import combine, mixed_diffusion

__all__ = ["SRI", "SRIW1", "SRITableau"]

Row = tuple[float, ...]


class SRITableau(NamedTuple):
    """Coefficients in Roessler's names.

    Rows of a0, b0 (a1, b1) belong to the stages after the first, which is x itself; column i of
    beta, whose rows are beta^(1) to beta^(4), to stage i.
    """

    c0: Row
    a0: tuple[Row, ...]
    b0: tuple[Row, ...]
    alpha: Row
    c1: Row
    a1: tuple[Row, ...]
    b1: tuple[Row, ...]
    beta: tuple[Row, Row, Row, Row]


class SRI(Solver):
    r"""With f_j = f(t + c0_j dt, y_j), g_j = g(t + c1_j dt, z_j) and, over the step, the integrals

        I_1 = dW,  I_11 = (dW^2 - dt) / 2,  I_10 = dt (dW / 2 + h),  I_111 = (dW^3 - 3 dt dW) / 6,

        y_i = x + \sum_j a0_ij f_j dt + \sum_j b0_ij g_j I_10 / dt
        z_i = x + \sum_j a1_ij f_j dt + \sum_j b1_ij g_j sqrt(dt)
        x_next = x + \sum_i alpha_i f_i dt + \sum_i g_i (beta1_i I_1 + beta2_i I_11 / sqrt(dt)
                   + beta3_i I_10 / dt + beta4_i I_111 / dt)                (Roessler 2010)

    Ito; additive, diagonal (g_i depends on t and x_i alone) and scalar noise. Strong order 3/2.
    Weak order 2 for additive noise, else 3/2: terms such as the one of dW dt^(3/2) with the third
    derivative of g, too small for the strong order to see, leave dt^(5/2) in the second moment of a
    step. (Noise that is linear in x has none with SRIW1: there its weak order is 2.)
    """

    tableau: ClassVar[SRITableau]
    interpretations = ("ito",)
    strong_order = orders(additive=1.5, diagonal=1.5, scalar=1.5)
    weak_order = orders(additive=2.0, diagonal=1.5, scalar=1.5)
    ode_order = 2
    diffusion_evaluations = 4
    draws = ("dw", "h")

    def obstacle(self, sde: Equation, t: Tensor, x: Tensor) -> str:
        """Diagonal noise must be g_i(t, x_i)."""
        return mixed_diffusion(sde, t, x)

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
        c0, a0, b0, alpha, c1, a1, b1, beta = self.tableau
        length, root = t_next - t, abs(dt) ** 0.5
        mean, excess = 0.5 * w.dw + w.space_time, w.dw**2 - w.length
        cubic = w.dw * (w.dw**2 - 3.0 * w.length) / (6.0 * w.length)
        integrals = (w.dw, 0.5 * excess / w.length**0.5, mean, cubic)
        f, g = [sde.drift(t, x)], [sde.diffusion(t, x)]
        for i in range(1, len(c1)):
            z = x + combine(a1[i - 1], f) * dt
            if not sde.deterministic:
                z = z + combine(b1[i - 1], g) * root
            if i < len(c0):
                y = x + combine(a0[i - 1], f) * dt
                y = y + sde.apply_noise(combine(b0[i - 1], g), mean, x)
                f.append(sde.drift(t + c0[i] * length, y))
            g.append(sde.diffusion(t + c1[i] * length, z))
        noise = [
            sde.apply_noise(v, combine(weights, integrals), x)
            for v, weights in zip(g, zip(*beta, strict=True), strict=True)
        ]
        return x + combine(alpha, f) * dt + combine((1.0,) * len(noise), noise)


@final
class SRIW1(SRI):
    """SRIW1: two evaluations of the drift. The paper's third and fourth drift stages are x, too."""

    name = "sriw1"
    choose = "paths under diagonal or scalar Ito noise to high accuracy"
    paper = "Roessler 2010"
    drift_evaluations = 2
    tableau = SRITableau(
        c0=(0.0, 3 / 4),
        a0=((3 / 4,),),
        b0=((3 / 2,),),
        alpha=(1 / 3, 2 / 3),
        c1=(0.0, 1 / 4, 1.0, 1 / 4),
        a1=((1 / 4,), (1.0,), (1 / 4,)),
        b1=((1 / 2,), (-1.0,), (-5.0, 3.0, 1 / 2)),
        beta=(
            (-1.0, 4 / 3, 2 / 3, 0.0),
            (-1.0, 4 / 3, -1 / 3, 0.0),
            (2.0, -4 / 3, -2 / 3, 0.0),
            (-2.0, 5 / 3, -2 / 3, 1.0),
        ),
    )
