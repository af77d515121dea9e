"""Machine operations on the GPU that need more than Triton's own."""

import os

import triton
import triton.language as tl

INTERPRETED: tl.constexpr = tl.constexpr(os.environ.get("TRITON_INTERPRET") == "1")


@triton.jit
def fma(a, b, c):
    """a b + c with one rounding, in float32 or float64; all three of one shape and type.

    Triton's interpreter rounds twice in float32 in most of its versions. There the sum is made in
    float64 and rounded to float32, which differs from one rounding less than once in 10^8 times.
    """
    if INTERPRETED:
        wide = a.to(tl.float64) * b.to(tl.float64) + c.to(tl.float64)
        return wide.to(a.dtype)
    else:
        return tl.fma(a, b, c)


@triton.jit
def negative(x):
    """-x of floating-point numbers.

    Triton reads -x as the subtraction 0 - x, which costs an instruction and makes 0 of 0, not -0;
    a product by -1 is a change of sign to LLVM, and most instructions that use it take it along.
    """
    return x * -1.0
