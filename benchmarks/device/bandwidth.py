"""How much of the memory's speed do the kernels reach, and how do torch's own forms do?

The measure is a device-to-device copy of as many bytes, timed in the same way in the same run.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from sdekit_kernels import normal
from torch import Tensor

from benchmarks.checks import STANDARD_ERRORS, moment_error, relative_error, rounding_limit
from benchmarks.device.context import Context, Timing
from benchmarks.device.record import Record
from benchmarks.updates import UPDATES, Update

F32, F64, BF16, F16 = torch.float32, torch.float64, torch.bfloat16, torch.float16
COPY, NOISE, STEPS, COMPILED = "copy", "noise", "steps", "steps beside torch.compile"
COPY_TEXT = "`dst.copy_(src)`, bytes read plus bytes written. spread: the 20 % to 80 % quantiles."
NOISE_TEXT = (
    "`normal()` and `torch.randn` of the same shape. error: mean and variance, in standard errors."
)
STEPS_TEXT = (
    "One step. bytes: what must move at the least, each tensor once a pass. copy: a copy of as "
    "many bytes, timed in the same way. ratio: achieved bytes/s over the copy's; 0.85 is the aim, "
    "which by their instructions em_step and langevin_step cannot reach on an H200 for float32 "
    "samples of one to three components, nor the norms of a 16-bit langevin_step: there the noise "
    "is the bound (tests/kernels/test_machine_code.py). "
    "eager: the same update in eager torch. error: of x_next against float64, over the whole "
    "tensor, with the outputs poisoned by NaN before."
)
COMPILED_TEXT = "The same update by `torch.compile`, which fuses its own generator into it."
DRAW: dict[str, Any] = {"seed": 3, "stream": 1, "step": 7}

MANY = 1 << 28
EVENTS: dict[str, tuple[int, ...]] = {
    "256": (256,),
    "784": (784,),
    "785": (785,),
    "1": (1,),
    "3": (3,),
    "3x64x64": (3, 64, 64),
}
CASES: list[tuple[str, str, torch.dtype, str, int]] = [
    # op, event, dtype, coefficients, elements
    *((op, event, F32, "number", MANY) for op in UPDATES for event in ("256", "784", "3x64x64")),
    *((op, "1", F32, "number", MANY >> 1) for op in ("em_step", "predictor_step")),
    *((op, event, F32, "number", MANY >> 1) for op in ("em_step",) for event in ("3", "785")),
    *((op, "256", F32, "sample", MANY) for op in ("em_step", "predictor_step", "langevin_step")),
    *((op, "784", F32, "component", MANY) for op in ("em_step", "predictor_step")),
    ("em_step", "784", F32, "tensor", MANY),
    *(
        (op, event, dtype, "number", MANY)
        for dtype in (BF16, F16, F64)
        for op in ("em_step", "predictor_step", "langevin_step")
        for event in ("256", "784")
    ),
    # A batch of 64 images: everything fits into the cache, were it not for the turns.
    *((op, "3x64x64", F32, "number", 64 * 3 * 64 * 64) for op in list(UPDATES)[:3]),
]


def copies(context: Context, record: Record) -> None:
    """The ceiling, for a few sizes."""
    for log2 in (23, 25, 28, 30):
        ms = _copy(context, 1 << (10 if context.dry_run else log2))
        total = 1 << (10 if context.dry_run else log2)
        record.row(COPY, MiB=total / 2**20, ms=ms.ms, GB_s=total / ms.ms / 1e6, spread=ms.spread)


def _copy(context: Context, total: int) -> Timing:
    """A copy that reads and writes ``total`` bytes in all."""
    n = max(1, total // 8)
    pairs = [(context.random((n,)), context.random((n,))) for _ in range(context.buffers(total))]
    return context.time([partial(b.copy_, a) for a, b in pairs], total)


def noise(context: Context, record: Record) -> None:
    """Normals a second."""
    for event, dtype, elements in (
        ("256", F32, MANY),
        ("784", F32, MANY),
        ("785", F32, MANY >> 1),
        ("1", F32, MANY >> 1),
        ("3x64x64", F32, 64 * 3 * 64 * 64),
        ("256", BF16, MANY),
        ("256", F16, MANY),
        ("256", F64, MANY >> 2),
    ):
        shape = _shape(context, event, dtype, elements)

        def ours(shape: tuple[int, ...] = shape, dtype: torch.dtype = dtype) -> Tensor:
            return normal(
                shape, dtype=dtype, device=context.device, backend=context.backend, **DRAW
            )

        z = ours()
        error, total = moment_error(_part(z)), z.numel() * z.element_size()
        del z
        ms = context.time([ours], total)
        rival = context.time(
            [partial(torch.randn, shape, device=context.device, dtype=dtype)], total
        )
        record.row(
            NOISE,
            shape=str(shape),
            dtype=_name(dtype),
            error=error,
            ok=error <= STANDARD_ERRORS,
            ms=ms.ms,
            Gnormals_s=math.prod(shape) / ms.ms / 1e6,
            GB_s=total / ms.ms / 1e6,
            spread=ms.spread,
            randn_ms=rival.ms,
            speedup=rival.ms / ms.ms,
        )


def steps(context: Context, record: Record) -> None:
    """Every step kernel beside a copy of as many bytes and beside eager torch."""
    seen = set()
    for op, event, dtype, kind, elements in CASES:
        # Interpreted, each takes half a second: a dry run leaves out what differs in size only.
        case = (op, dtype, kind, event if op == "em_step" else "")
        if context.dry_run and case in seen:
            continue
        seen.add(case)
        _step(context, record, op, event, dtype, kind, elements)


def compiled(context: Context, record: Record) -> None:
    """The steps that torch.compile is tried on; each costs seconds to compile."""
    for op, event, dtype in (
        ("em_step", "256", F32),
        ("predictor_step", "256", F32),
        ("langevin_step", "784", F32),
        ("em_step", "256", BF16),
    ):
        x, s, update = _inputs(context, op, event, dtype, "number", MANY)
        total = update.passes * x.numel() * x.element_size()
        # The dry run tests this script, not the compiler.
        rival = update.eager if context.dry_run else torch.compile(update.eager, dynamic=False)
        out = context.poisoned(x)
        ours = context.time([_call(update, x, s, out, context)], total)
        theirs = context.time([partial(rival, x, s)], total)
        record.row(
            COMPILED,
            op=op,
            shape=str(tuple(x.shape)),
            dtype=_name(dtype),
            ms=ours.ms,
            compile_ms=theirs.ms,
            speedup=theirs.ms / ours.ms,
            spread=max(ours.spread, theirs.spread),
        )


def _inputs(
    context: Context, op: str, event: str, dtype: torch.dtype, kind: str, elements: int
) -> tuple[Tensor, Tensor, Update]:
    shape = _shape(context, event, dtype, elements)
    x, s = context.random(shape, dtype), context.random(shape, dtype)
    return x, s, UPDATES[op](x, kind)


def _call(
    update: Update, x: Tensor, s: Tensor, out: Tensor, context: Context, mean: Any = None
) -> Callable[[], Any]:
    more = {} if mean is None else {"mean_out": mean}
    return lambda: update.fused(x, s, out=out, backend=context.backend, **more, **DRAW)


def _step(
    context: Context,
    record: Record,
    op: str,
    event: str,
    dtype: torch.dtype,
    kind: str,
    elements: int,
) -> None:
    x, s, update = _inputs(context, op, event, dtype, kind, elements)
    total = update.passes * x.numel() * x.element_size()
    out = context.poisoned(x)
    mean = None if op == "em_step" else context.poisoned(x)
    _call(update, x, s, out, context, mean)()
    error = _error(context, update, x, s, out)
    # The corrector's step size inherits the norms' rounding; the interpreter cuts bfloat16 off.
    limit = rounding_limit(dtype) * (2.0 if op == "langevin_step" or context.dry_run else 1.0)
    unwritten = mean is not None and bool(mean.isnan().any())

    sets = [(x, s, out, mean)]
    for _ in range(context.buffers(total) - 1):
        again = None if mean is None else torch.empty_like(x)
        sets.append((context.random(x.shape, dtype), s.clone(), torch.empty_like(x), again))
    calls = [_call(update, a, b, c, context, m) for a, b, c, m in sets]
    ours = context.time(calls, total)
    eager = context.time([partial(update.eager, a, b) for a, b, _, _ in sets], total)
    del sets, calls, out, mean
    copy = _copy(context, total)
    record.row(
        STEPS,
        op=op,
        shape=str(tuple(x.shape)),
        dtype=_name(dtype),
        coefficients=kind,
        error=error,
        ok=error <= limit and not unwritten,
        ms=ours.ms,
        spread=ours.spread,
        GB_s=total / ours.ms / 1e6,
        copy_GB_s=total / copy.ms / 1e6,
        ratio=copy.ms / ours.ms,
        eager_ms=eager.ms,
        speedup=eager.ms / ours.ms,
    )


def _error(context: Context, update: Update, x: Tensor, s: Tensor, out: Tensor) -> float:
    """The worst chunk's relative error against float64 with the noise of ``normal``."""
    worst = 0.0
    chunk = 2 if context.dry_run else max(1, (1 << 24) // x[0].numel())
    compute = F64 if x.dtype == F64 else F32
    for r0 in range(0, x.shape[0], chunk):
        rows = slice(r0, r0 + chunk)
        z = normal(
            tuple(x[rows].shape),
            first_sample=r0,
            dtype=compute,
            device=context.device,
            backend=context.backend,
            **DRAW,
        )
        reference = update.reference(x[rows].double(), s[rows].double(), z.double(), rows=rows)
        found = relative_error(out[rows], reference)
        if not found <= worst:  # NaN among them, which then stays
            worst = found
        if math.isnan(worst):
            break
    return worst


def _part(z: Tensor) -> Tensor:
    """As much as float64 statistics are affordable on."""
    return z.flatten()[: 1 << 26]


def _shape(context: Context, event: str, dtype: torch.dtype, elements: int) -> tuple[int, ...]:
    """A batch of about ``elements`` elements; images are tiny in a dry run."""
    sizes = (3, 2, 4) if context.dry_run and len(EVENTS[event]) == 3 else EVENTS[event]
    element_size = torch.empty(0, dtype=dtype).element_size()
    return (context.rows(elements, math.prod(sizes), element_size), *sizes)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
