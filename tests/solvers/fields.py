"""Fields without structure: small random networks of period 2 pi in every component.

With s = (sin x, cos x), a field is B tanh(A s + b + c t) + o; A, b, c and B are random, o keeps the
noise from vanishing.
The process is dx = f dt + G o dW (Stratonovich); its Ito form has the drift f + c with c = 1/2
sum_j (D G_j) G_j, which is written out here, so that no derivative of the library's stands in it.
"""

from __future__ import annotations

import math
from functools import lru_cache
from types import SimpleNamespace

import torch
from sdekit_kernels import normal

HIDDEN = 4
VARIATION, DRIFT = 0.55, 0.4


@lru_cache
def drawn(seeds, step, *shape):
    """Normals for each of the fields, (F, *shape)."""
    return torch.stack([normal(shape, seed=s, step=step, dtype=torch.float64) for s in seeds])


class Network:
    """A random function of (t, x) from (B, D) to (B, *shape); steady: not of t.

    seeds: of one field, or of F: then sample i is given to field i mod F. F neighbours are a row of
    one product, so that one which is not finite spoils the others.
    """

    def __init__(self, inputs, shape, seeds, size, around=0.0, steady=False, hidden=HIDDEN):
        outputs, f = math.prod(shape), len(seeds)

        a = drawn(seeds, 0, hidden, 2 * inputs) / (2 * inputs) ** 0.5
        out = drawn(seeds, 3, outputs, hidden) * (size / hidden**0.5)
        # Matrices of all fields on one diagonal: F neighbouring samples are a row.
        weights = {
            "a": torch.block_diag(*a.mT),
            "b": drawn(seeds, 1, 1, hidden).flatten(),
            "c": drawn(seeds, 2, 1, hidden).flatten() * (0.0 if steady else 1.0),
            "out": torch.block_diag(*out.mT),
            "offset": torch.as_tensor(around).expand(shape).flatten().double().repeat(f),
        }
        self.shape, self.row = shape, 2 * inputs * f
        # Made here for both types: a tensor that is converted while a step is traced is no number.
        self.weights = {
            dtype: SimpleNamespace(**{name: v.to(dtype) for name, v in weights.items()})
            for dtype in (torch.float32, torch.float64)
        }

    def inner(self, of_sin, of_cos, a):
        return torch.cat([of_sin, of_cos], 1).view(-1, self.row) @ a

    def hidden(self, t, x):
        w = self.weights[x.dtype]
        return torch.tanh(self.inner(x.sin(), x.cos(), w.a) + (w.b + w.c * t))

    def __call__(self, t, x):
        w = self.weights[x.dtype]
        return (self.hidden(t, x) @ w.out + w.offset).view(-1, *self.shape)

    def along(self, t, x, v, time=0.0):
        """The derivative in direction v (B, D) of x and ``time`` of t."""
        w = self.weights[x.dtype]
        inner = self.inner(x.cos() * v, -x.sin() * v, w.a) + w.c * time
        return (((1 - self.hidden(t, x) ** 2) * inner) @ w.out).view(-1, *self.shape)


class RandomField:
    """Drift and diffusion of D components and, of general noise, M Brownian motions.

    additive: a function of time. diagonal: component i a function of t and x_i; mixed: of all x.
    apart: so is everything, for methods that need it of the drift, whose Ito form has derivatives
    of G. seeds: of one field, or of several, each for its share of the samples. hidden: how many
    waves a field is made of.
    """

    def __init__(
        self,
        noise_type,
        interpretation="ito",
        d=2,
        m=2,
        steady=False,
        apart=False,
        mixed=False,
        seeds=(11,),
        hidden=HIDDEN,
    ):
        self.noise_type, self.interpretation, self.d, self.m = noise_type, interpretation, d, m
        self.steady, self.apart, self.mixed, self.seeds = steady, apart, mixed, seeds

        def network(inputs, shape, k, size, around):
            own = tuple(s + k for s in seeds)
            return Network(inputs, shape, own, size, around, steady, hidden)

        def drift(inputs, shape, k):
            return network(inputs, shape, k, DRIFT, 0.0)

        def noise(inputs, shape, k, around=0.8):
            return network(inputs, shape, k, VARIATION, around)

        self.f = [drift(1, (1,), 20 + i) for i in range(d)] if apart else drift(d, (d,), 1)
        around = 0.8 * torch.eye(max(d, m))[:d, :m]
        if noise_type == "general" and apart:
            self.g = [noise(1, (1, m), 4 + i, around[i]) for i in range(d)]
        elif noise_type == "general":
            self.g = noise(d, (d, m), 2, around)
        elif (noise_type == "diagonal" and not mixed) or apart:
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
        if self.mixed:  # of g_i e_i along itself, not along all of g
            columns = range(self.d)
            return 0.5 * sum(self.column_along(t, x, j, self.column(t, x, j)) for j in columns)
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
        return self.pick(self.diffusion(t, x), x, j)

    def column_along(self, t, x, j, v, time=0.0):
        """(D G_j) v + time dG_j / dt, (B, D)."""
        return self.pick(self.noise_along(t, x, v, time), x, j)

    def pick(self, g, x, j):
        """Column j of G or of its derivative, (B, D)."""
        if self.noise_type == "general":
            return g[..., j]
        return g if self.noise_type == "scalar" else g.expand(x.shape) * torch.eye(self.d).to(x)[j]


class Embedded:
    """A mixed field as general noise, diag(g): its reference needs the path's Levy area."""

    noise_type = "general"

    def __init__(self, field):
        self.field = field

    def __getattr__(self, name):
        return getattr(self.field, name)

    def diffusion(self, t, x):
        return torch.diag_embed(self.field.diffusion(t, x))

    def pick(self, g, x, j):
        return g[..., j]


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
