"""Four normals a Philox call for the lanes of a program, and who gets them."""

import triton
import triton.language as tl

from sdekit_kernels.fuse._triton.hidden import hidden, hidden_in_step
from sdekit_kernels.philox._triton import normal_pair, philox


@triton.jit
def sample_words(sample, PAIRS: tl.constexpr):
    """Low and high word of the samples' numbers, and what turns their noise around.

    PAIRS: samples 2i and 2i + 1 share the noise of sample i. Half a turn of the angle changes the
    sign of a normal and nothing else, so the odd one flips the top bit of the words of angles.
    """
    flip = (sample << 31).to(tl.uint32)
    if PAIRS:
        sample = sample >> 1
    return sample.to(tl.uint32), (sample >> 32).to(tl.uint32), flip


@triton.jit
def four_normals(
    c0, c1, low, high, flip, k0, k1, PAIRS: tl.constexpr, F64: tl.constexpr, HIDE: tl.constexpr = 0
):
    """The four lanes of the call with counter (c0, c1, low, high).

    HIDE: 1 keeps the calls of a step apart; 2 also makes all of a call in its step, where else
    three words of it, which no step changes, would wait in registers.
    """
    if HIDE == 2:
        low, high = hidden_in_step(low, c1), hidden_in_step(high, c1)
    w0, w1, w2, w3 = philox(tl.full([], c0, tl.uint32), c1, low, high, k0, k1)
    if HIDE > 0:
        w0, w1, w2, w3 = hidden(w0), hidden(w1), hidden(w2), hidden(w3)
    if PAIRS:
        w1 = w1 ^ flip
        w3 = w3 ^ flip
    z0, z1 = normal_pair(w0, w1, F64)
    z2, z3 = normal_pair(w2, w3, F64)
    return z0, z1, z2, z3


@triton.jit
def pick(lane, z0, z1, z2, z3):
    """The lane's normal of four; ``lane`` is one number for the whole program."""
    return tl.where(lane < 2, tl.where(lane == 0, z0, z1), tl.where(lane == 2, z2, z3))
