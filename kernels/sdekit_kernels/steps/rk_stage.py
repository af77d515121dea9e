"""One stage of a Runge-Kutta step: slopes combined and added to the state, in one pass."""

from __future__ import annotations

import torch

from sdekit_kernels.checks import check_float_tensor, check_same_device
from sdekit_kernels.dispatch import resolve_backend
from sdekit_kernels.geometry import MAX_CALLS, cpu_block, magic_division
from sdekit_kernels.steps.affine import _writable
from sdekit_kernels.steps.rk_arguments import check_pair, check_slopes, check_state
from sdekit_kernels.steps.runge_kutta import stage_torch
from sdekit_kernels.steps.slopes import (
    device_numbers,
    flat_slopes,
    has_rows,
    used_mask,
    used_weights,
)
from sdekit_kernels.tracing import around_compiler, transformed

__all__ = ["rk_stage"]

_BLOCK = 1024
"""Elements a GPU program: 16 bytes at a time in float32, also where a warp has 64 threads."""


@around_compiler
def rk_stage(
    y: torch.Tensor,
    slopes: torch.Tensor,
    weights: tuple[float, ...],
    dt: torch.Tensor,
    out: torch.Tensor | None = None,
    backend: str = "auto",
) -> torch.Tensor:
    """y + dt sum_j weights[j] slopes[j], each sample with its own dt.

    Computed in the state's type with one rounding a term: fma(dt, fma(a_j, k_j, ...), y), the
    slopes in their order. Slopes of weight zero are not read.

    Args:
        y: state, shape (B, n), float32 or float64.
        slopes: (s, B, n) of y's type; the first len(weights) are looked at.
        weights: a row of the tableau, plain numbers.
        dt: signed steps in the time's unit, shape (B,), float64.
        out: where to write the result, (B, n); may be y itself. Not while a gradient is recorded.
        backend: "auto", "numba", "triton" or "torch".

    Raises:
        TypeError: a type other than these.
        ValueError: shapes or devices that differ, fewer slopes than weights, an unknown backend.
        RuntimeError: a backend asked for by name that cannot run here; out= with gradients.
    """
    if not _fits(y, slopes, weights, dt):
        _explain(y, slopes, weights, dt)
    if out is not None:
        check_pair("out", out, y)
    plain = transformed()
    record = torch.is_grad_enabled() and (
        y.requires_grad or slopes.requires_grad or dt.requires_grad
    )
    backend = resolve_backend(backend, y.device).backend
    if plain or record or backend == "torch":
        if (plain or record) and out is not None:
            raise RuntimeError(
                "out= cannot be written while a gradient is recorded or under a torch.func "
                "transform: leave it away, or run the stage under torch.no_grad()"
            )
        result = stage_torch(y, slopes, weights, dt)
        return result if out is None else out.copy_(result)
    source = y.contiguous()
    k = slopes if has_rows(slopes) else slopes[: len(weights)].contiguous()
    direct = out is not None and _writable(out, source, k, dt)
    target = out if out is not None and direct else torch.empty_like(source)
    if y.numel() > 0:
        run = _run_numba if backend == "numba" else _run_triton
        run(source, k, tuple(weights), dt.contiguous(), target)
    if out is None:
        return target
    if target is not out:
        return out.copy_(target)
    if not out.is_inference():
        # Autograd must see that a tensor which it may have saved was overwritten.
        torch.autograd.graph.increment_version(out)
    return out


def _fits(
    y: torch.Tensor, slopes: torch.Tensor, weights: tuple[float, ...], dt: torch.Tensor
) -> bool:
    """All that ``_explain`` asks, in a fifth of its time."""
    try:
        return (
            y.ndim == 2
            and y.dtype in (torch.float32, torch.float64)
            and slopes.dtype == y.dtype
            and slopes.ndim == 3
            and slopes.shape[1:] == y.shape
            and slopes.shape[0] >= len(weights)
            and dt.dtype == torch.float64
            and dt.shape == y.shape[:1]
            and y.device == slopes.device == dt.device
        )
    except AttributeError:
        return False


def _explain(
    y: torch.Tensor, slopes: torch.Tensor, weights: tuple[float, ...], dt: torch.Tensor
) -> None:
    """Raises the error of whatever does not fit."""
    check_state(y)
    check_slopes(slopes, y, len(weights))
    check_float_tensor("dt", dt)
    check_same_device("dt", dt, "y", y)
    if dt.dtype != torch.float64:
        raise TypeError(f"dt must be float64, got {dt.dtype}: write dt.double()")
    if dt.shape != y.shape[:1]:
        raise ValueError(
            f"dt has shape {tuple(dt.shape)}, but each of the {y.shape[0]} samples needs one step: "
            f"write dt.expand({y.shape[0]})"
        )


def _run_numba(
    y: torch.Tensor,
    slopes: torch.Tensor,
    weights: tuple[float, ...],
    dt: torch.Tensor,
    out: torch.Tensor,
) -> None:
    from sdekit_kernels._cpu.arrays import flat_array
    from sdekit_kernels._cpu.parallel import run_blocks
    from sdekit_kernels.steps._numba.runge_kutta import launch_stage

    n, dim = y.shape
    block = cpu_block(dim)
    run_blocks(
        launch_stage,
        block.count(n, dim),
        n * dim,
        flat_array(y),
        flat_slopes(slopes),
        slopes.stride(0),
        *used_weights(weights, y.dtype),
        flat_array(dt),
        flat_array(out),
        n,
        dim,
        block.rows,
        block.cols,
    )


def _run_triton(
    y: torch.Tensor,
    slopes: torch.Tensor,
    weights: tuple[float, ...],
    dt: torch.Tensor,
    out: torch.Tensor,
) -> None:
    from sdekit_kernels._gpu.launch import on_device
    from sdekit_kernels.steps._triton.runge_kutta import stage_kernel

    n, dim = y.shape
    magic, shift = magic_division(dim)
    rows = max(1, (MAX_CALLS - _BLOCK) // dim)
    numbers = device_numbers(weights or (0.0,), y.device)
    with on_device(y.device):
        for r0 in range(0, n, rows):
            part = y[r0 : r0 + rows]
            stage_kernel[(-(-part.numel() // _BLOCK),)](
                part,
                slopes[:, r0 : r0 + rows] if r0 else slopes,
                slopes.stride(0),
                numbers,
                dt[r0 : r0 + rows],
                out[r0 : r0 + rows],
                part.numel(),
                dim,
                magic,
                shift,
                COUNT=len(weights),
                USED=used_mask(weights),
                BLOCK=_BLOCK,
                F64=y.dtype == torch.float64,
                enable_fp_fusion=False,
            )
