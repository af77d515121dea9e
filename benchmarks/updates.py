"""The updates that are timed: by the fused kernel, in eager torch, and in float64 for the check.

The eager forms are those that a careful user writes: one expression, coefficients worked out
beforehand, no needless passes. ``in_place`` is the least that eager torch can do: three calls into
buffers that are there already.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from sdekit_kernels import em_step, langevin_step, predictor_step
from torch import Tensor

DT, G = 0.01, 0.7
A, B, C = 1.02, 0.013, 0.11
SNR = 0.16
COEFFICIENTS = ("number", "tensor", "sample", "component")

ALL = slice(None)

Pair = tuple[Tensor, Tensor | None]


@dataclass(frozen=True)
class Update:
    """One update of a state x (B, D...) by a force s of the same shape.

    passes: how many tensors of x's size must go through memory, reads and writes, each once; the
    snr corrector needs the norms before it can move, so its s counts twice. reference(x, s, z,
    rows=...): x_next in float64 of the samples ``rows`` of the batch.
    """

    name: str
    passes: int
    fused: Callable[..., Any]
    eager: Callable[[Tensor, Tensor], Tensor]
    in_place: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor] | None
    reference: Callable[..., Tensor]


def coefficient(value: float, kind: str, x: Tensor) -> Any:
    """``value`` as a number, a 0-d tensor, or varied by 20 % over samples or components."""
    if kind == "number":
        return value
    like: Any = {"dtype": torch.promote_types(x.dtype, torch.float32), "device": x.device}
    if kind == "tensor":
        return torch.full((), value, **like)
    if kind == "sample":
        return value * torch.linspace(0.9, 1.1, x.shape[0], **like)
    event = x.shape[1:]
    return value * torch.linspace(0.9, 1.1, event.numel(), **like).view(1, *event)


def spread(c: Any, x: Tensor, rows: slice = ALL) -> Any:
    """A coefficient so that plain torch broadcasts it against x, the batch's ``rows``."""
    if not isinstance(c, Tensor):
        return c
    return (c[rows].view(-1, *[1] * (x.ndim - 1)) if c.ndim == 1 else c).to(x.dtype)


def euler(x: Tensor, kind: str = "number") -> Update:
    """x + f dt + g sqrt(dt) z, for tensors like x."""
    g, root = coefficient(G, kind, x), math.sqrt(DT)
    c = spread(g, x) * root  # as a user would: not in the timed region

    def fused(x: Tensor, f: Tensor, out: Tensor | None = None, **noise: Any) -> Tensor:
        return em_step(x, f, g, DT, out=out, **noise)

    def in_place(x: Tensor, f: Tensor, z: Tensor, out: Tensor) -> Tensor:
        z.normal_()
        torch.add(x, f, alpha=DT, out=out)
        return out.addcmul_(z, c) if isinstance(c, Tensor) else out.add_(z, alpha=c)

    return Update(
        "em_step",
        3,
        fused,
        lambda x, f: x + f * DT + c * torch.randn_like(x),
        in_place,
        lambda x, f, z, rows=ALL: x + f * DT + spread(g, x, rows) * root * z,
    )


def predictor(x: Tensor, kind: str = "number") -> Update:
    """x_mean = a x + b s, x_next = x_mean + c z, both results wanted."""
    kernel = [coefficient(v, kind, x) for v in (A, B, C)]
    a, b, c = (spread(v, x) for v in kernel)

    def fused(x: Tensor, s: Tensor, out: Tensor | None = None, **noise: Any) -> Pair:
        return predictor_step(x, s, *kernel, out=out, **noise)

    def eager(x: Tensor, s: Tensor) -> Tensor:
        mean = a * x + b * s
        return mean + c * torch.randn_like(x)

    def reference(x: Tensor, s: Tensor, z: Tensor, rows: slice = ALL) -> Tensor:
        wide = [spread(v, x, rows) for v in kernel]
        return wide[0] * x + wide[1] * s + wide[2] * z

    return Update("predictor_step", 4, fused, eager, None, reference)


def langevin(x: Tensor, kind: str = "number") -> Update:
    """The corrector with each sample's own snr step size (Song et al. 2021)."""
    snr = coefficient(SNR, kind, x)

    def norm(v: Tensor) -> Tensor:
        return v.flatten(1).norm(dim=1).view(-1, *[1] * (v.ndim - 1))

    def step(x: Tensor, s: Tensor, z: Tensor, rows: slice = ALL) -> Tensor:
        eps = 2.0 * (spread(snr, x, rows) * norm(z) / norm(s)) ** 2
        mean = x + eps * s
        return mean + (2.0 * eps).sqrt() * z

    def fused(x: Tensor, s: Tensor, out: Tensor | None = None, **noise: Any) -> Pair:
        return langevin_step(x, s, snr=snr, out=out, **noise)

    return Update(
        "langevin_step", 5, fused, lambda x, s: step(x, s, torch.randn_like(x)), None, step
    )


def ula(x: Tensor, kind: str = "number") -> Update:
    """The corrector with a given step size: one pass."""
    eps = coefficient(0.01, kind, x)
    root = math.sqrt(2.0 * eps) if isinstance(eps, float) else (2.0 * spread(eps, x)).sqrt()

    def fused(x: Tensor, s: Tensor, out: Tensor | None = None, **noise: Any) -> Pair:
        return langevin_step(x, s, step_size=eps, out=out, **noise)

    def eager(x: Tensor, s: Tensor) -> Tensor:
        mean = x + spread(eps, x) * s
        return mean + root * torch.randn_like(x)

    def reference(x: Tensor, s: Tensor, z: Tensor, rows: slice = ALL) -> Tensor:
        wide = spread(eps, x, rows)
        return x + wide * s + (2.0 * wide) ** 0.5 * z

    return Update("langevin_step, given step", 4, fused, eager, None, reference)


UPDATES: dict[str, Callable[..., Update]] = {
    "em_step": euler,
    "predictor_step": predictor,
    "langevin_step": langevin,
    "langevin_step, given step": ula,
}


def first(result: Tensor | Pair) -> Tensor:
    """x_next of what an update returned."""
    return result if isinstance(result, Tensor) else result[0]
