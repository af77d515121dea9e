"""Compile the Triton kernels to machine code on a machine without a GPU and read it.

Run as a program (``python tests/kernels/aot.py --jobs 2 [sm_90 ...]``): the tests run Triton's
interpreter in their own process, in which nothing can be compiled. Prints one JSON object: for
every kernel, variant and target the local memory, the spills, the registers and the number of
instructions. A new kernel adds its variants to ``variants()`` and a row to the budgets in
``test_machine_code.py``.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

os.environ.pop("TRITON_INTERPRET", None)

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime import driver

TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
OTHERS = {f"sm_{n}": GPUTarget("cuda", n, 32) for n in (75, 86, 89, 100, 120)}
TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
TYPES = {"fp32": "float32", "fp64": "float64", "bf16": "bfloat16", "fp16": "float16"}


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


def machine_code(compiled: Any) -> str:
    """The code and its resources: AMD's assembly, or what ``cuobjdump`` reads in a cubin."""
    if "cubin" not in compiled.asm:
        return compiled.asm["amdgcn"]
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        command = [str(TOOLS / "cuobjdump"), "--dump-resource-usage", "--dump-sass", file.name]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def read_code(code: str, gpu: GPUTarget) -> dict[str, Any]:
    """Resources and instruction counts of what ``machine_code`` gave."""
    return read_amd(code) if gpu.backend == "hip" else read_cuda(code)


def read_cuda(sass: str) -> dict[str, Any]:
    ops = [
        m.group(1)
        for m in re.finditer(r"/\*[0-9a-f]{4,5}\*/\s+(?:@!?U?P\d+\s+)?([A-Z0-9_.]+)", sass)
    ]
    # A kernel ends at its last EXIT; what follows is a branch to itself and padding, or the
    # out-of-line slow path of the square root, which no argument here reaches.
    while ops and ops[-1] in ("NOP", "BRA"):
        ops.pop()
    usage = dict(re.findall(r"\b(REG|LOCAL|STACK):(\d+)", sass))
    exits = [i for i, op in enumerate(ops) if op == "EXIT"]
    body = ops[: exits[-1] + 1] if exits else ops
    return {
        "registers": int(usage["REG"]),
        "local": int(usage["LOCAL"]),
        "stack": int(usage["STACK"]),
        "instructions": len(body),
        "local_access": sum(op.startswith(("LDL", "STL")) for op in ops),
        "wide": sum(op.startswith(("LDG", "STG")) and ".128" in op for op in ops),
        "global": sum(op.startswith(("LDG", "STG")) for op in ops),
        "shared_access": sum(op.startswith(("LDS", "STS")) for op in ops),
        "ops": ops if os.environ.get("AOT_OPS") else None,
    }


def root_formula(sass: str) -> str:
    """What a square root stores, of x and the estimate y of 1 / sqrt x, along the short way.

    Jumps are taken: for numbers near 1 the stock root jumps over its call. Operands of products are
    sorted, as their order is the compiler's. FTZ changes nothing where nothing is subnormal; an
    operation that rounds otherwise, or clamps, is none of those that are read here.
    """
    code = re.findall(r"/\*([0-9a-f]{4})\*/\s+(?:@!?U?P\d\s+)?([A-Z0-9.]+)\s*([^;]*);", sass)
    places = {int(place, 16): i for i, (place, _, _) in enumerate(code)}
    at = next(i for i, (_, op, _) in enumerate(code) if op == "MUFU.RSQ")
    names: dict[str, str] = {}
    for name, register in zip("yx", code[at][2].split(","), strict=True):
        names[register.strip()] = name
    while True:
        at += 1
        _, op, text = code[at]
        if op == "BRA":
            at = places[int(text.split()[-1], 16)] - 1
            continue
        target, *operands = [part.strip().removesuffix(".reuse") for part in text.split(",")]
        if op.startswith("STG"):
            return names[operands[-1]]
        signs = ["-" if v.startswith("-") else "" for v in operands]
        known = [names.get(v.lstrip("-"), v.lstrip("-")) for v in operands]
        values = [sign + v for sign, v in zip(signs, known, strict=True)]
        names.pop(target, None)
        if op in ("FMUL", "FMUL.FTZ", "FFMA", "FFMA.FTZ"):
            product = " * ".join(sorted(values[:2]))
            names[target] = f"({product})" if op[1] == "M" else f"({product} + {values[2]})"


def read_amd(text: str) -> dict[str, Any]:
    """Of an AMD code object, from the directives of its assembly."""

    def number(key: str) -> int:
        match = re.search(rf"{re.escape(key)}:?\s+(\d+)", text)
        return int(match.group(1)) if match else 0

    return {
        "registers": number(".vgpr_count"),
        "local": number(".private_segment_fixed_size"),
        "spills": number(".vgpr_spill_count") + number(".sgpr_spill_count"),
        "instructions": len(
            re.findall(r"^\s+[vs]_\w+|^\s+(?:global|buffer|flat|ds)_\w+", text, re.M)
        ),
        "local_access": len(re.findall(r"^\s+scratch_(?:load|store)", text, re.M)),
        "wide": len(re.findall(r"^\s+(?:global|buffer)_(?:load|store)_dwordx4", text, re.M)),
        "global": len(re.findall(r"^\s+(?:global|buffer)_(?:load|store)_", text, re.M)),
        "shared_access": len(re.findall(r"^\s+ds_(?:read|write|load|store)", text, re.M)),
    }


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


def read(task: tuple[int, str]) -> tuple[str, dict[str, Any]]:
    """Compile one variant for one target; its place in the lists travels between processes."""
    index, target = task
    name, fn, types, constants, extra = [*variants(), *controls()][index]
    gpu = (TARGETS | OTHERS)[target]
    options = extra.get("options", {})
    compiled = compile_kernel(fn, types, constants, gpu, extra.get("divisible", ()), **options)
    code = machine_code(compiled)
    found = read_code(code, gpu)
    if name.startswith("root") and gpu.backend == "cuda":
        found["formula"] = root_formula(code)
        found["numbers"] = re.findall(r"-?0x[0-9a-f]+", code)
    # The same tile over twice the threads where a warp has 64.
    found["per_thread"] = extra["per_thread"] * 32 / gpu.warp_size
    return f"{name} {target}", found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", default=[*TARGETS, *OTHERS])
    parser.add_argument("--jobs", type=int, default=1, help="processes that compile")
    arguments = parser.parse_args()
    tasks = [
        (index, target)
        for index, (_, _, types, _, extra) in enumerate([*variants(), *controls()])
        for target in targets_of(types, extra)
        if target in arguments.targets
    ]
    if arguments.jobs == 1:
        report = dict(map(read, tasks))
    else:
        with multiprocessing.get_context("fork").Pool(arguments.jobs) as pool:
            report = dict(pool.imap(read, tasks))
    print(json.dumps(report))


if __name__ == "__main__":
    main()
