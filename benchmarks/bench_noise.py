"""How fast are normals: ``sdekit_kernels.normal`` beside ``torch.randn`` of the same shape.

The rival draws from torch's own generator, in order, on as many threads as torch gives it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from sdekit_kernels import normal

from benchmarks.checks import STANDARD_ERRORS, moment_error

F32, F64, BF16, F16 = torch.float32, torch.float64, torch.bfloat16, torch.float16
CASES = [
    ((100_000, 1), F32),
    ((1_000_000, 1), F32),
    ((1_000_000, 4), F32),
    ((1000, 784), F32),
    ((64, 3, 64, 64), F32),
    ((1_000_000, 1), F64),
    ((1000, 784), F64),
    ((1000, 784), BF16),
    ((1000, 784), F16),
]


def draws(contender: str, shape: tuple[int, ...], dtype: torch.dtype) -> Callable[[], Any]:
    if contender == "sdekit":
        return lambda: normal(shape, seed=1, stream=2, step=5, dtype=dtype)
    return lambda: torch.randn(shape, dtype=dtype)


@pytest.mark.parametrize("contender", ["sdekit", "torch.randn"])
@pytest.mark.parametrize(("shape", "dtype"), CASES)
def test_normal(clock: Any, contender: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    draw = draws(contender, shape, dtype)
    z = draw()
    assert z.shape == shape and z.dtype == dtype
    clock(
        draw,
        group=f"normal {tuple(shape)} {str(dtype).removeprefix('torch.')}",
        contender=contender,
        error=moment_error(z),
        limit=STANDARD_ERRORS,
        what="mean, variance [s.e.]",
        work=z.numel() / 1e6,
        unit="million normals",
        seconds=0.6,
    )
