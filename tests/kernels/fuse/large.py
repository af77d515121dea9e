"""Steps of large states: many components, full matrices, several stages, long formulas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from sdekit_kernels.fuse.program import Program
from sdekit_kernels.fuse.trace import trace_step

from tests.kernels.fuse.stepping import numbers

F32: Final = torch.float32
F64: Final = torch.float64
Law = Callable[[torch.Tensor], Any]


def trace(step: Any, d: int, channels: tuple[int, ...], dtype: torch.dtype) -> Program:
    """The program of a step of d components."""
    return trace_step(step, [torch.zeros((9, d), dtype=dtype)], channels, ["t", "dt"])


def euler(drift: Law, diffusion: Law, d: int, dtype: torch.dtype) -> Program:
    """Euler-Maruyama with diagonal noise."""

    def step(now: Any, z: torch.Tensor, states: Any) -> tuple[torch.Tensor]:
        (x,) = states
        return (x + drift(x) * now["dt"] + diffusion(x) * (z * torch.sqrt(now["dt"])),)

    return trace(step, d, (d,), dtype)


def ring(x: torch.Tensor) -> torch.Tensor:
    """Each component with its neighbours, nonlinear (Lorenz 1996)."""
    return (torch.roll(x, -1, 1) - torch.roll(x, 2, 1)) * torch.roll(x, 1, 1) - x + 8


def linear(d: int, dtype: torch.dtype) -> Program:
    """A full matrix of drift."""
    a = numbers(d, d, dtype=dtype)
    return euler(lambda x: x @ a.T, lambda x: 0.3, d, dtype)


def general(d: int, dtype: torch.dtype) -> Program:
    """d components that depend on d Brownian motions by a matrix that depends on the state."""
    a = numbers(d, d, dtype=dtype)

    def step(now: Any, z: torch.Tensor, states: Any) -> tuple[torch.Tensor]:
        (x,) = states
        w = z * torch.sqrt(now["dt"])
        return (x - x * now["dt"] + ((a * x[:, :, None]) @ w[:, :, None])[:, :, 0],)

    return trace(step, d, (d,), dtype)


def heun(d: int, dtype: torch.dtype) -> Program:
    """Two stages of the ring."""

    def step(now: Any, z: torch.Tensor, states: Any) -> tuple[torch.Tensor]:
        (x,) = states
        dt, w = now["dt"], z * torch.sqrt(now["dt"])
        y = x + ring(x) * dt + 0.1 * x * w
        return (x + 0.5 * (ring(x) + ring(y)) * dt + 0.05 * (x + y) * w,)

    return trace(step, d, (d,), dtype)


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

    return trace(step, d, (), dtype)


def one_noise(d: int, dtype: torch.dtype) -> Program:
    """All components moved by one Brownian motion, each at its own rate."""
    rate = numbers(d, dtype=dtype)

    def step(now: Any, z: torch.Tensor, states: Any) -> tuple[torch.Tensor]:
        (x,) = states
        return (x - x * now["dt"] * rate + 0.1 * x * (z * torch.sqrt(now["dt"])),)

    return trace(step, d, (1,), dtype)


def sines(d: int, dtype: torch.dtype, depth: int) -> Program:
    """So many sines a component: long, with few numbers at once."""

    def drift(x: torch.Tensor) -> torch.Tensor:
        for _ in range(depth):
            x = torch.sin(x)
        return x

    return euler(drift, lambda x: 0.1, d, dtype)


def elementwise(d: int, dtype: torch.dtype) -> Program:
    """Components that do not meet."""
    return euler(lambda x: 0.3 - x, lambda x: 0.7, d, dtype)


def neighbours(d: int, dtype: torch.dtype) -> Program:
    """The ring with additive noise."""
    return euler(ring, lambda x: 0.1, d, dtype)


def softmax(d: int, dtype: torch.dtype) -> Program:
    """Keeps the state and its exponentials at once."""
    return euler(lambda x: torch.softmax(x, 1) - x, lambda x: 0.1, d, dtype)


LONGEST: Final = 4
"""Sines of each of 64 components that a GPU's kernel takes."""
