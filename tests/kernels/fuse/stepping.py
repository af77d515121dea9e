"""A step traced, and the very same torch code run as it stands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from sdekit_kernels.fuse.program import Program
from sdekit_kernels.fuse.trace import trace_step

EPS = {torch.float32: 2.0**-24, torch.float64: 2.0**-53}
NOW = {"t": 0.71, "dt": 0.37, "root_dt": 0.37**0.5}

Drift = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def euler(drift: Drift) -> Any:
    """x + f(t, x) dt + 0.3 dW."""

    def step(now, z, states):
        (x,) = states
        return (x + drift(now["t"], x) * now["dt"] + 0.3 * (now["root_dt"] * z),)

    return step


def numbers(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Numbers in (0.3, 1.7), all different."""
    count = int(torch.tensor(shape).prod()) if shape else 1
    steps = torch.arange(1, count + 1, dtype=torch.float64) * 0.6180339887498949 + 0.137 * seed
    return (0.3 + 1.4 * (steps % 1.0)).reshape(shape).to(dtype)


def states(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Numbers in (-1.4, 1.4), of both signs."""
    return (2 * (numbers(*shape, seed=3) - 1)).to(dtype)


def run_program(program: Program, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """The traced step of x, at the times NOW."""
    batch = x.shape[0]
    clock = {name: torch.tensor([v], dtype=x.dtype) for name, v in NOW.items()}
    table, constants = program.table(clock, x.device)
    state, noise = list(x.reshape(batch, -1).T), list(z.reshape(batch, -1).T)
    made = program.step_torch(state, noise, table[0], constants, program.path_table())
    return torch.stack([m.expand(batch) for m in made], 1).reshape(x.shape)


def trace(drift: Drift, x: torch.Tensor) -> Program:
    """The program of an Euler step."""
    return trace_step(euler(drift), [x], x.shape[1:], tuple(NOW))


def assert_agrees(drift: Drift, x: torch.Tensor, roundings: int = 100) -> Program:
    """The traced step gives what the step gives, up to so many roundings of its largest number."""
    z = states(*x.shape, dtype=x.dtype).flip(0)
    now = {name: torch.tensor(v, dtype=x.dtype) for name, v in NOW.items()}
    wanted = euler(drift)(now, z, (x,))[0]
    program = trace(drift, x)
    got = run_program(program, x, z)
    assert got.shape == wanted.shape
    same = (got == wanted) | (got.isnan() & wanted.isnan())
    size = 1 + wanted[wanted.isfinite()].abs().max().item() if wanted.isfinite().any() else 1
    assert wanted.isfinite().any(), "the test says nothing"
    error = (got - wanted)[~same].abs()
    assert error.numel() == 0 or error.max() <= roundings * EPS[x.dtype] * size, (got, wanted)
    return program
