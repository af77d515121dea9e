"""Triton kernels compiled to machine code on a machine without a GPU, and read.

The scripts beside this file say which kernels. Each runs as a program of its own, for the tests run
Triton's interpreter, and in such a process nothing can be compiled; it prints one JSON object: for
every kernel and target the local memory, the spills, the registers and the number of instructions.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

os.environ.pop("TRITON_INTERPRET", None)

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime import driver

from tests.kernels.machine_code import machine_code, read_code

TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
OTHERS = {f"sm_{n}": GPUTarget("cuda", n, 32) for n in (75, 86, 89, 100, 120)}


def signature(fn: Any, types: dict[str, str], constants: dict[str, Any]) -> dict[str, str]:
    """Type of every parameter: given, annotated, or a 32-bit integer."""
    out = {}
    for param in fn.params:
        if param.name in constants:
            out[param.name] = "constexpr"
        elif param.name in types:
            out[param.name] = types[param.name]
        else:
            out[param.name] = param.annotation_type or "i32"
    return out


class _Active(NamedTuple):
    """A driver, as far as a compilation asks one."""

    target: GPUTarget

    def get_current_target(self) -> GPUTarget:
        return self.target


def compile_kernel(
    fn: Any,
    types: dict[str, str],
    constants: dict[str, Any],
    target: GPUTarget,
    divisible: tuple[str, ...] = (),
    **options: Any,
) -> Any:
    sig = signature(fn, types, constants)
    # Tensors come from torch's allocator, which aligns them; the launcher finds that out, and which
    # integers are multiples of 16.
    attrs = {
        (i,): [["tt.divisibility", 16]]
        for i, name in enumerate(sig)
        if sig[name].startswith("*") or name in divisible
    }
    source = ASTSource(fn, sig, constexprs=constants, attrs=attrs)
    # What a kernel reads with ``triton.language.target_info`` is the active GPU, of which none is.
    driver.set_active(_Active(target))
    return triton.compile(source, target=target, options={"enable_fp_fusion": False, **options})


class Piece(NamedTuple):
    """A kernel that was compiled, to be read: a cubin or assembly, and what else is told of it."""

    name: str
    target: str
    binary: bytes | str
    told: dict[str, Any]


def binary_of(compiled: Any) -> bytes | str:
    """What a GPU of NVIDIA loads, or the assembly of what one of AMD does."""
    return compiled.asm["cubin" if "cubin" in compiled.asm else "amdgcn"]


Look = Callable[[str, str, GPUTarget], dict[str, Any]]


def print_report(
    tasks: Sequence[Any], make: Callable[[Any], Piece], look: Look | None = None
) -> None:
    """Compile in the processes that the command line allows, read, and print it all as JSON.

    look: what more is read, of a kernel's name, its code and its target.
    """
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--jobs", type=int, default=1, help="processes that compile")
    jobs = parser.parse_args().jobs
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        pieces = pool.map(make, tasks, chunksize=1)
    report = {}
    for target, gpu in (TARGETS | OTHERS).items():
        here = [piece for piece in pieces if piece.target == target]
        codes = machine_code([piece.binary for piece in here], gpu) if here else []
        for (name, _, _, told), code in zip(here, codes, strict=True):
            more = look(name, code, gpu) if look else {}
            report[f"{name} {target}"] = read_code(code, gpu) | told | more
    print(json.dumps(report))
