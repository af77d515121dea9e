"""Machine code as text, and what is counted in it: registers, memory, instructions, loops, a root.

NVIDIA's disassembler takes a third of a second to start and next to none for a kernel, so that all
kernels for one GPU are read in one call.
"""

from __future__ import annotations

import bisect
import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget

TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


def machine_code(binaries: Sequence[bytes | str], gpu: GPUTarget) -> list[str]:
    """The instructions of kernels that were compiled for one GPU, and their resources.

    binaries: of each NVIDIA's cubin, or AMD's assembly, which is text as it is.
    """
    if gpu.backend == "hip":
        return [str(binary) for binary in binaries]
    usage, ends, stream = [], [], b""
    with tempfile.TemporaryDirectory() as folder:
        for binary in binaries:
            Path(folder, "cubin").write_bytes(bytes(binary))
            usage.append(_run("cuobjdump", "--dump-resource-usage", "cubin", folder))
            _run("cuobjdump", "--extract-text=all", "cubin", folder)
            (code,) = Path(folder).glob("*.elf.bin")  # the kernel and all that it calls
            stream += code.read_bytes()
            ends.append(len(stream))
            code.unlink()
        Path(folder, "stream").write_bytes(stream)
        form = "a" if gpu.arch >= 90 else ""
        listing = _run("nvdisasm", f"--binary=SM{gpu.arch}{form}", "stream", folder)
    lines: list[list[str]] = [[text] for text in usage]
    for line, place in re.findall(r"^\s*(/\*([0-9a-f]+)\*/.*;)", listing, re.MULTILINE):
        lines[bisect.bisect(ends, int(place, 16))].append(line)
    return ["\n".join(own) for own in lines]


def _run(tool: str, option: str, name: str, folder: str) -> str:
    command = [str(TOOLS / tool), option, name]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder)
    return done.stdout


def read_code(code: str, gpu: GPUTarget) -> dict[str, Any]:
    """Resources and instruction counts of what ``machine_code`` gave."""
    return read_amd(code) if gpu.backend == "hip" else read_cuda(code)


def read_cuda(sass: str) -> dict[str, Any]:
    ops = [
        m.group(1)
        for m in re.finditer(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\d+\s+)?([A-Z0-9_.]+)", sass)
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
    }


def root_formula(sass: str) -> str:
    """What a square root stores, of x and the estimate y of 1 / sqrt x, along the short way.

    Jumps are taken: for numbers near 1 the stock root jumps over its call. Operands of products are
    sorted, as their order is the compiler's. FTZ changes nothing where nothing is subnormal; an
    operation that rounds otherwise, or clamps, is none of those that are read here.
    """
    code = re.findall(r"/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\d\s+)?([A-Z0-9.]+)\s*([^;]*);", sass)
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


def read_loop(sass: str) -> int:
    """Instructions of the longest loop that holds no other; slow paths out of line not counted."""
    code = [
        (int(m.group(1), 16), m.group(2))
        for m in re.finditer(r"/\*([0-9a-f]{4,})\*/\s+([@A-Z][^;]*);", sass)
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
