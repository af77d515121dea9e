"""The solution on a Brownian path, by a fine run of a step that is no solver of the library."""

from __future__ import annotations

import torch

from sdekit.solvers import Solver
from sdekit.solvers.base import orders


class FineStep(Solver):
    r"""One step of a ``RandomField``'s process as an ODE: the flow, over unit time, of

        f dt + \sum_j G_j dW_j + \sum_j [G_j, F] h_j dt + \sum_j [G_j, [G_j, F]] dt^2 / 12
             + \sum_{j < k} [G_j, G_k] area_{jk},

    F = d/dt + f the Stratonovich drift and [A, B] = D_A B - D_B A: the logarithm of the path's
    signature, with the mean of what is not drawn (Castell & Gaines 1996; Foster, Lyons & Oberhauser
    2020). Runge and Kutta take it. The double bracket is a drift of 1e-5 at the steps used; it
    is left out where errors are ten times that, of diagonal and general noise.
    Whatever the interpretation that a solver is given, the process is this one.
    """

    name = "fine_step"
    interpretations = ("ito", "stratonovich")
    strong_order = orders(additive=1.5, diagonal=1.5, scalar=1.5, general=1.0)
    weak_order = strong_order

    def __init__(self, field):
        self.field = field
        self.draws = ("dw", "h", "area") if field.noise_type == "general" else ("dw", "h")

    def step(self, sde, t, t_next, dt, x, w, *carried):
        drift, noise = self.field.stratonovich_drift(t, x), self.field.diffusion(t, x)
        extra = self.brackets(t, dt, x, w, drift, noise)

        def slope(drift, noise):
            return drift * dt + sde.apply_noise(noise, w.dw, x) + extra

        def at(u, y):
            now = t + u * (t_next - t)
            return slope(self.field.stratonovich_drift(now, y), self.field.diffusion(now, y))

        a = slope(drift, noise)
        b = at(0.5, x + 0.5 * a)
        c = at(0.5, x + 0.5 * b)
        return x + (a + 2.0 * b + 2.0 * c + at(1.0, x + c)) / 6.0

    def brackets(self, t, dt, x, w, f, noise):
        """All that stands in brackets, at the start of the step, of drift and noise there."""
        made = torch.zeros_like(x)
        for j in range(self.field.columns):
            h = w.h if w.h.ndim == 1 else w.h[:, j]
            g = self.field.pick(noise, x, j)
            bracket = self.with_drift(t, x, j, f, g)
            made = made + bracket * (h * dt)[:, None]
            if self.field.noise_type in ("additive", "scalar"):
                made = made + self.twice_with_drift(t, x, j, g, bracket) * (dt * dt / 12.0)
            for k in range(j + 1, self.field.columns):
                if w.area is not None:
                    bracket = self.field.column_along(t, x, k, g)
                    other = self.field.pick(noise, x, k)
                    bracket = bracket - self.field.column_along(t, x, j, other)
                    made = made + bracket * w.area[:, j, k, None]
        return made

    def with_drift(self, t, x, j, f, g):
        """[G_j, F] of both there."""
        return self.field.drift_along(t, x, g) - self.field.column_along(t, x, j, f, 1.0)

    def twice_with_drift(self, t, x, j, g, b):
        """[G_j, [G_j, F]] of b = [G_j, F], by a central difference: it counts little."""
        e = 1e-4

        def moved(y):
            f = self.field.stratonovich_drift(t, y)
            return self.with_drift(t, y, j, f, self.field.column(t, y, j))

        change = moved(x + e * g) - moved(x - e * g)
        return change / (2.0 * e) - self.field.column_along(t, x, j, b)
