"""Compile trajectory kernels to machine code on a machine without a GPU and read their loops.

Run as a program (``python -m tests.kernels.fuse.aot_trajectory --jobs 2``), in a process of its
own, as ``tests/kernels/aot.py`` is. Prints one JSON object: for every kernel and target what
``aot`` reads, and the number of instructions in the loop over whole groups of steps.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from sdekit_kernels.fuse._triton.build import Gpu, Shape, kernel_of, launch_shape
from sdekit_kernels.fuse.graph import Graph
from sdekit_kernels.fuse.program import TORCH, Program, make_program
from sdekit_kernels.fuse.trace import trace_step

from tests.kernels import aot

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


def normals_in_loop(program: Program, lanes: int, shape: Shape) -> int:
    """Normals (or, without noise, steps) that one thread makes in one turn of the loop."""
    paths = shape.block // (shape.warps * lanes)
    steps = 4 if 0 < program.channels < 4 else 1
    return paths * steps * max(len(program.noise), 1)


def read_loop(sass: str) -> int:
    """Instructions of the longest loop that holds no other; slow paths out of line not counted."""
    code = [
        (int(m.group(1), 16), m.group(2))
        for m in re.finditer(r"/\*([0-9a-f]{4,5})\*/\s+([@A-Z][^;]*);", sass)
    ]
    loops = []
    for place, text in code:
        branch = re.search(r"\bBRA\b[^;]*?0x([0-9a-f]+)", text)
        if branch and int(branch.group(1), 16) < place:
            loops.append((int(branch.group(1), 16), place))
    inner = [
        loop
        for loop in loops
        if not any(loop != other and loop[0] <= other[0] <= other[1] <= loop[1] for other in loops)
    ]
    return max(sum(low <= place <= high for place, _ in code) for low, high in inner)


def read(task: tuple[str, str]) -> tuple[str, dict[str, Any]]:
    """Compile one variant for one target."""
    name, target = task
    return f"{name} {target}", read_variant(VARIANTS[name], target)


def read_variant(variant: Variant, target: str) -> dict[str, Any]:
    """What is read in the variant's machine code."""
    gpu = aot.TARGETS[target]
    program = variant.program()
    number = "*fp64" if program.dtype == F64 else "*fp32"
    types = dict.fromkeys(("state", "steps", "constants", "paths", "saved"), number)
    types |= {"bad": "*i64", "slots": "*i32"}
    device = Gpu(PROCESSORS, gpu.warp_size, gpu.backend == "hip")
    shape = launch_shape(program, variant.paths, device)
    constants = {"SAVE": variant.save, "PAIRS": variant.pairs, "BLOCK": shape.block}
    kernel = kernel_of(program)
    compiled = aot.compile_kernel(kernel, types, constants, gpu, **shape.options)
    code = aot.machine_code(compiled)
    found = aot.read_code(code, gpu)
    if gpu.backend == "cuda":
        found["loop"] = read_loop(code)
    found["normals"] = normals_in_loop(program, gpu.warp_size, shape)
    return found


def main(variants: dict[str, Variant], read: Callable[[tuple[str, str]], Any]) -> None:
    """Read all variants for all their targets and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=1, help="processes that compile")
    jobs = parser.parse_args().jobs
    tasks = [(name, target) for name, v in variants.items() for target in v.targets]
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        print(json.dumps(dict(pool.imap(read, tasks))))


if __name__ == "__main__":
    main(VARIANTS, read)
