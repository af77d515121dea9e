"""The square root of the noise on machines whose own code for it is not known.

``philox/_triton.py: root_f32`` begins with the machine's estimate of 1 / sqrt x. Here every float32
mantissa meets every estimate that could be there. Scaling x by 4 scales all operations by powers of
two, so that two binades stand for all numbers that are far from the ends of the range.
"""

from __future__ import annotations

import math

import numba
import numpy as np
import pytest
import torch
from sdekit_kernels._cpu.ops import bits_to_float, float_to_bits, fma

from tests.kernels.probes import triton_roots

HALF = np.float32(0.5)


@numba.njit
def wrong_roots(low: int, high: int, error: float, newton: bool) -> tuple[int, int]:
    """Pairs of x and an estimate within the relative ``error``, and how many give another root.

    x runs over the float32 numbers whose bits are low, ..., high - 1.
    """
    tried = wrong = 0
    for bits in range(low, high):
        x = bits_to_float(np.uint32(bits))
        exact = math.sqrt(np.float64(x))
        right = np.float32(exact)  # twice rounded, which changes no root (53 >= 2 * 24 + 2 bits)
        nearest = float_to_bits(np.float32(1.0 / exact))
        for away in range(-17, 18):
            y = bits_to_float(np.uint32(nearest + np.uint32(away)))
            if abs(np.float64(y) * exact - 1.0) > error:
                continue
            s = x * y
            h = HALF * y
            if newton:
                e = fma(-h, s, HALF)
                s = fma(s, e, s)
                h = fma(h, e, h)
            tried += 1
            wrong += fma(fma(-s, s, x), h, s) != right
    return tried, wrong


def bits_of(x: float) -> int:
    return int(np.float32(x).view(np.uint32))


def test_with_one_step_of_newton_any_estimate_to_20_bits_will_do():
    tried, wrong = wrong_roots(bits_of(1.0), bits_of(4.0), 2.0**-20, True)
    assert tried > 15 * 2**24
    assert wrong == 0


def test_without_it_the_bound_that_nvidia_states_leaves_two_numbers_open():
    """So the short way is taken only where it is the vendor's own: see ``test_machine_code.py``."""
    _, wrong = wrong_roots(bits_of(1.0), bits_of(4.0), 2.0**-22.9, False)
    assert wrong == 2


@pytest.mark.parametrize("power", [-30, -1, 0, 1, 29])
def test_the_kernel_gives_the_right_root(power, triton_device):
    x = (1.0 + 3.0 * torch.rand(4096, generator=torch.Generator().manual_seed(0))) * 4.0**power
    assert torch.equal(triton_roots(x, triton_device), x.double().sqrt().float())
