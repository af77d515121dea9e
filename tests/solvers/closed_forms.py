"""Equations whose solution at t is a function of the Brownian path over [0, t].

Each is written down by its Stratonovich form, whose solution is that of the ordinary calculus; the
Ito form has the drift f + c. ``solution`` takes the path's whole ``Increment``.
"""

from __future__ import annotations

import torch


class Closed:
    """noise_type, interpretation, x0 (1, D), and ``solution(w)``; t from 0 to 1."""

    def __init__(self, noise_type, interpretation):
        self.noise_type, self.interpretation = noise_type, interpretation

    def drift(self, t, x):
        f = self.stratonovich_drift(t, x)
        return f + self.correction(t, x) if self.interpretation == "ito" else f

    @property
    def name(self):
        return type(self).__name__.lower()


class Shrinking(Closed):
    """dx = -x / (1 + t) dt + b / (1 + t) dW: x = (x_0 + b W) / (1 + t)."""

    noise_types = ("additive",)
    x0, b = torch.tensor([[1.0, -0.5]], dtype=torch.float64), 0.7

    def stratonovich_drift(self, t, x):
        return -x / (1.0 + t)

    def correction(self, t, x):
        return torch.zeros_like(x)

    def diffusion(self, t, x):
        return self.b / (1.0 + t)

    def solution(self, w):
        return (self.x0 + self.b * w.dw) / 2.0


class Sinh(Closed):
    """dx = sqrt(1 + x^2) (a dt + b o dW): x = sinh(asinh x_0 + a t + b W), in each component."""

    noise_types = ("diagonal", "scalar", "general")
    x0, a, b = torch.tensor([[0.5, -0.3]], dtype=torch.float64), 0.3, 0.5

    def stratonovich_drift(self, t, x):
        return self.a * (1.0 + x**2) ** 0.5

    def correction(self, t, x):
        return 0.5 * self.b**2 * x

    def diffusion(self, t, x):
        g = self.b * (1.0 + x**2) ** 0.5
        return torch.diag_embed(g) if self.noise_type == "general" else g

    def solution(self, w):
        dw = w.dw[:, None] if self.noise_type == "scalar" else w.dw
        return torch.sinh(torch.asinh(self.x0) + self.a + self.b * dw)


class Spiral(Closed):
    """dz = z (a dt + sum_j b_j o dW_j), complex: z = z_0 exp(a t + sum_j b_j W_j)."""

    noise_types = ("scalar", "general")
    x0, a, b = (
        torch.tensor([[1.0, 0.0]], dtype=torch.float64),
        -0.2 + 0.9j,
        (0.3 + 0.4j, -0.2 + 0.3j),
    )

    def stratonovich_drift(self, t, x):
        return _times(self.a, x)

    def correction(self, t, x):
        return _times(0.5 * sum(b * b for b in self.factors), x)

    @property
    def factors(self):
        return self.b[:1] if self.noise_type == "scalar" else self.b

    def diffusion(self, t, x):
        columns = [_times(b, x) for b in self.factors]
        return columns[0] if self.noise_type == "scalar" else torch.stack(columns, -1)

    def solution(self, w):
        dw = w.dw[:, None] if self.noise_type == "scalar" else w.dw
        exponent = self.a + sum(b * dw[:, j] for j, b in enumerate(self.factors))
        return torch.view_as_real(exponent.exp())


def _times(z, x):
    """A complex number times pairs (re, im)."""
    re, im = x.unbind(-1)
    return torch.stack([z.real * re - z.imag * im, z.imag * re + z.real * im], -1)


class Heisenberg(Closed):
    """dx = s dW_1, dy = s dW_2, dz = z (x o dy - y o dx) / 2: z = z_0 exp(s^2 area of (W_1, W_2)).

    The fields do not commute: their bracket is s^2 d/d(log z).
    """

    noise_types = ("general",)
    x0, s = torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64), 0.6

    def stratonovich_drift(self, t, x):
        return torch.zeros_like(x)

    def correction(self, t, x):
        a, b, z = x.unbind(1)
        zero = torch.zeros_like(z)
        return torch.stack([zero, zero, z * (a * a + b * b) * (self.s**2 / 8.0)], 1)

    def diffusion(self, t, x):
        a, b, z = x.unbind(1)
        zero, one = torch.zeros_like(z), torch.ones_like(z)
        first = torch.stack([one, zero, -0.5 * b * z], 1)
        return self.s * torch.stack([first, torch.stack([zero, one, 0.5 * a * z], 1)], 2)

    def solution(self, w):
        z = (self.s**2 * w.area[:, 0, 1]).exp()
        return torch.stack([self.s * w.dw[:, 0], self.s * w.dw[:, 1], z], 1)


CLOSED = (Shrinking, Sinh, Spiral, Heisenberg)
