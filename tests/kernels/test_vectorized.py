"""The loops of the noise are vector code: a loop that LLVM gives up on has the same bits.

It takes three times as long, and only a benchmark would tell. Read in LLVM's own text after all its
passes, in which a vector has the same name on every processor.
"""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import numba
import numpy as np
import pytest
import torch
from llvmlite.binding import get_host_cpu_features
from numba.core import types
from sdekit_kernels._cpu import jit
from sdekit_kernels.fuse._numba import block as blocks
from sdekit_kernels.fuse._numba import run
from sdekit_kernels.fuse.trace import trace_step
from sdekit_kernels.philox._block import _block, _signature
from sdekit_kernels.steps._numba.affine import affine_kernel

from tests.kernels.fuse.test_numba_trajectory import launch

pytestmark = pytest.mark.skipif(
    get_host_cpu_features().get("fma") is False,
    reason="without fused multiply-adds in hardware there is nothing to vectorize",
)


@pytest.fixture
def anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is kept on disk: what was read from there has no text."""
    monkeypatch.setattr(jit, "_keep_on_disk", lambda compiled, function: None)


def loops(pattern: str, least: int, text: str) -> int:
    """How many loops have at least so many lines of this pattern.

    One that LLVM makes of what another one leaves over, in as many lanes or fewer, is not counted.
    """
    blocks = re.split(r"\n(?=[\w.]+:)", text)
    own = [block for block in blocks if not block.startswith("vec.epilog")]
    return sum(len(re.findall(pattern, block)) >= least for block in own)


def philox_loops(text: str) -> int:
    """Ten rounds of two products of 32 by 32 bits, less what half a call does not need."""
    return loops(r" = mul (?:nuw |nsw )*<\d+ x i64>", 17, text)


def root_loops(text: str) -> int:
    """Loops with the roots of normals."""
    return loops(r" call <\d+ x \w+> @llvm\.sqrt\.", 1, text)


@pytest.mark.usefixtures("anew")
@pytest.mark.parametrize("dtype", [types.float32, types.float64])
def test_normals_of_blocks(dtype: Any) -> None:
    text = jit.callback(_signature(dtype))(_block).inspect_llvm()
    # Four words of a call, words 0 and 1, words 2 and 3; pairs of normals, cosines and sines alone.
    assert philox_loops(text) == 3 and root_loops(text) == 3


@pytest.mark.usefixtures("anew")
@pytest.mark.parametrize("antithetic", [False, True])
@pytest.mark.parametrize("bits", [32, 64])
def test_normals_of_trajectories(bits: int, antithetic: bool) -> None:
    words = blocks._PAIRS if antithetic else blocks._ALONE
    made: dict[str, Any] = {}
    exec((blocks._HEAD + blocks._NORMALS).format(bits=bits, **words), made)
    text = made["function"].inspect_llvm()
    assert philox_loops(text) == 1 and root_loops(text) == 2


@pytest.mark.usefixtures("anew")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_long_steps_of_trajectories(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """They stand in the code once: no scalar copy for a remainder, which none of them has."""

    def step(now: Any, z: torch.Tensor, states: Any) -> tuple[torch.Tensor]:
        x = states[0]
        return (x + now["dt"] * torch.sin(x) * torch.tanh(x) + torch.exp(-x) * z,)

    made: dict[str, Any] = {}

    def source(name: str, write: Any) -> Any:
        exec(write(), made)
        return SimpleNamespace(**made)

    program = trace_step(step, [torch.zeros(7, 1, dtype=dtype)], (1,), ("dt",))
    monkeypatch.setattr(run, "generated", source)
    start, table = torch.zeros(1, 40, dtype=dtype), torch.ones(4, 1, dtype=dtype)
    run.run_numba(launch(program, start, table))
    (text,) = made["launch"].inspect_llvm().values()
    assert loops(r" call <\d+ x \w+> @llvm\.fma\.", 20, text) == 1
    assert not re.search(r" call (?:float|double) @llvm\.fma\.", text)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_steps(dtype: Any) -> None:
    x, number = np.zeros(8, dtype), np.ones(1, dtype)
    kernel = numba.njit(fastmath=False, error_model="numpy")(affine_kernel.py_func)
    given, coefficients = (x, False, x, False, x, x, True), (number, 0, 0) * 3
    noise = (np.uint64(5), np.uint32(1), np.uint32(2), np.uint32(3))
    like = np.zeros(1, dtype)
    kernel(0, 0, *given, *coefficients, True, True, like, 8, 1, 8, 1, *noise)
    (text,) = kernel.inspect_llvm().values()
    # sqrt|b| where b has entries; the mean and the noise's term, by numbers and by entries.
    assert root_loops(text) == 1
    assert loops(r" call <\d+ x \w+> @llvm\.fma\.", 1, text) == 4
