"""Values whose making LLVM cannot see through, so that it keeps the order of a long step.

LLVM's superword vectorizer, which takes an NVIDIA GPU for a machine with vectors, makes the noise
of all Philox calls of a step in lockstep, and what does not change between steps, three words a
call, waits in registers. A step of 64 components then takes 255 registers and spills; in the order
of its lines it takes 136: twice the warps on a processor, for one instruction a normal more.
An empty line of assembly in between, which costs no instruction, ends both. AMD's vectors are real:
nothing is hidden there, nor in the interpreter.
"""

import triton
import triton.language as tl
from triton.language.target_info import is_cuda

from sdekit_kernels._gpu.ops import INTERPRETED


@triton.jit
def hidden(x):
    """x, of 32 bits or float64."""
    if INTERPRETED:
        return x
    elif is_cuda():
        SMALL: tl.constexpr = "f" if x.dtype == tl.float32 else "r"
        LETTER: tl.constexpr = "d" if x.dtype == tl.float64 else SMALL
        return tl.inline_asm_elementwise("", "=" + LETTER + ",0", [x], x.dtype, True, 1)
    else:
        return x


@triton.jit
def hidden_in_step(x, number):
    """The 32-bit x, as if it depended on the number of the step."""
    if INTERPRETED:
        return x
    elif is_cuda():
        return tl.inline_asm_elementwise("", "=r,0,r", [x, number], x.dtype, True, 1)
    else:
        return x
