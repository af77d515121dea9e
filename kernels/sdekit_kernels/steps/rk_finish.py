"""The end of an adaptive Runge-Kutta step: accepted or not, and how long the next one is."""

from __future__ import annotations

from typing import Any

import torch

from sdekit_kernels.dispatch import resolve_backend
from sdekit_kernels.geometry import cpu_block
from sdekit_kernels.steps.rk_arguments import explain_finish, finish_fits, rule_numbers
from sdekit_kernels.steps.runge_kutta import Book, Rule, finish_torch
from sdekit_kernels.steps.slopes import device_numbers, flat_slopes, used_mask, used_weights
from sdekit_kernels.tracing import around_compiler, transformed

__all__ = ["rk_finish"]

_MOST_STEPS = (1 << 31) - 1


@around_compiler
def rk_finish(
    y: torch.Tensor,
    y_new: torch.Tensor,
    before: torch.Tensor,
    slopes: torch.Tensor,
    book: Book,
    rule: Rule,
    backend: str = "auto",
) -> None:
    """End an attempt of every running sample, in place; the formulas stand in ``runge_kutta``.

    Where the step is accepted, y becomes y_new, slopes[0] the last slope and the sample's time
    moves on; everywhere the book holds the next attempt. Elementwise arithmetic is in the state's
    type; sums, in an order that depends on n alone, and decisions are in float64.

    Args:
        y, y_new, before: (B, n), float32 or float64: the state, the last stage's and the one
            before that; before is read only if rule.stability > 0.
        slopes: (s, B, n), s = len(rule.error), the last at (t + dt, y_new).
        book: what each sample carries; overwritten.
        rule: what all samples share.
        backend: "auto", "numba", "triton" or "torch".

    Raises:
        TypeError: a type other than these.
        ValueError: shapes or devices that differ, what is written to is not contiguous, a rule
            that makes no sense, an unknown backend.
        RuntimeError: a backend asked for by name that cannot run; a gradient would be lost.
    """
    numbers, stops = rule_numbers(rule)
    if not finish_fits(y, y_new, before, slopes, book, rule):
        explain_finish(y, y_new, before, slopes, book, rule)
    backend = resolve_backend(backend, y.device).backend
    if y.numel() == 0:
        return
    if backend == "torch" or transformed():
        _run_torch(y, y_new, before, slopes, book, rule)
        return
    if torch.is_grad_enabled() and any(v.requires_grad for v in (y, y_new, slopes)):
        raise RuntimeError(
            "rk_finish overwrites its state, which would lose a gradient that is recorded: "
            "run it under torch.no_grad()"
        )
    y_new, before = y_new.contiguous(), before.contiguous()
    if backend == "numba":
        _run_numba(y, y_new, before, slopes, book, rule, numbers, stops)
    else:
        _run_triton(y, y_new, before, slopes, book, rule, numbers, stops)
    for written in (y, slopes):
        if not written.is_inference():
            # Autograd must see that a tensor which it may have saved was overwritten.
            torch.autograd.graph.increment_version(written)


def _run_torch(
    y: torch.Tensor,
    y_new: torch.Tensor,
    before: torch.Tensor,
    slopes: torch.Tensor,
    book: Book,
    rule: Rule,
) -> None:
    state, first, after, _ = finish_torch(y, y_new, before, slopes, book, rule)
    y.copy_(state)
    slopes[0].copy_(first)
    for old, new in zip(book, after, strict=True):
        old.copy_(new)


def _run_numba(
    y: torch.Tensor,
    y_new: torch.Tensor,
    before: torch.Tensor,
    slopes: torch.Tensor,
    book: Book,
    rule: Rule,
    numbers: Any,
    stops: Any,
) -> None:
    from sdekit_kernels._cpu.arrays import flat_array
    from sdekit_kernels._cpu.parallel import run_blocks
    from sdekit_kernels.steps._numba.runge_kutta import launch_finish

    n, dim = y.shape
    block = cpu_block(dim)
    run_blocks(
        launch_finish,
        -(-n // block.rows),
        2 * n * dim,
        flat_array(y),
        flat_array(y_new),
        flat_array(before),
        flat_slopes(slopes),
        slopes.stride(0),
        slopes.shape[0],
        *used_weights(rule.error, y.dtype),
        *[v.numpy() for v in book],
        numbers,
        stops,
        rule.split,
        rule.max_steps,
        n,
        dim,
        block.rows,
        block.cols,
    )


def gpu_tile(dim: int) -> tuple[int, int, int]:
    """(rows, width, warps) of a program, 2 to 4 elements a thread: the batch has no say in it.

    With four short rows a thread instead of two, or 16 warps on a long one, a program's numbers
    would not stay in registers.
    """
    width = 1 << (dim - 1).bit_length()
    return (max(1, 256 // width), width, 4) if width <= 512 else (1, 1024, 8)


def _run_triton(
    y: torch.Tensor,
    y_new: torch.Tensor,
    before: torch.Tensor,
    slopes: torch.Tensor,
    book: Book,
    rule: Rule,
    numbers: Any,
    stops: Any,
) -> None:
    from sdekit_kernels._gpu.launch import on_device
    from sdekit_kernels.steps._triton.runge_kutta import finish_kernel

    n, dim = y.shape
    rows, width, warps = gpu_tile(dim)
    shares = (1.0 / rule.split, 1.0 / max(dim - rule.split, 1))
    with on_device(y.device):
        finish_kernel[(-(-n // rows),)](
            y,
            y_new,
            before,
            slopes,
            slopes.stride(0),
            device_numbers(rule.error, y.device),
            *book,
            device_numbers((*numbers.tolist(), *shares, *rule.stops), y.device),
            len(rule.stops),
            rule.split,
            min(rule.max_steps, _MOST_STEPS),
            n,
            dim,
            COUNT=slopes.shape[0],
            USED=used_mask(rule.error),
            WATCHED=rule.stability > 0.0,
            ROWS=rows,
            WIDTH=width,
            F64=y.dtype == torch.float64,
            num_warps=warps,
            enable_fp_fusion=False,
        )
