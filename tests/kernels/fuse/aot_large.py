"""Compile the trajectory kernels of large states as ``aot_trajectory`` does and read them.

Run as a program (``python -m tests.kernels.fuse.aot_large --jobs 2``).
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import torch
from sdekit_kernels.fuse.program import Program
from sdekit_kernels.fuse.trace import trace_step

from tests.kernels.fuse.aot_trajectory import (
    ALL,
    F32,
    F64,
    Variant,
    euler,
    main,
    read_variant,
)  # fmt: skip
from tests.kernels.fuse.stepping import numbers


def ring(x: torch.Tensor) -> torch.Tensor:
    """Each component with its neighbours, nonlinear (Lorenz 1996)."""
    return (torch.roll(x, -1, 1) - torch.roll(x, 2, 1)) * torch.roll(x, 1, 1) - x + 8


def linear(d: int, dtype: torch.dtype) -> Program:
    """A full matrix of drift."""
    a = numbers(d, d, dtype=dtype)
    return euler(lambda x: x @ a.T, lambda x: 0.3, (d,), dtype)


def general(d: int, dtype: torch.dtype) -> Program:
    """d components that depend on d Brownian motions by a matrix that depends on the state."""
    a = numbers(d, d, dtype=dtype)

    def step(now: Any, z: torch.Tensor, states: Any) -> tuple[torch.Tensor]:
        (x,) = states
        w = z * torch.sqrt(now["dt"])
        return (x - x * now["dt"] + ((a * x[:, :, None]) @ w[:, :, None])[:, :, 0],)

    return trace_step(step, [torch.zeros((9, d), dtype=dtype)], (d,), ["t", "dt"])


def heun(d: int, dtype: torch.dtype) -> Program:
    """Two stages of the ring."""

    def step(now: Any, z: torch.Tensor, states: Any) -> tuple[torch.Tensor]:
        (x,) = states
        dt, w = now["dt"], z * torch.sqrt(now["dt"])
        y = x + ring(x) * dt + 0.1 * x * w
        return (x + 0.5 * (ring(x) + ring(y)) * dt + 0.05 * (x + y) * w,)

    return trace_step(step, [torch.zeros((9, d), dtype=dtype)], (d,), ["t", "dt"])


def flow(d: int, dtype: torch.dtype) -> Program:
    """Four stages of the ring without noise (Runge and Kutta)."""

    def step(now: Any, z: torch.Tensor, states: Any) -> tuple[torch.Tensor]:
        (x,) = states
        dt = now["dt"]
        k1 = ring(x)
        k2 = ring(x + dt / 2 * k1)
        k3 = ring(x + dt / 2 * k2)
        k4 = ring(x + dt * k3)
        return (x + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4),)

    return trace_step(step, [torch.zeros((9, d), dtype=dtype)], (), ["t", "dt"])


def one_noise(d: int, dtype: torch.dtype) -> Program:
    """All components moved by one Brownian motion, each at its own rate."""
    rate = numbers(d, dtype=dtype)

    def step(now: Any, z: torch.Tensor, states: Any) -> tuple[torch.Tensor]:
        (x,) = states
        return (x - x * now["dt"] * rate + 0.1 * x * (z * torch.sqrt(now["dt"])),)

    return trace_step(step, [torch.zeros((9, d), dtype=dtype)], (1,), ["t", "dt"])


def sines(d: int, dtype: torch.dtype, depth: int) -> Program:
    """So many sines a component: long, with few numbers at once."""

    def drift(x: torch.Tensor) -> torch.Tensor:
        for _ in range(depth):
            x = torch.sin(x)
        return x

    return euler(drift, lambda x: 0.1, (d,), dtype)


def elementwise(d: int, dtype: torch.dtype) -> Program:
    """Components that do not meet."""
    return euler(lambda x: 0.3 - x, lambda x: 0.7, (d,), dtype)


def neighbours(d: int, dtype: torch.dtype) -> Program:
    """The ring with additive noise."""
    return euler(ring, lambda x: 0.1, (d,), dtype)


def softmax(d: int, dtype: torch.dtype) -> Program:
    """Keeps the state and its exponentials at once."""
    return euler(lambda x: torch.softmax(x, 1) - x, lambda x: 0.1, (d,), dtype)


LONGEST = 4  # sines of each of 64 components

VARIANTS: dict[str, Variant] = {
    "64": Variant(partial(elementwise, 64, F32), targets=ALL),
    "64 saved": Variant(partial(elementwise, 64, F32), save=True),
    "63 pairs": Variant(partial(elementwise, 63, F32), pairs=True),
    "64 float64": Variant(partial(elementwise, 64, F64)),
    "64 neighbours float64": Variant(partial(neighbours, 64, F64), targets=ALL),
    "32 linear": Variant(partial(linear, 32, F32)),
    "32 linear float64": Variant(partial(linear, 32, F64)),
    "16 general": Variant(partial(general, 16, F32)),
    "16 general float64": Variant(partial(general, 16, F64), targets=ALL),
    "64 heun float64": Variant(partial(heun, 64, F64)),
    "64 flow float64": Variant(partial(flow, 64, F64)),
    "64 one noise float64": Variant(partial(one_noise, 64, F64)),
    "64 longest": Variant(partial(sines, 64, F32, LONGEST)),
    "64 softmax float64": Variant(partial(softmax, 64, F64)),
}


def read(task: tuple[str, str]) -> tuple[str, dict[str, Any]]:
    """Compile one variant for one target; its processor time, beside what is read."""
    name, target = task
    start = time.process_time()
    found = read_variant(VARIANTS[name], target)
    return f"{name} {target}", found | {"seconds": time.process_time() - start}


if __name__ == "__main__":
    main(VARIANTS, read)
