"""Compile the kernels of noise and of steps, in all their variants, and read their machine code.

Run as a program (``python -m tests.kernels.aot_steps --jobs 2``), as ``aot`` says. A new kernel
adds its variants to ``variants()`` and a row to the budgets in ``test_machine_code.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from triton.backends.compiler import GPUTarget

from tests.kernels import aot
from tests.kernels.aot import OTHERS, TARGETS, Piece
from tests.kernels.machine_code import root_formula

TYPES = {"fp32": "float32", "fp64": "float64", "bf16": "bfloat16", "fp16": "float16"}
Variant = tuple[str, Any, dict[str, str], dict[str, Any], dict[str, Any]]


def variants() -> Iterator[Variant]:
    """Every kernel with the combinations whose machine code is worth reading.

    (name, kernel, pointer types, constants, extra), where extra holds ``per_thread``: the elements
    of one thread in a warp of 32, and, if need be, ``targets``, compile ``options`` and the
    integers that are ``divisible`` by 16.
    """
    from sdekit_kernels.philox._triton_normal import fill_normals

    for kind in TYPES:
        for lanes, aligned in ((4, True), (4, False), (1, True)):
            constants = {"LANES": lanes, "ALIGNED": aligned, "BLOCK": 256, "F64": kind == "fp64"}
            name = f"normal {kind} lanes={lanes} aligned={aligned}"
            yield name, fill_normals, {"out": f"*{kind}"}, constants, {"per_thread": 2 * lanes}
    yield from step_variants()
    yield from runge_kutta_variants()
    yield from root_variants()


def root_variants() -> Iterator[Variant]:
    """The root of the noise and the stock one, each on its own."""
    from tests.kernels.probes_triton import root_kernel

    types = {"x": "*fp32", "out": "*fp32"}
    extra = {"per_thread": 1, "targets": (*TARGETS, *OTHERS)}
    for name, stock in (("root", False), ("root stock", True)):
        yield name, root_kernel, types, {"STOCK": stock, "BLOCK": 128}, extra


def step_variants() -> Iterator[Variant]:
    """The affine step as each public operation launches it, and the norms of the corrector."""
    from sdekit_kernels.steps._triton.affine import affine_kernel
    from sdekit_kernels.steps._triton.norms import norms_kernel, step_size_kernel

    # Kinds of a, b, c: 0 number, 1 0-d tensor, 2 one a sample, 3 a component, 4 an element.
    operations: dict[str, dict[str, Any]] = {
        "em_step": {"KIND_A": 0, "KIND_B": 0, "KIND_C": 0},
        "em_step full g": {"KIND_A": 0, "KIND_B": 1, "KIND_C": 4, "ROOT": True},
        "predictor_step": {"KIND_A": 1, "KIND_B": 1, "KIND_C": 1, "WANT_MEAN": True},
        "langevin_step": {"KIND_A": 0, "KIND_B": 2, "KIND_C": 2},
    }
    for kind in TYPES:
        compute = "*fp64" if kind == "fp64" else "*fp32"
        for name, flags in operations.items():
            for lanes, aligned in ((4, True), (4, False), (1, True)):
                if name != "em_step" and (lanes, aligned) != (4, True):
                    continue  # the tile is the same: only the aligned one differs by operation
                types = {v: f"*{kind}" for v in ("x", "s", "out", "mean")}
                constants = {"ROOT": False, "WANT_MEAN": False} | flags
                constants |= {
                    "UNIT": flags["KIND_A"] == 0,
                    "NOISY": True,
                    "LANES": lanes,
                    "ALIGNED": aligned,
                    "BLOCK": 256,
                    "F64": kind == "fp64",
                }
                for c in "abc":
                    used = flags[f"KIND_{c.upper()}"]
                    types[c] = compute if used else f"*{kind}"
                full = f"{name} {kind} lanes={lanes} aligned={aligned}"
                yield full, affine_kernel, types, constants, {"per_thread": 2 * lanes}
        for whole in (True, False):
            constants = {
                "LANES": 4,
                "WHOLE": whole,
                "ROWS": 1,
                "WIDTH": 1024,
                "F64": kind == "fp64",
            }
            types = {"s": f"*{kind}", "partial": compute}
            yield f"norms {kind} whole={whole}", norms_kernel, types, constants, {"per_thread": 32}
    for kind in ("fp32", "fp64"):
        types = dict.fromkeys(("partial", "scale", "eps", "root"), f"*{kind}")
        constants = {"KIND": 2, "ROWS": 64, "WIDTH": 4, "F64": kind == "fp64"}
        yield f"step size {kind}", step_size_kernel, types, constants, {"per_thread": 2}


def runge_kutta_variants() -> Iterator[Variant]:
    """Stages and ends of a step of seven slopes: many short samples, and long ones."""
    from sdekit_kernels.steps._triton.runge_kutta import finish_kernel, stage_kernel
    from sdekit_kernels.steps.rk_finish import gpu_tile

    for kind in ("fp32", "fp64"):
        flags: dict[str, Any] = {"F64": kind == "fp64"}
        types = {v: f"*{kind}" for v in ("y", "slopes", "out", "y_new", "before")}
        types |= dict.fromkeys(("weights", "dt", "numbers"), "*fp64")
        types |= dict.fromkeys(("t_in", "dt_in", "h_in", "last_in"), "*fp64")
        types |= {"status_in": "*i8"}
        types |= dict.fromkeys(("accepted_in", "rejected_in", "stiff_in"), "*i32")
        for whole in (True, False):
            constants = flags | {"COUNT": 6, "USED": 0b111111, "BLOCK": 1024}
            extra: dict[str, Any] = {"per_thread": 8}
            extra["divisible"] = ("stride", "n_elements") if whole else ()
            yield f"rk_stage {kind} whole={whole}", stage_kernel, types, constants, extra
        for dim, watched in ((3, True), (3, False), (512, True), (3072, True)):
            rows, width, warps = gpu_tile(dim)
            constants = flags | {"COUNT": 7, "USED": 0b1111111, "WATCHED": watched}
            constants |= {"ROWS": rows, "WIDTH": width}
            whole = ("stride", "dim") if dim % 16 == 0 else ()
            extra = {"per_thread": rows * width // (32 * warps), "divisible": whole}
            extra["options"] = {"num_warps": warps}
            name = f"rk_finish {kind} dim={dim} watched={watched}"
            yield name, finish_kernel, types, constants, extra


def controls() -> Iterator[Variant]:
    """Kernels that must be found guilty: too few registers, so that the compiler has to spill."""
    from sdekit_kernels.philox._triton_normal import fill_normals

    constants = {"LANES": 4, "ALIGNED": False, "BLOCK": 256, "F64": True}
    extra = {"per_thread": 8, "targets": ("sm_80", "sm_90"), "options": {"maxnreg": 32}}
    yield "control", fill_normals, {"out": "*fp64"}, constants, extra


def targets_of(types: dict[str, str], extra: dict[str, Any]) -> tuple[str, ...]:
    """16-bit variants differ from float32, and from each other, in their conversions alone."""
    kinds = set(types.values())
    if "targets" in extra:
        return tuple(extra["targets"])
    if "*fp16" in kinds:
        return ("sm_90",)
    return ("sm_90", "gfx942") if "*bf16" in kinds else tuple(TARGETS)


def make(task: tuple[int, str]) -> Piece:
    """Compile one variant for one target; its place in the lists travels between processes."""
    index, target = task
    name, fn, types, constants, extra = [*variants(), *controls()][index]
    gpu = (TARGETS | OTHERS)[target]
    options = extra.get("options", {})
    compiled = aot.compile_kernel(fn, types, constants, gpu, extra.get("divisible", ()), **options)
    # The same tile over twice the threads where a warp has 64.
    per_thread = extra["per_thread"] * 32 / gpu.warp_size
    return Piece(name, target, aot.binary_of(compiled), {"per_thread": per_thread})


def look(name: str, code: str, gpu: GPUTarget) -> dict[str, Any]:
    """What is read in a root beside its instructions."""
    if not name.startswith("root") or gpu.backend == "hip":
        return {}
    return {"formula": root_formula(code), "numbers": re.findall(r"-?0x[0-9a-f]+", code)}


def main() -> None:
    tasks = [
        (index, target)
        for index, (_, _, types, _, extra) in enumerate([*variants(), *controls()])
        for target in targets_of(types, extra)
    ]
    aot.print_report(tasks, make, look)


if __name__ == "__main__":
    main()
