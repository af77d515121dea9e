"""The one affine step behind every operation, its reference, its dispatch and its gradient.

    x_mean = a x + b s,    x_next = x_mean + C z,    C = c, or C = c sqrt|b| (``root``)

z is the normal of (seed, stream, sample, step, component). ``root`` serves Euler-Maruyama, where
b = dt and c = g: then g sqrt(dt) is formed in registers. Computed in float64 for float64 states, in
float32 for all others, and rounded once:

    x_mean = fma(b, s, a x),    x_next = fma(C, z, x_mean)

so that the CPU and the GPU give the same bits in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

from sdekit_kernels.dispatch import compute_dtype, resolve_backend
from sdekit_kernels.geometry import GPU_BLOCK, MAX_CALLS, gpu_tiling
from sdekit_kernels.philox.normal import Draw, normal
from sdekit_kernels.steps.coefficients import Coefficient, as_coefficient
from sdekit_kernels.tracing import transformed

__all__ = ["Affine", "affine_step", "affine_step_torch", "noise_like", "on_contiguous"]

View = torch.Tensor | float


class Affine(NamedTuple):
    """What an affine step does besides its tensors: whose noise, and which outputs."""

    draw: Draw
    root: bool
    want_mean: bool
    backend: str


def noise_like(x: torch.Tensor, draw: Draw, backend: str = "auto") -> torch.Tensor:
    """The z of a step on x, in the type it is computed in."""
    return normal(
        tuple(x.shape),
        seed=draw.seed,
        stream=draw.stream,
        step=draw.step,
        first_sample=draw.first_sample,
        dtype=compute_dtype(x.dtype),
        device=x.device,
        backend=backend,
    )


def affine_step_torch(
    x: torch.Tensor, s: torch.Tensor, a: View, b: View, c: View, z: torch.Tensor, root: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """(x_next, x_mean) in plain torch: the readable reference, differentiable."""
    compute = compute_dtype(x.dtype)
    mean = _up(a, compute) * x.to(compute) + _up(b, compute) * s.to(compute)
    c = _up(c, compute)
    if root:
        c = c * (b.to(compute).abs().sqrt() if isinstance(b, torch.Tensor) else abs(b) ** 0.5)
    return (mean + c * z).to(x.dtype), mean.to(x.dtype)


def _up(view: View, compute: torch.dtype) -> View:
    return view.to(compute) if isinstance(view, torch.Tensor) else view


def affine_step(
    x: torch.Tensor,
    s: torch.Tensor,
    a: View,
    b: View,
    c: View,
    how: Affine,
    out: torch.Tensor | None = None,
    mean_out: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """(x_next, x_mean) for checked arguments; x_mean is None where it is not wanted.

    Raises RuntimeError if ``out`` or ``mean_out`` is given while a gradient is asked for.
    """
    tensors = [v for v in (x, s, a, b, c) if isinstance(v, torch.Tensor)]
    plain = transformed()
    needs_grad = plain or (torch.is_grad_enabled() and any(v.requires_grad for v in tensors))
    if needs_grad and (out is not None or mean_out is not None):
        raise RuntimeError(
            "out= and mean_out= cannot be written while a gradient is recorded or under a "
            "torch.func transform: leave them away, or run the step under torch.no_grad()"
        )
    backend = resolve_backend(how.backend, x.device).backend
    if backend == "torch" or plain:
        z = noise_like(x, how.draw, backend)
        pair = affine_step_torch(x, s, a, b, c, z, how.root)
    elif needs_grad:
        pair = _AffineStep.apply(x, s, a, b, c, how._replace(want_mean=True, backend=backend))
    else:
        return _launch(x, s, a, b, c, how, backend, out, mean_out)
    x_next = pair[0] if out is None else out.copy_(pair[0])
    if not how.want_mean:
        return x_next, None
    return x_next, pair[1] if mean_out is None else mean_out.copy_(pair[1])


def _launch(
    x: torch.Tensor,
    s: torch.Tensor,
    a: View,
    b: View,
    c: View,
    how: Affine,
    backend: str,
    out: torch.Tensor | None,
    mean_out: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    root = how.root
    if root and not isinstance(b, torch.Tensor) and not isinstance(c, torch.Tensor):
        # Two numbers: one square root on the host, rounded as the kernel would round it.
        kind = np.float64 if x.dtype == torch.float64 else np.float32
        c, root = float(kind(c) * np.sqrt(np.abs(kind(b)))), False
    compute = compute_dtype(x.dtype)
    coefficients = [as_coefficient(v, x, compute) for v in (a, b, c)]
    if backend == "numba":
        from sdekit_kernels.steps._numba.run import run_affine as kernel
    else:
        kernel = _run_triton
    run = partial(kernel, coefficients=coefficients, root=root, draw=how.draw)
    read = [c.flat for c in coefficients if c.flat is not None]
    return on_contiguous(x, s, how.want_mean, out, mean_out, run, read)


def on_contiguous(
    x: torch.Tensor,
    s: torch.Tensor,
    want_mean: bool,
    out: torch.Tensor | None,
    mean_out: torch.Tensor | None,
    run: Callable[..., None],
    read: Sequence[torch.Tensor] = (),
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """``run(x, s, out=..., mean=...)`` on contiguous memory; (x_next, x_mean).

    A strided input is copied once before the kernel; an output that is strided, or that shares
    memory with what other blocks still have to read (``read``: what else the kernel reads), is
    written once after it.
    """
    source, force = x.detach().contiguous(), s.detach().contiguous()
    inputs = (source, force, *read)
    direct = out is not None and _writable(out, *inputs)
    target = out if out is not None and direct else torch.empty_like(source)
    mean: torch.Tensor | None = None
    if want_mean:
        direct = mean_out is not None and _writable(mean_out, *inputs, target)
        mean = mean_out if direct else torch.empty_like(source)
    if x.numel() > 0:
        run(source, force, out=target, mean=mean)
        for written in (target, mean):
            if written is not None and not written.is_inference():
                # Autograd must see that a tensor which it may have saved was overwritten.
                torch.autograd.graph.increment_version(written)
    if out is not None and target is not out:
        target = out.copy_(target)
    if mean_out is not None and mean is not None and mean is not mean_out:
        mean = mean_out.copy_(mean)
    return target, mean


def _writable(out: torch.Tensor, *inputs: torch.Tensor) -> bool:
    """Whether a kernel may write to ``out`` while it reads ``inputs``.

    A block is read whole before it is written, so an input may be ``out`` itself, element for
    element; any other view of the same memory may be read by another block, later.
    """
    memory = out.untyped_storage().data_ptr()
    return out.is_contiguous() and all(
        v.untyped_storage().data_ptr() != memory
        or (v.data_ptr() == out.data_ptr() and v.shape == out.shape and v.dtype == out.dtype)
        for v in inputs
    )


def _run_triton(
    x: torch.Tensor,
    s: torch.Tensor,
    *,
    coefficients: Sequence[Coefficient],
    root: bool,
    draw: Draw,
    out: torch.Tensor,
    mean: torch.Tensor | None,
    block: int = GPU_BLOCK,
) -> None:
    from sdekit_kernels._gpu.launch import on_device
    from sdekit_kernels.steps._triton.affine import affine_kernel

    n, dim = x.shape[0], x.numel() // x.shape[0]
    tiling = gpu_tiling(dim)
    rows = max(1, (MAX_CALLS - block) // tiling.per_row)
    with on_device(x.device):
        for r0 in range(0, n, rows):
            part = x[r0 : r0 + rows]
            calls = part.shape[0] * tiling.per_row
            arguments: list[Any] = []
            for c in coefficients:
                flat = part if c.flat is None else c.flat[r0 * c.stride_b :]
                arguments += [flat, c.number]
            first = draw.first_sample + r0
            affine_kernel[(-(-calls // block),)](
                part,
                s[r0 : r0 + rows],
                out[r0 : r0 + rows],
                part if mean is None else mean[r0 : r0 + rows],
                *arguments,
                calls,
                dim,
                tiling.per_row,
                tiling.magic,
                tiling.shift,
                first & 0xFFFFFFFF,
                first >> 32,
                draw.step,
                draw.key[0],
                draw.key[1],
                KIND_A=coefficients[0].kind,
                KIND_B=coefficients[1].kind,
                KIND_C=coefficients[2].kind,
                UNIT=coefficients[0].kind == 0 and coefficients[0].number == 1.0,
                ROOT=root,
                NOISY=coefficients[2].noisy,
                WANT_MEAN=mean is not None,
                LANES=tiling.lanes,
                ALIGNED=tiling.aligned,
                BLOCK=block,
                F64=x.dtype == torch.float64,
                enable_fp_fusion=False,
            )


class _AffineStep(torch.autograd.Function):
    """The kernel forwards; backwards plain torch with the same noise made again, not stored."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, s: torch.Tensor, a: View, b: View, c: View, how: Affine
    ) -> tuple[torch.Tensor, torch.Tensor]:
        views = (a, b, c)
        ctx.how = how
        ctx.numbers = [None if isinstance(v, torch.Tensor) else v for v in views]
        ctx.save_for_backward(x, s, *[v for v in views if isinstance(v, torch.Tensor)])
        x_next, mean = _launch(x, s, a, b, c, how, how.backend, None, None)
        assert mean is not None
        return x_next, mean

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        x, s, *tensors = ctx.saved_tensors
        compute = compute_dtype(x.dtype)
        left = iter(tensors)
        a, b, c = (next(left) if n is None else n for n in ctx.numbers)
        g_next = grads[0].to(compute)
        total = g_next + grads[1].to(compute)
        z = noise_like(x, ctx.how.draw)
        root_b = 1.0
        if ctx.how.root:
            root_b = b.to(compute).abs().sqrt() if isinstance(b, torch.Tensor) else abs(b) ** 0.5
        out: list[torch.Tensor | None] = [
            (total * _up(a, compute)).to(x.dtype) if ctx.needs_input_grad[0] else None,
            (total * _up(b, compute)).to(s.dtype) if ctx.needs_input_grad[1] else None,
            None,
            None,
            None,
            None,
        ]
        if ctx.needs_input_grad[2]:
            out[2] = (total * x.to(compute)).sum_to_size(a.shape).to(a.dtype)
        if ctx.needs_input_grad[3]:
            db = total * s.to(compute)
            if ctx.how.root:
                db = db + g_next * z * _up(c, compute) * (b.to(compute).sign() / (2 * root_b))
            out[3] = db.sum_to_size(b.shape).to(b.dtype)
        if ctx.needs_input_grad[4]:
            out[4] = (g_next * z * root_b).sum_to_size(c.shape).to(c.dtype)
        return tuple(out)
