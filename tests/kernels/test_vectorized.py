"""The loops of the noise are vector code: a loop that LLVM gives up on has the same bits.

It takes three times as long, and only a benchmark would tell. Read in LLVM's own text after all its
passes, in which a vector has the same name on every processor.
"""

from __future__ import annotations

import re
from typing import Any

import numba
import numpy as np
import pytest
from numba.core.ccallback import CFunc
from sdekit_kernels._cpu import jit
from sdekit_kernels.fuse._numba import block as blocks
from sdekit_kernels.philox._numba_normal import fill_normals
from sdekit_kernels.steps._numba.affine import affine_kernel

U32, U64 = np.uint32, np.uint64
NOISE = (U64(5), U32(1), U32(2), U32(3))
TYPES = [np.float32, np.float64]


def optimized(kernel: Any, *arguments: Any) -> str:
    """LLVM's text of a kernel, compiled anew: one that was read from disk has none."""
    again = numba.njit(fastmath=False, error_model="numpy", pipeline_class=jit._Compiler)(
        kernel.py_func
    )
    again(0, 0, *arguments)
    (text,) = again.inspect_llvm().values()
    return text


def loops(pattern: str, least: int, text: str) -> int:
    """How many loops have at least so many lines of which a group is the number of lanes.

    A loop comes once in full lanes, and a second time for the few elements that are left, in fewer.
    """
    found = []
    for block in re.split(r"\n(?=[\w.]+:)", text):
        lanes = [int(n) for n in re.findall(pattern, block)]
        found += [max(lanes)] if len(lanes) >= least else []
    return found.count(max(found, default=0))


def philox_loops(text: str) -> int:
    """Ten rounds of two products of 32 by 32 bits, less what half a call does not need."""
    return loops(r" = mul (?:nuw |nsw )*<(\d+) x i64>", 17, text)


def root_loops(text: str) -> int:
    """Loops with the roots of normals."""
    return loops(r" call <(\d+) x \w+> @llvm\.sqrt\.", 1, text)


@pytest.mark.parametrize("dtype", TYPES)
def test_normals(dtype: Any) -> None:
    out = np.zeros(8, dtype)
    text = optimized(fill_normals, out, False, np.zeros(1, dtype), 8, 1, 8, 1, *NOISE)
    # Four words of a call, words 0 and 1, words 2 and 3; pairs of normals, cosines and sines alone.
    assert philox_loops(text) == 3 and root_loops(text) == 3


@pytest.mark.parametrize("dtype", TYPES)
def test_steps(dtype: Any) -> None:
    x, number = np.zeros(8, dtype), np.ones(1, dtype)
    given = (x, False, x, False, x, x, True)
    coefficients = (number, 0, 0) * 3
    text = optimized(
        affine_kernel, *given, *coefficients, True, True, np.zeros(1, dtype), 8, 1, 8, 1, *NOISE
    )
    # One root more, sqrt|b| where b has entries.
    assert philox_loops(text) == 3 and root_loops(text) == 4


@pytest.mark.parametrize("antithetic", [False, True])
@pytest.mark.parametrize("bits", [32, 64])
def test_normals_of_trajectories(
    bits: int, antithetic: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[CFunc] = []
    monkeypatch.setattr(jit, "_keep_on_disk", lambda compiled, function: made.append(compiled))
    words = blocks._PAIRS if antithetic else blocks._ALONE
    exec((blocks._HEAD + blocks._NORMALS).format(bits=bits, **words), {})
    text = made[0].inspect_llvm()
    assert philox_loops(text) == 1 and root_loops(text) == 2
