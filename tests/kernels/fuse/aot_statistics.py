"""Compile trajectory kernels that reduce their states to machine code, on a machine without a GPU.

Run as ``aot_trajectory`` is; prints of every kernel and target what ``aot`` reads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from sdekit_kernels.fuse._triton.build import Gpu, kernel_of, launch_shape
from sdekit_kernels.fuse.program import Program
from sdekit_kernels.fuse.statistics import Group

from tests.kernels import aot
from tests.kernels.fuse.aot_trajectory import MANY, PROCESSORS, euler, lorenz, tasks_of

F32, F64 = torch.float32, torch.float64


class Variant(NamedTuple):
    """A program, and what is reduced of it."""

    program: Callable[[], Program]
    groups: tuple[Group, ...]
    targets: tuple[str, ...] = ("sm_90",)


def ou(size: int, dtype: torch.dtype) -> Program:
    """dx = (0.3 - x) dt + 0.7 dW in each component."""
    return euler(lambda x: 0.3 - x, lambda x: 0.7, (size,), dtype)


ALL = ("sm_80", "sm_90", "gfx942")
MOMENTS, COVARIANCE = Group(0, 1, False), Group(0, 3, True)
VARIANTS = {
    "ou": Variant(lambda: ou(1, F32), (MOMENTS,), ALL),
    "ou float64": Variant(lambda: ou(1, F64), (MOMENTS,)),
    "lorenz": Variant(lambda: euler(lorenz, lambda x: 0.1, (3,), F32), (COVARIANCE,), ALL),
    "functionals": Variant(lambda: ou(3, F32), (MOMENTS, Group(1, 2, False))),
    "ou of 8": Variant(lambda: ou(8, F32), (Group(0, 8, True),)),
}


def make(task: tuple[str, str]) -> aot.Piece:
    """Compile one variant for one target, and tell how often it adds to the sums of all blocks."""
    name, target = task
    variant, gpu = VARIANTS[name], aot.TARGETS[target]
    program = variant.program()
    number = "*fp64" if program.dtype == F64 else "*fp32"
    types = dict.fromkeys(("state", "steps", "constants", "paths"), number)
    types |= {"bad": "*i64", "slots": "*i32", "at": "*fp64", "moments": "*fp64", "counts": "*i64"}
    device = Gpu(PROCESSORS, gpu.warp_size, gpu.backend == "hip")
    shape = launch_shape(program, MANY, device, sums=True)
    constants = {"SAVE": True, "PAIRS": False, "BLOCK": shape.block}
    kernel = kernel_of(program, variant.groups)
    compiled = aot.compile_kernel(kernel, types, constants, gpu, **shape.options)
    ptx = compiled.asm.get("ptx")
    told = {} if ptx is None else {"atomics": ptx.count("atom.global")}
    return aot.Piece(name, target, aot.binary_of(compiled), told)


if __name__ == "__main__":
    aot.print_report(tasks_of(VARIANTS), make)
