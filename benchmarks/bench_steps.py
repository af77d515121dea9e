"""How fast is one fused step beside the same update in eager torch, for 10^5 elements and more.

sdekit's answer is compared with float64 on the same noise (relative error); the rival draws other
noise, so what is compared is (x_next - x_mean) / c, which must be N(0, 1).
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from sdekit_kernels import normal
from torch import Tensor

from benchmarks.checks import STANDARD_ERRORS, moment_error, relative_error, rounding_limit
from benchmarks.updates import SNR, UPDATES, Update, first

F32, F64, BF16, F16 = torch.float32, torch.float64, torch.bfloat16, torch.float16
NOISE: dict[str, Any] = {"seed": 3, "stream": 1, "step": 7}
# Of up to three components a step takes a Philox call for each normal, a fourth of what it gives:
# the others belong to the next steps, which only a kernel of whole paths has.
SMALL = [(100_000, 1), (33_334, 3), (1000, 100)]
SHAPES = [(1000, 784), (64, 3, 64, 64)]
CASES = [
    *(
        (op, shape, F32, "number")
        for op in ("em_step", "predictor_step")
        for shape in (*SMALL, (1_000_000, 1), *SHAPES)
    ),
    *(("langevin_step", shape, F32, "number") for shape in (SMALL[-1], *SHAPES)),
    ("langevin_step, given step", (1000, 784), F32, "number"),
    ("em_step", (1000, 784), F32, "sample"),
    ("predictor_step", (1000, 784), F32, "sample"),
    *(
        (op, (1000, 784), dtype, "number")
        for op in ("em_step", "predictor_step", "langevin_step")
        for dtype in (F64, BF16, F16)
    ),
]


def inputs(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator).to(dtype)
    return x, torch.randn(shape, generator=generator).to(dtype)


def fused_error(update: Update, x: Tensor, s: Tensor) -> float:
    """Of the kernel against float64, given the noise in the type that it computes in."""
    z = normal(tuple(x.shape), dtype=F64 if x.dtype == F64 else F32, **NOISE)
    reference = update.reference(x.double(), s.double(), z.double())
    return relative_error(first(update.fused(x, s, **NOISE)), reference)


def eager_error(update: Update, x: Tensor, s: Tensor, out: Tensor) -> float:
    """Of any other x_next: the noise in it, made out by the float64 reference, must be N(0, 1)."""
    x, s, out = x.double(), s.double(), out.double()
    if update.name == "langevin_step":
        # eps depends on the unknown |z|, which for D components is sqrt(D) to a part in sqrt(2 D).
        d = x[0].numel()
        eps = 2.0 * (SNR * d**0.5 / s.flatten(1).norm(dim=1)) ** 2
        eps = eps.view(-1, *[1] * (x.ndim - 1))
        return moment_error((out - x - eps * s) / (2.0 * eps).sqrt())
    mean = update.reference(x, s, torch.zeros_like(x))
    return moment_error((out - mean) / (update.reference(x, s, torch.ones_like(x)) - mean))


@pytest.mark.parametrize("contender", ["sdekit", "eager torch", "eager torch, in place"])
@pytest.mark.parametrize(("op", "shape", "dtype", "kind"), CASES)
def test_step(
    clock: Any, contender: str, op: str, shape: tuple[int, ...], dtype: torch.dtype, kind: str
) -> None:
    torch.manual_seed(0)
    x, s = inputs(shape, dtype)
    update = UPDATES[op](x, kind)
    if contender == "sdekit":
        error, limit, what = fused_error(update, x, s), rounding_limit(dtype), "relative error"
        if op == "langevin_step":
            limit *= 2.0  # the norms: sums of D squares, whose rounding the step size inherits

        def run() -> Any:
            return update.fused(x, s, **NOISE)
    else:
        if contender == "eager torch":

            def run() -> Any:
                return update.eager(x, s)
        elif update.in_place is None:
            pytest.skip("no form with fewer passes")
        else:
            z, out, in_place = torch.empty_like(x), torch.empty_like(x), update.in_place

            def run() -> Any:
                return in_place(x, s, z, out)

        error, limit = eager_error(update, x, s, run()), STANDARD_ERRORS
        what = "mean, variance [s.e.]"
        if x.element_size() == 2:
            limit *= 2.0  # every operation rounds to 8 or 11 bits, and that has a bias
        if op == "langevin_step":
            limit *= 2.0  # |z| is known only about, see above
    each = "" if kind == "number" else f", one coefficient a {kind}"
    clock(
        run,
        group=f"{op} {shape} {str(dtype).removeprefix('torch.')}{each}",
        contender=contender,
        error=error,
        limit=limit,
        what=what,
        work=x.numel() / 1e6,
        unit="million elements",
        seconds=0.5,
    )
