"""Trajectory kernels of large states on the GPU, or in Triton's interpreter, against torch."""

from __future__ import annotations

import pytest
import torch
from sdekit_kernels.fuse._triton.registers import care_of

from tests.kernels.fuse import large
from tests.kernels.fuse.stepping import numbers
from tests.kernels.fuse.test_triton_trajectory import EPS, SHAPE, launch, reference, run

STEPS, PATHS = 3, 37


def check(program, size, dtype, device):
    """Saved and last states, after steps of 0.01 whose noise begins anywhere."""
    start = numbers(size, PATHS, dtype=dtype)
    times = {name: torch.full((STEPS,), 0.01, dtype=dtype) for name in ("t", "dt")}
    table = program.table(times, torch.device("cpu"))[0]
    slots = torch.tensor([1, -1, 0], dtype=torch.int32)
    job = launch(program, start, table, step=5, first=2**32 - 9, slots=slots, rows=2)
    found, wanted = run(job, device, SHAPE), reference(job)
    # Some hundred roundings of sums of up to 32 products of numbers below 20.
    bound = 3e4 * EPS[dtype]
    pairs = ((found.state, wanted[2]), (found.saved[0], wanted[2]), (found.saved[1], wanted[0]))
    for got, want in pairs:
        assert (got - want).abs().max() < bound
    assert (found.bad == -1).all()


@pytest.mark.parametrize("size", [5, 16, 17, 33, 64])
def test_rows_of_every_number(size, triton_device):
    """One group of rows, several, and some that are not full."""
    check(large.neighbours(size, torch.float32), size, torch.float32, triton_device)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_constants_that_each_step_loads(dtype, triton_device):
    program = large.linear(12, dtype)
    assert care_of(program).reload
    check(program, 12, dtype, triton_device)


def test_noise_of_many_calls_and_general_noise(triton_device):
    program = large.general(16, torch.float64)
    check(program, 16, torch.float64, triton_device)


def test_one_noise_for_many_components(triton_device):
    program = large.one_noise(64, torch.float32)
    check(program, 64, torch.float32, triton_device)
