"""From a program to a kernel that can be launched, and the shape of its launches."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any, Final, NamedTuple

import torch

from sdekit_kernels.cache import generated
from sdekit_kernels.fuse._triton.printer import print_triton
from sdekit_kernels.fuse._triton.registers import live_words
from sdekit_kernels.fuse._triton.size import lines_of
from sdekit_kernels.fuse.program import Program
from sdekit_kernels.fuse.statistics import Group

__all__ = ["MAX_LINES", "Gpu", "Shape", "fits", "gpu_of", "kernel_of", "launch_shape"]

MAX_LINES: Final = 15_000
"""Operations of a kernel, functions and noise written out, up to which it is compiled.

Compiling takes 12 s of a processor there, where much is e^x 20 s, and grows faster than the number.
No step is refused for registers. Where one keeps more than some 200 words at once, some of them
wait in local memory: 1 to 8 % of the instructions of a step of 64 components. Step by step, each
operation on all of them would go through memory.
"""


class Shape(NamedTuple):
    """Paths and warps of one instance of the kernel, and the registers that a thread may use."""

    block: int
    warps: int
    registers: int | None

    @property
    def options(self) -> dict[str, Any]:
        """What Triton compiles the kernel with."""
        limit = {} if self.registers is None else {"maxnreg": self.registers}
        return {"num_warps": self.warps, **limit}


class Gpu(NamedTuple):
    """Processors of a GPU, lanes of its warps, and whether it is AMD's."""

    processors: int
    lanes: int
    hip: bool


def kernel_of(program: Program, groups: tuple[Group, ...] = ()) -> Any:
    """The Triton kernel of this program, printed once a process, compiled once a machine.

    groups: what it reduces in place of saving states.
    """
    sums = "".join(f"_{g.first}{'p' if g.products else 's'}{g.size}" for g in groups)
    return generated(f"gpu_{program.key}{sums}", partial(print_triton, program, groups)).trajectory


def fits(program: Program) -> str:
    """Nothing, or why this program is no kernel for a GPU."""
    lines = lines_of(program)
    if lines <= MAX_LINES:
        return ""
    return (
        f"a step of {lines} operations once its functions and its noise are written out is too "
        f"long for one GPU kernel, which takes {MAX_LINES}: use fewer elementary functions or "
        "components a sample, or make parts that do not depend on each other samples of their own"
    )


def _light(program: Program) -> bool:
    """Whether two paths a thread fit into 128 registers."""
    lanes = 4 * len(program.calls)
    return len(program.state) + lanes <= 16 and len(program.body) <= 48


def launch_shape(program: Program, n: int, gpu: Gpu, sums: bool = False) -> Shape:
    """How n paths are spread over this GPU.

    One warp an instance spreads few paths over all processors. Where there are enough for several
    rounds, a light kernel takes two paths a thread: constants, counters and the reads of the step
    table serve both, some 5 % of the instructions (GBM of three components on sm_90: 37 a normal
    against 39). Where it makes ``sums``, an instance is one warp: several would meet in shared
    memory, and the sums of two paths a thread would push their states out of the registers.
    """
    if not sums and _light(program) and n >= 4096 * gpu.processors:
        # Left alone, ptxas aims at 96 registers: 0.5 to 1.8 instructions a normal more on sm_90.
        return Shape(256, 256 // (2 * gpu.lanes), None if gpu.hip else 128)
    # Left alone, ptxas stops at 168 registers, for more warps, and spills a few for it.
    heavy = live_words(program) > (64 if program.dtype == torch.float64 else 128)
    return Shape(gpu.lanes, 1, 255 if heavy and not gpu.hip else None)


@lru_cache(maxsize=16)
def gpu_of(device: torch.device) -> Gpu:
    """What ``launch_shape`` needs to know of a device; of no account under the interpreter."""
    if device.type != "cuda":
        return Gpu(1, 32, False)
    found = torch.cuda.get_device_properties(device)
    return Gpu(found.multi_processor_count, found.warp_size, torch.version.hip is not None)
