"""Compile trajectory kernels to machine code on a machine without a GPU and read their loops.

Run as a program (``python -m tests.kernels.fuse.aot_trajectory --jobs 2``), in a process of its
own, as ``aot`` says. Prints one JSON object: for every kernel and target what
``aot`` reads, and the number of instructions in the loop over whole groups of steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from sdekit_kernels.fuse._triton.build import Gpu, kernel_of, launch_shape
from sdekit_kernels.fuse.graph import Graph
from sdekit_kernels.fuse.program import TORCH, Program, make_program
from sdekit_kernels.fuse.trace import trace_step
from triton.backends.compiler import GPUTarget

from tests.kernels import aot
from tests.kernels.machine_code import read_loop

Law = Callable[[torch.Tensor], Any]
MANY, FEW = 1 << 23, 1 << 12
PROCESSORS = 132


def euler(drift: Law, diffusion: Law, shape: tuple[int, ...], dtype: torch.dtype) -> Program:
    """Euler-Maruyama with diagonal noise."""

    def step(times: Any, z: torch.Tensor, states: Any) -> tuple[torch.Tensor]:
        (x,) = states
        dt = times["dt"]
        return (x + drift(x) * dt + diffusion(x) * (z * torch.sqrt(dt)),)

    return trace_step(step, [torch.zeros((9, *shape), dtype=dtype)], shape, ["t", "dt"])


def lorenz(x: torch.Tensor) -> torch.Tensor:
    a, b, c = x.unbind(-1)
    return torch.stack([10 * (b - a), a * (28 - c) - b, a * b - 8 / 3 * c], -1)


def every_function(dtype: torch.dtype) -> Program:
    """One component a function, so that each stands in the code."""
    graph = Graph()
    x, y = graph.leaf("state", 0), graph.leaf("state", 1)
    two = {"atan2", "pow", "min", "max", "div", "add", "sub", "mul"}
    skip = {*two, "lt", "le", "gt", "ge", "eq", "ne", "and", "or", "xor", "not", "where", "fma"}
    nodes = [graph("add", graph("atan2", x, y), graph("pow", x, y))]
    nodes.append(graph("add", graph("min", x, y), graph("max", x, graph("div", x, y))))
    nodes += [graph(op, x) for op in TORCH if op not in skip | {"isnan"}]
    return make_program(graph, nodes, (0,), dtype, [])


class Variant(NamedTuple):
    """A program, the number of its paths, and what else the launch is asked for."""

    program: Callable[[], Program]
    paths: int = MANY
    save: bool = False
    pairs: bool = False
    targets: tuple[str, ...] = ("sm_90",)


ALL = ("sm_80", "sm_90", "gfx942")
F32, F64 = torch.float32, torch.float64
_GBM: tuple[Law, Law] = (lambda x: 1.5 * x, lambda x: 0.01 * x)
_OU: tuple[Law, Law] = (lambda x: 0.3 - x, lambda x: 0.7)
_SINE: tuple[Law, Law] = (lambda x: torch.sin(x) * torch.exp(-x) + torch.tanh(x), lambda x: 0.5)

VARIANTS: dict[str, Variant] = {
    "ou": Variant(lambda: euler(*_OU, (), F32), targets=ALL),
    "ou few paths": Variant(lambda: euler(*_OU, (), F32), FEW),
    "ou float64": Variant(lambda: euler(*_OU, (), F64)),
    "gbm": Variant(lambda: euler(*_GBM, (3,), F32), targets=ALL),
    "gbm few paths": Variant(lambda: euler(*_GBM, (3,), F32), FEW),
    "gbm saved": Variant(lambda: euler(*_GBM, (3,), F32), save=True),
    "gbm pairs": Variant(lambda: euler(*_GBM, (3,), F32), pairs=True),
    "lorenz": Variant(lambda: euler(lorenz, lambda x: 0.1, (3,), F32), targets=ALL),
    "ou of 8": Variant(lambda: euler(*_OU, (8,), F32)),
    "sine": Variant(lambda: euler(*_SINE, (), F32), targets=ALL),
    "functions": Variant(lambda: every_function(F32), targets=ALL),
    "functions float64": Variant(lambda: every_function(F64), targets=ALL),
}


def compile_variant(name: str, variant: Variant, target: str) -> aot.Piece:
    """The variant's kernel, and how many steps and normals a thread makes in a turn of its loop.

    Without noise a step counts as a normal.
    """
    gpu = aot.TARGETS[target]
    program = variant.program()
    number = "*fp64" if program.dtype == F64 else "*fp32"
    types = dict.fromkeys(("state", "steps", "constants", "paths", "saved"), number)
    types |= {"bad": "*i64", "slots": "*i32"}
    device = Gpu(PROCESSORS, gpu.warp_size, gpu.backend == "hip")
    shape = launch_shape(program, variant.paths, device)
    constants = {"SAVE": variant.save, "PAIRS": variant.pairs, "BLOCK": shape.block}
    compiled = aot.compile_kernel(kernel_of(program), types, constants, gpu, **shape.options)
    paths = shape.block // (shape.warps * gpu.warp_size)
    steps = paths * (4 if any(call.grouped for call in program.calls) else 1)
    told = {"steps": steps, "normals": steps * max(len(program.noise), 1)}
    return aot.Piece(name, target, aot.binary_of(compiled), told)


def make(task: tuple[str, str]) -> aot.Piece:
    """Compile one variant for one target."""
    name, target = task
    return compile_variant(name, VARIANTS[name], target)


def look(name: str, code: str, gpu: GPUTarget) -> dict[str, Any]:
    """The length of the loop over whole groups of steps."""
    return {"loop": read_loop(code)} if gpu.backend == "cuda" else {}


def tasks_of(variants: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Every variant for each of its targets."""
    return [(name, target) for name, v in variants.items() for target in v.targets]


if __name__ == "__main__":
    aot.print_report(tasks_of(VARIANTS), make, look)
