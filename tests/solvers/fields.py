"""Fields without structure: small random networks of period 2 pi in every component.

With s = (sin x, cos x), a field is B tanh(A s + b + c t) + o; A, b, c and B are random, o keeps the
noise from vanishing.
The process is dx = f dt + G o dW (Stratonovich); its Ito form has the drift f + c with c = 1/2
sum_j (D G_j) G_j, which is written out here, so that no derivative of the library's stands in it.
"""

from __future__ import annotations

import math
from types import SimpleNamespace

import torch
from sdekit_kernels import normal

HIDDEN = 4
VARIATION, DRIFT = 0.55, 0.4


class Network:
    """A random function of (t, x) from (B, D) to (B, *shape); steady: not of t."""

    def __init__(self, inputs, shape, seed, size, around=0.0, steady=False):
        outputs = math.prod(shape)
        z = iter(range(9))

        def draw(*shape):
            return normal(shape, seed=seed, step=next(z), dtype=torch.float64)

        weights = {
            "a": draw(HIDDEN, 2 * inputs) / (2 * inputs) ** 0.5,
            "b": draw(1, HIDDEN)[0],
            "c": draw(1, HIDDEN)[0] * (0.0 if steady else 1.0),
            "out": draw(outputs, HIDDEN) * (size / HIDDEN**0.5),
            "offset": torch.as_tensor(around).expand(shape).flatten().double(),
        }
        self.shape = shape
        # Made here for both types: a tensor that is converted while a step is traced is no number.
        self.weights = {
            dtype: SimpleNamespace(**{name: v.to(dtype) for name, v in weights.items()})
            for dtype in (torch.float32, torch.float64)
        }

    def hidden(self, t, x):
        w = self.weights[x.dtype]
        return torch.tanh(torch.cat([x.sin(), x.cos()], 1) @ w.a.T + w.b + w.c * t)

    def __call__(self, t, x):
        w = self.weights[x.dtype]
        return (self.hidden(t, x) @ w.out.T + w.offset).reshape(-1, *self.shape)

    def along(self, t, x, v, time=0.0):
        """The derivative in direction v (B, D) of x and ``time`` of t."""
        w = self.weights[x.dtype]
        inner = torch.cat([x.cos() * v, -x.sin() * v], 1) @ w.a.T + w.c * time
        return (((1 - self.hidden(t, x) ** 2) * inner) @ w.out.T).reshape(-1, *self.shape)


class RandomField:
    """Drift and diffusion of D components and, of general noise, M Brownian motions.

    additive: a function of time. diagonal: component i a function of t and x_i. apart: so is
    everything, for methods that need it of the drift, whose Ito form has derivatives of G.
    """

    def __init__(
        self, noise_type, interpretation="ito", d=2, m=2, steady=False, apart=False, seed=11
    ):
        self.noise_type, self.interpretation, self.d, self.m = noise_type, interpretation, d, m
        self.steady, self.apart = steady, apart

        def drift(inputs, shape, k):
            return Network(inputs, shape, seed + k, DRIFT, steady=steady)

        def noise(inputs, shape, k, around=0.8):
            return Network(inputs, shape, seed + k, VARIATION, around, steady)

        self.f = [drift(1, (1,), 20 + i) for i in range(d)] if apart else drift(d, (d,), 1)
        around = 0.8 * torch.eye(max(d, m))[:d, :m]
        if noise_type == "general" and apart:
            self.g = [noise(1, (1, m), 4 + i, around[i]) for i in range(d)]
        elif noise_type == "general":
            self.g = noise(d, (d, m), 2, around)
        elif noise_type == "diagonal" or apart:
            self.g = [noise(1, (1,), 4 + i) for i in range(d)]
        else:
            self.g = noise(d, (d,), 3)

    def drift(self, t, x):
        f = self.stratonovich_drift(t, x)
        return f + self.correction(t, x) if self.interpretation == "ito" else f

    def stratonovich_drift(self, t, x):
        return _apply(self.f, t, x)

    def diffusion(self, t, x):
        if self.noise_type == "additive":
            return _apply(self.g, t, torch.zeros_like(x))
        return _apply(self.g, t, x)

    def correction(self, t, x):
        """Ito drift minus Stratonovich drift."""
        g = self.diffusion(t, x)
        if self.noise_type != "general":
            return 0.5 * self.noise_along(t, x, g.expand(x.shape))
        columns = range(g.shape[-1])
        return 0.5 * sum(self.noise_along(t, x, g[..., j])[..., j] for j in columns)

    def drift_along(self, t, x, v):
        """(D f) v, (B, D)."""
        return _along(self.f, t, x, v)

    def noise_along(self, t, x, v, time=0.0):
        """(D G) v + time dG / dt, of the diffusion's shape."""
        if self.noise_type == "additive":
            x, v = torch.zeros_like(x), torch.zeros_like(x)
        return _along(self.g, t, x, v, time)

    @property
    def columns(self):
        """Brownian motions."""
        return {"scalar": 1, "general": self.m}.get(self.noise_type, self.d)

    def column(self, t, x, j):
        """G_j, (B, D): what dW_j multiplies."""
        return self._pick(self.diffusion(t, x), x, j)

    def column_along(self, t, x, j, v, time=0.0):
        """(D G_j) v + time dG_j / dt, (B, D)."""
        return self._pick(self.noise_along(t, x, v, time), x, j)

    def _pick(self, g, x, j):
        if self.noise_type == "general":
            return g[..., j]
        return g if self.noise_type == "scalar" else g.expand(x.shape) * torch.eye(self.d).to(x)[j]


def _apply(network, t, x):
    """A network of x, or one network a component."""
    if isinstance(network, list):
        return torch.cat([n(t, x[:, i : i + 1]) for i, n in enumerate(network)], 1)
    return network(t, x)


def _along(network, t, x, v, time=0.0):
    if isinstance(network, list):
        pairs = enumerate(network)
        return torch.cat([n.along(t, x[:, i : i + 1], v[:, i : i + 1], time) for i, n in pairs], 1)
    return network.along(t, x, v, time)
