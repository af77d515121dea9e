"""From a program to a kernel that can be launched, and the shape of its launches."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any, NamedTuple

import torch

from sdekit_kernels.cache import generated
from sdekit_kernels.fuse._triton.printer import print_triton
from sdekit_kernels.fuse.program import Program

__all__ = ["Gpu", "Shape", "gpu_of", "kernel_of", "launch_shape"]


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


def kernel_of(program: Program) -> Any:
    """The Triton kernel of this program, printed once a process, compiled once a machine."""
    return generated(f"gpu_{program.key}", partial(print_triton, program)).trajectory


def _light(program: Program) -> bool:
    """Whether two paths a thread fit into 128 registers."""
    lanes = 4 * len({m if program.channels < 4 else m // 4 for m in program.noise})
    return len(program.state) + lanes <= 16 and len(program.body) <= 48


def launch_shape(program: Program, n: int, gpu: Gpu) -> Shape:
    """How n paths are spread over this GPU.

    One warp an instance spreads few paths over all processors. Where there are enough for several
    rounds, a light kernel takes two paths a thread: constants, counters and the reads of the step
    table serve both, some 4 % of the instructions (GBM of three components on sm_90: 48 a normal
    against 50).
    """
    if _light(program) and n >= 4096 * gpu.processors:
        # ptxas aims at 96 registers, and would spill a few words around the loop for it.
        return Shape(256, 256 // (2 * gpu.lanes), None if gpu.hip else 128)
    return Shape(gpu.lanes, 1, None)


@lru_cache(maxsize=16)
def gpu_of(device: torch.device) -> Gpu:
    """What ``launch_shape`` needs to know of a device; of no account under the interpreter."""
    if device.type != "cuda":
        return Gpu(1, 32, False)
    found = torch.cuda.get_device_properties(device)
    return Gpu(found.multi_processor_count, found.warp_size, torch.version.hip is not None)
